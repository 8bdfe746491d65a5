//! The numbers that a client counts its connections by. They start at the time, and never go back within a process, though
//! its clock may: of two connections of one device the smaller number would stay away for good (R11). Called by the options
//! and the driver.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::now_millis;

/// The largest that any client of this process has used.
static LAST: AtomicU64 = AtomicU64::new(0);

/// For the first connection of a new client.
pub(super) fn first() -> u64 {
    above(&LAST, now_millis())
}

/// For the next connection of a client that has used `before`.
pub(super) fn after(before: u64) -> u64 {
    let next = before.saturating_add(1);
    LAST.fetch_max(next, Ordering::AcqRel);
    next
}

/// `now`, or one more than the last where the clock stands below that.
fn above(last: &AtomicU64, now: u64) -> u64 {
    let next = |last: u64| now.max(last.saturating_add(1));
    last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last))).map_or(now, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_makes_no_smaller_number() {
        let last = AtomicU64::new(0);
        assert_eq!([1_000, 400, 400, 5_000].map(|now| above(&last, now)), [1_000, 1_001, 1_002, 5_000]);
    }

    #[test]
    fn what_a_client_counted_up_to_is_behind_the_next_one() {
        let counted = after(first() + 1_000_000);
        assert!(first() > counted);
    }
}
