//! Whether heads need to be compared at all: the stamps of the user's inbox are read first, one row, and equal to those of
//! the last whole comparison they say that nothing changed (R12). Used by [`super::Delivery`].

use super::{At, Compare, Delivery, Out, rooms::Due};
use crate::{
    model::{Since, UserId},
    session::{Effect, Rules, Stamped, Tick},
};

/// What is remembered of comparisons. Small: every idle session has it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The stamps that were read *before* the heads of the last whole comparison, if they were clean. Stamps that are read
    /// after heads may speak of a message that those heads do not show.
    at: Option<Since>,
    /// Those of the comparison under way, if they are clean.
    next: Option<Since>,
    /// From then on the heads are compared whatever the stamps say.
    full_at: Tick,
    /// How long a whole comparison is good for; 0: not at all.
    full_every: Tick,
}

impl Delivery {
    /// What a session begins with. `since` is what its client was told by an earlier one: the stamps of a comparison up to
    /// which the device has everything. `phase`, 0 to 999, spreads the whole comparisons of many sessions, and their writes.
    pub fn begin(me: &UserId, rules: &Rules, since: Option<Since>, phase: u64, now: Tick) -> Self {
        let full_every = rules.full_reconcile * 3 / 4 + rules.full_reconcile * phase / 2_000;
        let seen = Seen { at: since, next: None, full_at: now + full_every, full_every };
        let room_coalesce = rules.room_ack_coalesce + rules.room_ack_coalesce * phase / 2_000;
        Self { seen, me: Some(me.clone()), room_coalesce, ..Self::default() }
    }

    /// The stamps were read. Where they say that nothing has changed since the last comparison, no direct conversation is
    /// compared, and the rooms are next.
    pub fn on_stamps(&mut self, stamps: Stamped, at: At<'_>, out: &mut Out) {
        if self.compare != Compare::Stamps {
            return;
        }
        self.roomless = !stamps.in_rooms;
        let now = stamps.clean.then_some(stamps.since);
        let is_known = now.is_some() && now == self.seen.at;
        if is_known && at.now < self.seen.full_at {
            out.push(Effect::CompareSkipped { cause: self.cause });
            self.begin_rooms(at, out);
            return self.resume_compare(at, out);
        }
        if at.now >= self.seen.full_at {
            self.rooms_due = self.rooms_due.max(Due::Listening);
        }
        self.seen.next = now;
        self.read_heads(None, out);
    }

    /// A comparison of direct conversations came to its end, with every page.
    pub(super) fn on_compared(&mut self, at: At<'_>) {
        self.seen.at = self.seen.next.take();
        self.seen.full_at = at.now + self.seen.full_every;
    }

    /// A page could not be read: what the stamps before it said is not known of all heads.
    pub(super) fn on_not_compared(&mut self) {
        self.seen.next = None;
    }

    /// For the client: the stamps of the last comparison, where every head of that moment is acknowledged and its cursor
    /// is stored. That stays so for good, because cursors never go back; only the stamps move on.
    pub fn since(&self) -> Option<Since> {
        let is_stored = |entry: &super::Conv| !entry.is_behind() && entry.position.is_some_and(|at| entry.stored >= at);
        // The stamps say nothing of rooms.
        let mut direct = self.convs.iter().filter(|(conv, _)| !conv.is_room());
        self.seen.at.filter(|_| direct.all(|(_, entry)| is_stored(entry)))
    }
}
