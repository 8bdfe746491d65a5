//! How long logins take that happen together: counted by the lanes of a storm and of users who come back to what they missed.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    plot::{Figure, Plot},
    report::{add_row, new_table},
    stats::{Latency, histogram, record},
};

/// Logins since a moment at which all were to come.
#[derive(Debug)]
pub(super) struct Logins {
    /// That moment, in nanoseconds since the start. Before it nothing is counted.
    since: Option<u64>,
    /// From it to `welcome`, and to `caught_up`: what a user sees, waits before a try included.
    welcome_after: Histogram<u64>,
    caught_up_after: Histogram<u64>,
    /// From the beginning of the try that succeeded: what the mesh takes.
    welcome_took: Histogram<u64>,
    caught_up_took: Histogram<u64>,
    /// When the last one was caught up.
    last: u64,
}

/// The same in a report.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct LoginFigures {
    pub(super) logins: u64,
    pub(super) logins_per_sec: f64,
    /// Until the last one was caught up.
    pub(super) secs: f64,
    pub(super) welcome_after: Latency,
    pub(super) caught_up_after: Latency,
    pub(super) welcome_took: Latency,
    pub(super) caught_up_took: Latency,
}

impl Logins {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            since: None,
            welcome_after: histogram()?,
            caught_up_after: histogram()?,
            welcome_took: histogram()?,
            caught_up_took: histogram()?,
            last: 0,
        })
    }

    /// From now on they count.
    pub(super) fn begin(&mut self, now: u64) {
        (self.since, self.last) = (Some(now), now);
    }

    /// `welcome` came, of a try that began at `began`.
    pub(super) fn on_welcome(&mut self, began: u64, now: u64) {
        if let Some(since) = self.since {
            record(&mut self.welcome_after, now.saturating_sub(since));
            record(&mut self.welcome_took, now.saturating_sub(began));
        }
    }

    /// And `caught_up`.
    pub(super) fn on_caught_up(&mut self, began: u64, now: u64) {
        if let Some(since) = self.since {
            record(&mut self.caught_up_after, now.saturating_sub(since));
            record(&mut self.caught_up_took, now.saturating_sub(began));
            self.last = now;
        }
    }

    pub(super) fn figures(&self) -> LoginFigures {
        let secs = self.last.saturating_sub(self.since.unwrap_or(self.last)) as f64 / 1e9;
        let logins = self.caught_up_after.len();
        LoginFigures {
            logins,
            logins_per_sec: if secs > 0.0 { (logins as f64 / secs * 10.0).round() / 10.0 } else { 0.0 },
            secs: (secs * 1000.0).round() / 1000.0,
            welcome_after: Latency::of(&self.welcome_after),
            caught_up_after: Latency::of(&self.caught_up_after),
            welcome_took: Latency::of(&self.welcome_took),
            caught_up_took: Latency::of(&self.caught_up_took),
        }
    }

    /// `since` says what they are counted from: "cut".
    pub(super) fn plot(&self, since: &str) -> Plot {
        let (welcome, caught_up) = (format!("{since} → welcome"), format!("{since} → caught up"));
        let lines = [
            (caught_up.as_str(), &self.caught_up_after),
            (welcome.as_str(), &self.welcome_after),
            ("connect → caught up", &self.caught_up_took),
        ];
        Plot::distribution("Logins, distribution", &lines)
    }
}

impl LoginFigures {
    pub(super) fn table(&self, since: &str) -> String {
        let mut table = new_table(&["", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
        let rows = [
            (format!("{since} → welcome"), self.welcome_after),
            (format!("{since} → caught up"), self.caught_up_after),
            ("connect → welcome".into(), self.welcome_took),
            ("connect → caught up".into(), self.caught_up_took),
        ];
        for (name, of) in rows {
            let figures = [of.p50_ms, of.p90_ms, of.p99_ms, of.max_ms].map(|ms| format!("{ms:.1}"));
            add_row(&mut table, [name].into_iter().chain(figures));
        }
        table.to_string()
    }

    pub(super) fn outline(&self, since: &str) -> Vec<Figure> {
        let Self { logins_per_sec, caught_up_after, welcome_after, caught_up_took, welcome_took, .. } = self;
        vec![
            Figure::more("logins", *logins_per_sec, "/s").main(),
            Figure::less(format!("{since} → caught up, p50"), caught_up_after.p50_ms, "ms").main(),
            Figure::less(format!("{since} → caught up, p99"), caught_up_after.p99_ms, "ms").main(),
            Figure::less(format!("{since} → caught up, max"), caught_up_after.max_ms, "ms"),
            Figure::less(format!("{since} → welcome, p50"), welcome_after.p50_ms, "ms"),
            Figure::less(format!("{since} → welcome, p99"), welcome_after.p99_ms, "ms"),
            Figure::less("connect → welcome, p99", welcome_took.p99_ms, "ms"),
            Figure::less("connect → caught up, p99", caught_up_took.p99_ms, "ms"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_count_from_the_moment_on_at_which_all_come() {
        let (mut logins, ms) = (Logins::new().unwrap(), 1_000_000);
        logins.on_welcome(0, 5 * ms);
        logins.on_caught_up(0, 6 * ms);
        logins.begin(1_000 * ms);
        logins.on_welcome(1_200 * ms, 1_210 * ms);
        logins.on_caught_up(1_200 * ms, 1_500 * ms);
        let figures = logins.figures();
        assert_eq!((figures.logins, figures.secs, figures.logins_per_sec), (1, 0.5, 2.0));
        let rounded = |of: Latency| of.max_ms.round() as u64;
        assert_eq!((rounded(figures.welcome_after), rounded(figures.caught_up_after)), (210, 500));
        assert_eq!((rounded(figures.welcome_took), rounded(figures.caught_up_took)), (10, 300));
    }
}
