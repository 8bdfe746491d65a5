//! The time in which the store is down: how long to wait between two attempts, and when to give up. Called by the
//! writer.

use std::time::{Duration, Instant};

use super::fault::{Fault, Outlook};

/// The first wait; each is up to twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A store that fails again within this time after it was opened has not recovered.
const SOUND_AFTER: Duration = Duration::from_secs(60);
/// After so many failures in a row whose reason the engine does not tell, it is taken for damage: a table that cannot be
/// read fails each time the engine's threads come to it.
const UNKNOWN_IN_A_ROW: u32 = 8;

/// The failures so far.
#[derive(Debug, Default)]
pub(super) struct Outages {
    waits: u32,
    unknown: u32,
    opened: Option<Instant>,
}

impl Outages {
    /// A write, or an attempt to open the store again, failed. True when another attempt makes sense.
    pub(super) fn may_pass(&mut self, fault: &Fault) -> bool {
        if self.opened.take().is_some_and(|opened| opened.elapsed() >= SOUND_AFTER) {
            (self.waits, self.unknown) = (0, 0);
        }
        if fault.outlook == Outlook::Unknown {
            self.unknown += 1;
        }
        fault.outlook != Outlook::Lasting && self.unknown < UNKNOWN_IN_A_ROW
    }

    /// The wait before the next attempt: between half and all of twice the last one, so that the stores of a machine
    /// whose disk was full do not all come at once.
    pub(super) fn wait(&mut self) -> Duration {
        let full = FIRST_WAIT.saturating_mul(1 << self.waits.min(16)).min(LONGEST_WAIT);
        self.waits = self.waits.saturating_add(1);
        full.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// The store is open again.
    pub(super) fn end(&mut self) {
        self.opened = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_also_over_failures_that_follow_each_other_at_once() {
        let mut outages = Outages::default();
        let full = Fault::from(fjall::Error::Io(std::io::Error::from_raw_os_error(libc::ENOSPC)));
        for n in 0..20 {
            assert!(outages.may_pass(&full), "a full disk may get room again, however often");
            let (wait, longest) = (outages.wait(), FIRST_WAIT.saturating_mul(1 << n.min(16)).min(LONGEST_WAIT));
            assert!(wait >= longest / 2 && wait <= longest, "{n}: {wait:?}");
            outages.end();
        }
    }

    #[test]
    fn what_fails_again_and_again_for_no_known_reason_stays_down() {
        let mut outages = Outages::default();
        let unknown = Fault::from(fjall::Error::Poisoned);
        let tries = std::iter::repeat_with(|| {
            outages.end();
            outages.may_pass(&unknown)
        });
        assert_eq!(tries.take_while(|again| *again).count() as u32, UNKNOWN_IN_A_ROW - 1);
        assert!(!Outages::default().may_pass(&Fault::lasting("EIO".into())));
    }
}
