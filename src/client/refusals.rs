//! When to repeat what has no answer and was refused for a while: acknowledgements and read marks. They are cumulative, so all
//! that may have been refused is said once more. No I/O. Called by the pump.

use tokio::time::{Duration, Instant};

use crate::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(10);
/// After so long without a refusal the waits start over.
const CALM: Duration = Duration::from_secs(30);

/// The refusals of late.
#[derive(Debug)]
pub(super) struct Refusals {
    backoff: Backoff,
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST, MOST), last: None, until: None }
    }
}

impl Refusals {
    /// Something was refused, and may be tried again after `wait` or more.
    pub(super) fn on_refused(&mut self, wait: Option<Duration>, now: Instant) {
        if self.last.is_none_or(|last| now.duration_since(last) > CALM) {
            self.backoff.reset();
        }
        self.last = Some(now);
        if self.until.is_none() {
            self.until = Some(now + self.backoff.next().max(wait.unwrap_or_default()));
        }
    }

    /// When there is something to repeat.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is time: true once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.until.is_some_and(|until| until <= now);
        if due {
            self.until = None;
        }
        due
    }

    /// A new connection repeats everything anyway.
    pub(super) fn on_connected(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_one_repetition_and_waits_grow() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let mut last = Duration::ZERO;
        for round in 0..6 {
            let at = now + Duration::from_secs(round);
            refusals.on_refused(None, at);
            let until = refusals.due().unwrap();
            refusals.on_refused(None, at);
            assert_eq!(refusals.due(), Some(until));
            assert!(!refusals.take_due(at) && refusals.take_due(until) && !refusals.take_due(until));
            assert!(until - at >= last / 2, "round {round}: {:?} after {last:?}", until - at);
            last = until - at;
        }
        assert!(last >= Duration::from_secs(3), "{last:?}");
        refusals.on_refused(Some(Duration::from_secs(60)), now + Duration::from_secs(9));
        assert!(refusals.due().unwrap() >= now + Duration::from_secs(69), "the node knows better");
    }
}
