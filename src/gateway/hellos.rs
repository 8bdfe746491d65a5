//! How often a user may say `hello`, over all connections to this node: each costs a token's check, a number from the
//! store and a fence, and one of a new device a row that stays. Called by [`super::greet`].

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
};

use governor::{Quota, RateLimiter, clock::DefaultClock, state::keyed::HashMapStateStore};

use crate::model::UserId;

/// Each device of a user may come back several times at once, as after a network that was away and came and went.
const BURST: NonZeroU32 = NonZeroU32::new(400).unwrap();
const PER_SEC: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// What a new device costs more than one that is known.
const NEW_DEVICE: u32 = 10;
/// After so many hellos, users who have not said one for a while are forgotten.
const FORGET_EVERY: usize = 4_096;

/// The hellos of all users of a node.
pub(super) struct Hellos {
    limiter: RateLimiter<UserId, HashMapStateStore<UserId>, DefaultClock>,
    seen: AtomicUsize,
}

impl Hellos {
    /// Nobody has said any.
    pub(super) fn new() -> Self {
        let quota = Quota::per_second(PER_SEC).allow_burst(BURST);
        Self { limiter: RateLimiter::hashmap(quota), seen: AtomicUsize::new(0) }
    }

    /// Counts a hello; false when it is one too many.
    pub(super) fn admit(&self, user: &UserId) -> bool {
        if self.seen.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(user).is_ok()
    }

    /// The hello that was counted was of a new device.
    pub(super) fn count_device(&self, user: &UserId) {
        // One by one: what is left may be less, and is gone then.
        (0..NEW_DEVICE).for_each(|_| drop(self.limiter.check_key(user)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_burst_and_new_devices_cost_more() {
        let (hellos, alice, bob) = (Hellos::new(), UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let burst = BURST.get() as usize;
        let passed = (0..burst * 2).filter(|_| hellos.admit(&alice)).count();
        // A few more come back while this runs.
        assert!((burst..burst + 50).contains(&passed), "{passed}");
        let devices = (0..burst).take_while(|_| {
            let admitted = hellos.admit(&bob);
            hellos.count_device(&bob);
            admitted
        });
        let (devices, most) = (devices.count(), burst / (NEW_DEVICE as usize + 1));
        assert!((most..most + 10).contains(&devices), "{devices}");
    }
}
