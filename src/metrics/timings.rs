//! How long things took, for quantiles over the last seconds: a histogram that costs one atomic add, read by whoever takes the
//! difference of two moments. Counted by [`super::Metrics`], read by `operators`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Each doubling of a microsecond has so many buckets: a quantile is at most an eighth too high.
const PER_DOUBLING: u32 = 8;
/// Up to 2^29 µs, about nine minutes; what took longer counts as that.
const BUCKETS: usize = 27 * PER_DOUBLING as usize;

/// Counts by how long it took.
#[derive(Debug)]
pub struct Timings(Box<[AtomicU64]>);

/// What had been counted at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted(Box<[u64]>);

impl Default for Timings {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Timings {
    /// One more.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// All until now.
    pub fn counted(&self) -> Counted {
        Counted(self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }
}

impl Counted {
    /// What came after an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, before)| now.saturating_sub(*before)).collect())
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time within which this part of them were done (0.99: all but one of a hundred); `None` where there was none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let place = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(upper(place)))
    }
}

/// Below [`PER_DOUBLING`] each value has its own; from there on the three bits after the highest one count.
fn bucket(micros: u64) -> usize {
    if micros < u64::from(PER_DOUBLING) {
        return micros as usize;
    }
    let doubling = micros.ilog2() - PER_DOUBLING.ilog2();
    let within = (micros >> doubling) as usize - PER_DOUBLING as usize;
    (((doubling + 1) * PER_DOUBLING) as usize + within).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (doubling, within) = (bucket as u64 / u64::from(PER_DOUBLING), bucket as u64 % u64::from(PER_DOUBLING));
    match doubling.checked_sub(1) {
        None => within,
        Some(doubling) => ((u64::from(PER_DOUBLING) + within + 1) << doubling) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_a_bucket_that_is_hardly_wider() {
        let mut last = 0;
        for micros in (0..5_000).chain((1..28).flat_map(|doubling| [(1 << doubling) - 1, 1 << doubling])) {
            let (place, most) = (bucket(micros), upper(bucket(micros)));
            assert!(most >= micros && most <= micros + micros / 8, "{micros} is in a bucket up to {most}");
            last = last.max(place);
        }
        assert!(last < BUCKETS && bucket(u64::MAX) == BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let timings = Timings::default();
        timings.record(Duration::from_secs(9));
        let before = timings.counted();
        assert_eq!(timings.counted().since(&before).quantile(0.5), None);
        (1..=100).for_each(|millis| timings.record(Duration::from_millis(millis)));
        let since = timings.counted().since(&before);
        assert_eq!(since.count(), 100);
        for (part, millis) in [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)] {
            let found = since.quantile(part).unwrap().as_micros();
            assert!((millis * 1_000..=millis * 1_125).contains(&found), "{part}: {found} µs");
        }
    }
}
