//! A rate with a burst, which may be overdrawn: what turns out to cost more than was taken is owed. Used by
//! [`super::lines`] for rows and by [`super::pace`] for requests.

use super::Tick;

/// Kept in thousandths, so that a millisecond at one a second is one of them.
const WHOLE: i64 = 1_000;

/// A rate per second, and what is left of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    per_sec: i64,
    burst: i64,
    left: i64,
    at: Tick,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(per_sec: u32, burst: u32, now: Tick) -> Self {
        let burst = i64::from(burst.max(1)) * WHOLE;
        Self { per_sec: i64::from(per_sec.max(1)), burst, left: burst, at: now }
    }

    /// Another rate from now on.
    pub(super) fn set_rate(&mut self, per_sec: u32, burst: u32, now: Tick) {
        self.refill(now);
        self.per_sec = i64::from(per_sec.max(1));
        self.burst = i64::from(burst.max(1)) * WHOLE;
        self.left = self.left.min(self.burst);
    }

    /// How long until `cost` may start, in milliseconds. What is more than the burst waits for a full bucket.
    pub(super) fn wait(&mut self, cost: u64, now: Tick) -> Tick {
        self.refill(now);
        let missing = thousandths(cost).min(self.burst) - self.left;
        if missing <= 0 { 0 } else { missing.unsigned_abs().div_ceil(self.per_sec.unsigned_abs()) }
    }

    /// Takes the cost, whether it is there or not.
    pub(super) fn take(&mut self, cost: u64, now: Tick) {
        self.refill(now);
        self.left = self.left.saturating_sub(thousandths(cost));
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&mut self, cost: u64, now: Tick) {
        self.refill(now);
        self.left = self.left.saturating_add(thousandths(cost)).min(self.burst);
    }

    fn refill(&mut self, now: Tick) {
        let passed = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.at = self.at.max(now);
        self.left = self.left.saturating_add(passed.saturating_mul(self.per_sec)).min(self.burst);
    }
}

fn thousandths(cost: u64) -> i64 {
    i64::try_from(cost).unwrap_or(i64::MAX).saturating_mul(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_underestimated_is_owed_and_what_was_not_used_comes_back() {
        let mut bucket = Bucket::full(100, 10, 5);
        assert_eq!(bucket.wait(10, 5), 0);
        bucket.take(10, 5);
        assert_eq!((bucket.wait(1, 5), bucket.wait(1, 14), bucket.wait(1, 15)), (10, 1, 0));
        bucket.take(20, 15);
        assert_eq!(bucket.wait(1, 15), 200, "19 are owed, and one more is wanted");
        bucket.give_back(20, 15);
        assert_eq!(bucket.wait(1, 15), 0);
        assert_eq!(bucket.wait(1_000, 10_000), 0, "more than the burst may start when the bucket is full");
    }
}
