//! Whether the store answers this process. A home that it does not answer cannot append, and keeps others from it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// An effect that takes longer than this is a sign that the store does not answer.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// How long the process counts as stuck after the last sign.
const AFTER: Duration = Duration::from_secs(1);

/// Times in milliseconds since `begun`, plus one; 0 for never.
#[derive(Debug)]
pub(super) struct Pulse {
    begun: Instant,
    answered: AtomicU64,
    stalled: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), answered: AtomicU64::new(0), stalled: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The store answered.
    pub(super) fn on_answer(&self) {
        self.answered.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// The store did not answer for [`SLOW`].
    pub(super) fn on_stall(&self) {
        self.stalled.fetch_max(self.now(), Ordering::Relaxed);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck_at(self.now())
    }

    fn is_stuck_at(&self, now: u64) -> bool {
        let (answered, stalled) = (self.answered.load(Ordering::Relaxed), self.stalled.load(Ordering::Relaxed));
        let lately = now.saturating_sub(stalled) < u64::try_from(AFTER.as_millis()).unwrap_or(u64::MAX);
        stalled > 0 && (stalled >= answered || lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuck_until_a_while_after_the_store_answers_again() {
        let pulse = Pulse::new();
        assert!(!pulse.is_stuck_at(5_000), "nothing is known");
        pulse.answered.store(1_000, Ordering::Relaxed);
        pulse.stalled.store(3_000, Ordering::Relaxed);
        assert!(pulse.is_stuck_at(3_001) && pulse.is_stuck_at(60_000));
        pulse.answered.store(3_500, Ordering::Relaxed);
        assert!(pulse.is_stuck_at(3_900), "it has only just come back");
        assert!(!pulse.is_stuck_at(4_000));
    }
}
