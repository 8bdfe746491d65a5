//! How long to wait before trying again: longer each time, and by chance, so that those who failed together do not come back
//! together. Used by whatever tries again, in the client and in a node.

use std::time::Duration;

/// Grows from `first` to `most`, with jitter so that the clients of a dead node do not all come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The next wait: between half and all of `first`·2^tries, at most `most`.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next();
            assert!(wait >= ms(full / 2) && wait <= ms(full), "{wait:?} of {full}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= ms(1000));
        }
        backoff.reset();
        assert!(backoff.next() <= ms(100));
    }
}
