//! What was counted during a run. Called by the lanes; read by the report.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// The longest latency that is recorded, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;

/// Counters of one run.
#[derive(Debug)]
pub(super) struct Stats {
    /// From due to received, in microseconds, for messages due in the measured time.
    pub(super) received: Histogram<u64>,
    /// From due to answered.
    pub(super) answered: Histogram<u64>,
    /// Received in the measured time.
    pub(super) delivered: u64,
    /// Answered in the measured time.
    pub(super) sent: u64,
    /// The same over the whole run, for its course.
    pub(super) all_delivered: u64,
    pub(super) all_sent: u64,
    /// When the last one was received, in nanoseconds since the start.
    pub(super) last_delivered: u64,
    /// From due to received, of all messages since the course was noted last.
    pub(super) recent: Histogram<u64>,
    /// Over the whole run, the warm-up included.
    pub(super) integrity: Integrity,
    pub(super) errors: BTreeMap<String, u64>,
}

/// What must be zero. Counted over the whole run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Integrity {
    /// Answered `sent` and never received.
    pub(super) lost: u64,
    /// One message at two places in the log, or twice on one connection.
    pub(super) duplicated: u64,
    /// A session skipped a seq.
    pub(super) out_of_order: u64,
}

impl Stats {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            received: histogram()?,
            answered: histogram()?,
            delivered: 0,
            sent: 0,
            all_delivered: 0,
            all_sent: 0,
            last_delivered: 0,
            recent: histogram()?,
            integrity: Integrity::default(),
            errors: BTreeMap::new(),
        })
    }

    pub(super) fn error(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }
}

/// For latencies of up to ten minutes.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

/// Records nanoseconds as microseconds.
pub(super) fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record((nanos / 1000).max(1));
}

/// The percentiles of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p99_9_ms: f64,
    pub(super) max_ms: f64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// Per second.
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    (count as f64 / time.as_secs_f64() * 10.0).round() / 10.0
}
