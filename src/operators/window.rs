//! What happened in the last seconds: samples of a few counters every two seconds, and the difference to the oldest of
//! them. Taken by a task of [`super::Operators`].

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::wire::{Quantiles, Recent};
use crate::metrics::{DeliveryPath, Label as _, Metrics, timings::Counted};

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(2);
/// Samples that are kept: figures are of the last ten to twelve seconds.
const KEPT: usize = 6;

#[derive(Debug)]
struct Sample {
    at: Instant,
    stored: u64,
    handed: u64,
    append: Counted,
    delivery: Counted,
}

impl Sample {
    fn of(metrics: &Metrics) -> Self {
        Self {
            at: Instant::now(),
            stored: metrics.appended.get(),
            handed: DeliveryPath::ALL.iter().map(|path| metrics.delivered.of(*path).get()).sum(),
            append: metrics.append_times.counted(),
            delivery: metrics.delivery_times.counted(),
        }
    }

    fn since(&self, earlier: &Self) -> Recent {
        let secs = self.at.saturating_duration_since(earlier.at).as_secs_f64().max(0.001);
        Recent {
            secs,
            stored_per_sec: (self.stored - earlier.stored) as f64 / secs,
            handed_per_sec: (self.handed - earlier.handed) as f64 / secs,
            append: quantiles(&self.append.since(&earlier.append)),
            delivery: quantiles(&self.delivery.since(&earlier.delivery)),
        }
    }
}

fn quantiles(counted: &Counted) -> Quantiles {
    let millis = |part| counted.quantile(part).map(|time| time.as_secs_f64() * 1_000.0);
    Quantiles { p50_ms: millis(0.5), p99_ms: millis(0.99) }
}

/// The samples of a node, the oldest first. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Windows(Arc<Mutex<VecDeque<Sample>>>);

impl Windows {
    /// With a first sample.
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Mutex::new([Sample::of(metrics)].into())))
    }

    /// Takes samples for as long as it is polled.
    pub(super) async fn sample_always(&self, metrics: &Metrics) {
        loop {
            sleep(EVERY).await;
            let mut samples = self.0.lock();
            if samples.len() >= KEPT {
                samples.pop_front();
            }
            samples.push_back(Sample::of(metrics));
        }
    }

    /// From the oldest sample until now.
    pub(super) fn recent(&self, metrics: &Metrics) -> Recent {
        let now = Sample::of(metrics);
        self.0.lock().front().map(|oldest| now.since(oldest)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_what_came_since_the_oldest_sample() {
        let metrics = Metrics::new("n1");
        metrics.appended.inc_by(100);
        let windows = Windows::new(&metrics);
        let of = |windows: &Windows| windows.recent(&metrics);
        assert_eq!((of(&windows).stored_per_sec, of(&windows).append), (0.0, Quantiles::default()));
        metrics.appended.inc_by(7);
        metrics.delivered.of(DeliveryPath::Bus).inc_by(3);
        metrics.observe_append(Duration::from_millis(4));
        metrics.observe_delivery(1_000, 1_005);
        metrics.observe_delivery(0, 1_005);
        let recent = of(&windows);
        let count = |per_sec: f64| (per_sec * recent.secs).round();
        assert_eq!((count(recent.stored_per_sec), count(recent.handed_per_sec)), (7.0, 3.0));
        assert!(recent.append.p50_ms.is_some_and(|millis| (4.0..4.6).contains(&millis)), "{recent:?}");
        assert!(recent.delivery.p99_ms.is_some_and(|millis| (5.0..5.7).contains(&millis)), "{recent:?}");
    }
}
