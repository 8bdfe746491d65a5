//! How many requests a client may make: a token bucket on the session's own clock, 16 bytes a session. Used by
//! [`super::gate`].

use super::Tick;

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub per_sec: u32,
    /// At once.
    pub burst: u32,
}

/// Tokens are counted in thousandths, so that a millisecond at one a second is one of them.
const TOKEN: u64 = 1_000;

/// What a session has left of its [`Rate`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: u64,
    at: Tick,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(rate: Rate, now: Tick) -> Self {
        Self { left: u64::from(rate.burst) * TOKEN, at: now }
    }

    /// How long until there is one, in milliseconds.
    pub(super) fn wait(&self, rate: Rate, now: Tick) -> Tick {
        let missing = TOKEN.saturating_sub(self.after(rate, now));
        missing.div_ceil(u64::from(rate.per_sec).max(1))
    }

    /// What is left at `now`.
    fn after(&self, rate: Rate, now: Tick) -> u64 {
        let gained = now.saturating_sub(self.at).saturating_mul(u64::from(rate.per_sec));
        self.left.saturating_add(gained).min(u64::from(rate.burst) * TOKEN)
    }

    /// Takes one; `false` when there is none.
    pub(super) fn take(&mut self, rate: Rate, now: Tick) -> bool {
        (self.left, self.at) = (self.after(rate, now), now);
        let enough = self.left >= TOKEN;
        if enough {
            self.left -= TOKEN;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate { per_sec: 10, burst: 3 };
        let mut bucket = Bucket::full(rate, 5);
        assert!((0..3).all(|_| bucket.take(rate, 5)));
        assert_eq!((bucket.wait(rate, 5), bucket.wait(rate, 104), bucket.wait(rate, 500)), (100, 1, 0));
        assert!(!bucket.take(rate, 104), "99 ms are not enough for one of ten a second");
        assert!(bucket.take(rate, 105));
        assert!(!bucket.take(rate, 105));
        assert_eq!((0..10).filter(|_| bucket.take(rate, 1_000_000)).count(), 3, "no more than the burst is saved up");
    }
}
