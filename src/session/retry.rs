//! How long to wait before something that failed is tried again: longer each time, and at random, so that the sessions of
//! a node do not come back at the same moment after an outage. Used by [`super::Session`].

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use super::Tick;

/// The first wait is at most this long, in milliseconds, and each one after it at most twice as long …
const FIRST: Tick = 1_000;
/// … up to this.
const LONGEST: Tick = 60_000;

/// Waits with full jitter: anything between nothing and the most that the number of failures allows.
#[derive(Debug)]
pub(super) struct Retry {
    /// Random, and another one for each session: a session has no source of chance of its own.
    seed: u64,
    failures: u32,
}

impl Retry {
    /// Nothing failed yet. `of` is something random.
    pub(super) fn new(of: impl Hash) -> Self {
        Self { seed: BuildHasherDefault::<DefaultHasher>::default().hash_one(of), failures: 0 }
    }

    /// It failed: how long to wait.
    pub(super) fn after_failure(&mut self) -> Tick {
        let most = most(self.failures);
        self.failures += 1;
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.seed, self.failures)) % (most + 1)
    }

    /// It was done: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        // Another seed, or the waits of the next outage would be those of this one.
        *self = Self::new((self.seed, self.failures));
    }
}

/// The longest wait after so many failures before.
fn most(failures: u32) -> Tick {
    (FIRST << failures.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_are_spread() {
        let mut sums = [0; 10];
        for session in 0..1_000 {
            let mut retry = Retry::new(session);
            for (failures, sum) in (0..).zip(&mut sums) {
                let wait = retry.after_failure();
                assert!(wait <= most(failures) && wait <= LONGEST, "{wait} after {failures}");
                *sum += wait;
            }
        }
        for (failures, sum) in (0..).zip(sums) {
            let (mean, middle) = (sum / 1_000, most(failures) / 2);
            assert!(mean > middle * 9 / 10 && mean < middle * 11 / 10, "{mean} after {failures}: half is {middle}");
        }
        assert_eq!((most(0), most(3), most(6), most(60)), (FIRST, 8 * FIRST, LONGEST, LONGEST));
    }

    #[test]
    fn what_was_done_starts_anew() {
        let mut retry = Retry::new(1);
        for _ in 0..20 {
            retry.after_failure();
        }
        retry.reset();
        assert!(retry.after_failure() <= FIRST);
    }
}
