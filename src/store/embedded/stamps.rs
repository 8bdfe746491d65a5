//! Whether a user's heads may have changed since somebody looked: counters in memory, which grow after a commit is visible
//! and before it is answered. Users share them by hash, so a change of one may make another one look again; and they begin
//! anew with each start of the process, which no earlier value equals.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use compact_str::format_compact;

use crate::{model::UserId, store::Stamps};

/// Half a megabyte, whatever the number of users.
const COUNTERS: usize = 65_536;

/// The counters of one store.
pub(super) struct Counters {
    life: AtomicU64,
    hasher: RandomState,
    counters: Box<[AtomicU64]>,
}

impl Default for Counters {
    fn default() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self { life: AtomicU64::new(rand::random()), hasher: RandomState::new(), counters }
    }
}

impl Counters {
    fn counter(&self, user: &UserId) -> &AtomicU64 {
        &self.counters[(self.hasher.hash_one(user) % COUNTERS as u64) as usize]
    }

    /// Heads of the user have changed, and everybody can see it.
    pub(super) fn changed(&self, user: &UserId) {
        self.counter(user).fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing that was counted before is equal to what is counted from now on.
    pub(super) fn begin_anew(&self) {
        self.life.store(rand::random(), Ordering::Release);
    }

    /// As they are now.
    pub(super) fn of(&self, user: &UserId) -> Stamps {
        let count = self.counter(user).load(Ordering::Acquire);
        let life = self.life.load(Ordering::Acquire);
        Stamps { value: format_compact!("{life:x}.{count:x}"), clean: true, retired: false, in_rooms: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_and_nothing_of_a_former_life_is_equal() {
        let (counters, alice) = (Counters::default(), UserId::new("alice").unwrap());
        let before = counters.of(&alice);
        assert_eq!(before, counters.of(&alice));
        counters.changed(&alice);
        assert_ne!(before, counters.of(&alice));
        assert_ne!(before, Counters::default().of(&alice));
        let before = counters.of(&alice);
        counters.begin_anew();
        assert_ne!(before, counters.of(&alice));
    }
}
