//! How much a client may ask for: a token bucket on the session's own clock, 16 bytes a session. Used by
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

    /// How long until a price can be paid, in milliseconds.
    pub(super) fn wait(&self, rate: Rate, price: u32, now: Tick) -> Tick {
        let missing = tokens(rate, price).saturating_sub(self.after(rate, now));
        missing.div_ceil(u64::from(rate.per_sec).max(1))
    }

    /// What is left at `now`.
    fn after(&self, rate: Rate, now: Tick) -> u64 {
        let gained = now.saturating_sub(self.at).saturating_mul(u64::from(rate.per_sec));
        self.left.saturating_add(gained).min(u64::from(rate.burst) * TOKEN)
    }

    /// Takes a price; `false`, and nothing is taken, when there is less left.
    pub(super) fn take(&mut self, rate: Rate, price: u32, now: Tick) -> bool {
        (self.left, self.at) = (self.after(rate, now), now);
        let price = tokens(rate, price);
        let enough = self.left >= price;
        if enough {
            self.left -= price;
        }
        enough
    }

    /// Takes a price as far as there is something left.
    pub(super) fn fine(&mut self, rate: Rate, price: u32, now: Tick) {
        (self.left, self.at) = (self.after(rate, now).saturating_sub(tokens(rate, price)), now);
    }
}

/// What costs more than the burst can be had for all of it.
fn tokens(rate: Rate, price: u32) -> u64 {
    u64::from(price.min(rate.burst)) * TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate { per_sec: 10, burst: 3 };
        let mut bucket = Bucket::full(rate, 5);
        assert!((0..3).all(|_| bucket.take(rate, 1, 5)));
        assert_eq!((bucket.wait(rate, 1, 5), bucket.wait(rate, 1, 104), bucket.wait(rate, 1, 500)), (100, 1, 0));
        assert!(!bucket.take(rate, 1, 104), "99 ms are not enough for one of ten a second");
        assert!(bucket.take(rate, 1, 105));
        assert!(!bucket.take(rate, 1, 105));
        assert_eq!(
            (0..10).filter(|_| bucket.take(rate, 1, 1_000_000)).count(),
            3,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn what_costs_more_waits_longer_and_never_for_ever() {
        let rate = Rate { per_sec: 10, burst: 3 };
        let mut bucket = Bucket::full(rate, 0);
        assert!(bucket.take(rate, 2, 0) && !bucket.take(rate, 2, 0));
        assert_eq!((bucket.wait(rate, 2, 0), bucket.wait(rate, 35, 0)), (100, 200));
        assert!(!bucket.take(rate, 35, 199) && bucket.take(rate, 35, 200), "more than the burst is all of it");
        bucket.fine(rate, 35, 10_000);
        assert_eq!(bucket.wait(rate, 1, 10_000), 100);
        bucket.fine(rate, 35, 10_050);
        assert_eq!(bucket.wait(rate, 1, 10_050), 100, "nobody owes more than there was");
    }
}
