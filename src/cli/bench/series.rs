//! The course of a run: rates and latencies, and what the processes used, every half second or so. Filled by the rounds of a run;
//! read by the reports.

use std::time::Duration;

use super::{
    plot::{Axis, Line, Plot},
    processes::{self, Processes, Sample},
    stats::{Latency, Stats},
};

/// Points at least so far apart, and no more of them in a run that is known to be long.
const CLOSEST: Duration = Duration::from_millis(500);
const POINTS: u32 = 240;
/// A run of unknown length keeps no more than these: an hour.
const MOST: usize = 7_200;

/// What the processes, and the bench itself, used over time.
#[derive(Debug, Default)]
pub(super) struct UseOverTime {
    samples: Vec<(f64, Vec<Sample>)>,
}

impl UseOverTime {
    /// Looks at them, `secs` after the start.
    pub(super) fn look(&mut self, secs: f64, processes: &Processes) {
        if self.samples.len() < MOST {
            let own = processes::own().map(|own| Sample { name: "the bench".into(), ..own });
            self.samples.push((secs, processes.sample().into_iter().chain(own).collect()));
        }
    }

    /// CPU and memory.
    pub(super) fn plots(&self) -> Vec<Plot> {
        let Some((_, first)) = self.samples.first() else { return Vec::new() };
        let name = |of: &Sample| match first.iter().filter(|other| other.name == of.name).count() {
            1 => of.name.clone(),
            _ => format!("{} {}", of.name, of.pid),
        };
        let lines = |points: fn(&Self, u32) -> Vec<(f64, f64)>| {
            first.iter().map(|of| Line { name: name(of), points: points(self, of.pid) }).collect()
        };
        vec![
            Plot::over_time("CPU", Axis::linear("cores"), lines(Self::cores)),
            Plot::over_time("Memory", Axis::linear("MB"), lines(Self::memory)),
        ]
    }

    fn of(&self, pid: u32) -> Vec<(f64, &Sample)> {
        self.samples.iter().filter_map(|(at, all)| Some((*at, all.iter().find(|of| of.pid == pid)?))).collect()
    }

    fn cores(&self, pid: u32) -> Vec<(f64, f64)> {
        let between = |pair: &[(f64, &Sample)]| {
            let time = pair[1].0 - pair[0].0;
            (pair[1].0, pair[1].1.cpu.saturating_sub(pair[0].1.cpu).as_secs_f64() / time.max(1e-3))
        };
        self.of(pid).windows(2).map(between).collect()
    }

    fn memory(&self, pid: u32) -> Vec<(f64, f64)> {
        self.of(pid).into_iter().map(|(at, of)| (at, of.rss_bytes as f64 / 1e6)).collect()
    }
}

/// One stretch of a run with messages.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: f64,
    sent: f64,
    delivered: f64,
    latency: Option<Latency>,
}

/// The course of a run with messages.
#[derive(Debug)]
pub(super) struct Series {
    every: Duration,
    /// Where the last stretch ended: when, and what had been sent and delivered by then.
    last: Option<(Duration, u64, u64)>,
    points: Vec<Point>,
    used: UseOverTime,
}

impl Series {
    /// For a run that takes so long, as far as that is known.
    pub(super) fn new(length: Duration) -> Self {
        Self { every: CLOSEST.max(length / POINTS), last: None, points: Vec::new(), used: UseOverTime::default() }
    }

    /// Notes a stretch when one is over. `now` counts from the start of sending.
    pub(super) fn note(&mut self, now: Duration, stats: &mut Stats, processes: &Processes) {
        let Some((since, sent, delivered)) = self.last else {
            self.last = Some((now, stats.all_sent, stats.all_delivered));
            stats.recent.reset();
            return self.used.look(now.as_secs_f64(), processes);
        };
        let time = now.saturating_sub(since);
        if time < self.every || self.points.len() >= MOST {
            return;
        }
        let rate = |now: u64, before: u64| (now - before) as f64 / time.as_secs_f64();
        self.points.push(Point {
            at: now.as_secs_f64(),
            sent: rate(stats.all_sent, sent),
            delivered: rate(stats.all_delivered, delivered),
            latency: (!stats.recent.is_empty()).then(|| Latency::of(&stats.recent)),
        });
        self.last = Some((now, stats.all_sent, stats.all_delivered));
        stats.recent.reset();
        self.used.look(now.as_secs_f64(), processes);
    }

    /// Messages per second.
    pub(super) fn rates(&self) -> Plot {
        let lines =
            vec![self.line("delivered", |point| Some(point.delivered)), self.line("sent", |point| Some(point.sent))];
        Plot::over_time("Rate", Axis::linear("messages/s"), lines)
    }

    /// Of the messages of each stretch.
    pub(super) fn latencies(&self) -> Plot {
        let lines = vec![
            self.line("p99", |point| Some(point.latency?.p99_ms)),
            self.line("p50", |point| Some(point.latency?.p50_ms)),
        ];
        Plot::over_time("Latency, send → receive", Axis::log("ms"), lines)
    }

    /// CPU and memory.
    pub(super) fn used(&self) -> Vec<Plot> {
        self.used.plots()
    }

    fn line(&self, name: &str, of: impl Fn(&Point) -> Option<f64>) -> Line {
        let points = self.points.iter().filter_map(|point| Some((point.at, of(point)?))).collect();
        Line { name: name.into(), points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::stats::record;

    #[test]
    fn stretches_are_rates_and_their_own_latencies() {
        let (mut series, mut stats) = (Series::new(Duration::from_secs(1)), Stats::new().unwrap());
        let processes = Processes::new(&[], None).unwrap();
        for half in 0..4u64 {
            series.note(Duration::from_millis(half * 500), &mut stats, &processes);
            stats.all_sent += 50;
            stats.all_delivered += 40 * (half + 1);
            record(&mut stats.recent, (half + 1) * 1_000_000);
        }
        let (rate, latency, used) = (series.rates(), series.latencies(), series.used());
        let [cpu, memory] = &used[..] else { panic!("{used:?}") };
        assert_eq!(rate.lines[0].points, [(0.5, 80.0), (1.0, 160.0), (1.5, 240.0)]);
        assert_eq!(rate.lines[1].points, [(0.5, 100.0), (1.0, 100.0), (1.5, 100.0)]);
        let p50: Vec<f64> = latency.lines[1].points.iter().map(|(_, ms)| ms.round()).collect();
        assert_eq!(p50, [1.0, 2.0, 3.0], "each stretch has its own");
        assert_eq!((cpu.lines[0].name.as_str(), cpu.lines[0].points.len()), ("the bench", 3));
        assert!(memory.lines[0].points.iter().all(|(_, mb)| *mb > 0.1));
    }
}
