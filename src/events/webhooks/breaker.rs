//! When a target is left alone: after several failures in a row it is not asked for a while, then once, and again only after a
//! longer while, until that one succeeds. No I/O and no clock. Kept by [`super::target`].

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Failures in a row after which a target is left alone.
pub(super) const FAILURES: u32 = 5;
/// How long, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// While somebody tries, the others look again after so long.
const GLANCE: Duration = Duration::from_millis(100);

/// The state of one target.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    /// Left alone until then.
    open: Option<Instant>,
    trying: bool,
    pause: Backoff,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, open: None, trying: false, pause: Backoff::new(PAUSES.0, PAUSES.1) }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it may be asked now; if not, when to look again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        match self.open {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) if self.trying => Err(now + GLANCE),
            Some(_) => {
                self.trying = true;
                Ok(())
            }
        }
    }

    pub(super) fn on_success(&mut self) {
        *self = Self::new();
    }

    pub(super) fn on_failure(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        // Those that were under way when it opened say nothing new.
        if self.trying || (self.failures >= FAILURES && self.open.is_none()) {
            self.open = Some(now + self.pause.next());
            self.trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_fails_is_left_alone_and_tried_once() {
        let (start, mut breaker) = (Instant::now(), Breaker::new());
        for _ in 1..FAILURES {
            breaker.on_failure(start);
            assert_eq!(breaker.admit(start), Ok(()));
        }
        breaker.on_failure(start);
        assert!(breaker.is_open());
        let until = breaker.admit(start).unwrap_err();
        assert!(until > start && until <= start + PAUSES.0);
        breaker.on_failure(start);
        assert_eq!(breaker.admit(start), Err(until), "one that was under way does not prolong it");
        assert_eq!(breaker.admit(until), Ok(()));
        assert_eq!(breaker.admit(until), Err(until + GLANCE), "one tries, the others wait");
        breaker.on_failure(until);
        let later = breaker.admit(until).unwrap_err();
        assert!(later >= until + PAUSES.0 && breaker.is_open(), "longer than before");
        assert_eq!(breaker.admit(later), Ok(()));
        breaker.on_success();
        assert!(!breaker.is_open());
        assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (now, mut breaker) = (Instant::now(), Breaker::new());
        for _ in 0..3 {
            (1..FAILURES).for_each(|_| breaker.on_failure(now));
            breaker.on_success();
        }
        assert!(!breaker.is_open());
    }
}
