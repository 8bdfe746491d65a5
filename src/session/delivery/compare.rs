//! Comparing heads with cursors, page by page: at the start, whenever the bus may have lost notices, and slowly all the time.

use super::{At, Conv, Delivery, Out, rooms::Due};
use crate::{
    model::{ConvId, Gap},
    session::{Cause, Effect, GAPS, Upkeep, Urgency},
};

/// How far a comparison of heads has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compare {
    /// None under way.
    Idle,
    /// The stamps are being read.
    Stamps,
    /// A page is being read.
    Reading,
    /// The next page waits until fewer conversations are behind, so that memory stays bounded.
    Holding {
        /// Where it starts.
        next: ConvId,
        /// Few were behind on the page before.
        sparse: bool,
    },
    /// A page of rooms is being read: they come after the direct conversations.
    Rooms,
    /// The next page of rooms waits, as [`Compare::Holding`].
    HoldingRooms {
        /// Where it starts.
        next: ConvId,
    },
}

/// Of two causes the one whose class waits less.
fn more_urgent(one: Option<Cause>, other: Cause) -> Cause {
    match one {
        Some(one) if one.urgency() == Urgency::Waited || other.urgency() != Urgency::Waited => one,
        _ => other,
    }
}

impl Delivery {
    /// Compares all heads with the cursors, unless the stamps say that none has changed; when a comparison is under way,
    /// once more after it.
    pub fn compare(&mut self, cause: Cause, out: &mut Out) {
        self.rooms_due = self.rooms_due.max(Due::by(cause));
        if self.backing_off {
            // The one that waits for its retry stands in for this one.
            return;
        }
        if self.compare != Compare::Idle {
            self.again = Some(more_urgent(self.again, cause));
            return;
        }
        self.compare = Compare::Stamps;
        self.cause = cause;
        out.push(Effect::Upkeep(Upkeep::ReadStamps { cause, urgency: cause.urgency() }));
    }

    /// The comparison that a session begins with: its stamps were read with the device, so they come at once.
    pub fn compare_at_login(&mut self) {
        (self.compare, self.cause) = (Compare::Stamps, Cause::Login);
    }

    /// Asks for a page of heads, the first or the one after `place`. The first may be large: mostly few are behind.
    pub(super) fn read_heads(&mut self, place: Option<(ConvId, bool)>, out: &mut Out) {
        self.compare = Compare::Reading;
        let (after, sparse) = place.map_or((None, true), |(after, sparse)| (Some(after), sparse));
        let (cause, urgency) = (self.cause, self.cause.urgency());
        out.push(Effect::Upkeep(Upkeep::Compare { after, sparse, cause, urgency }));
    }

    /// Stamps or a page could not be read: the comparison ends, and none begins before the caller has waited and called
    /// [`Delivery::end_back_off`]. Returns for which cause it then compares again.
    #[must_use]
    pub fn on_compare_failed(&mut self, cause: Cause) -> Cause {
        if matches!(self.compare, Compare::Rooms) {
            self.rooms_due = self.rooms_due.max(Due::by(cause)).max(self.rooms_read);
        }
        self.compare = Compare::Idle;
        self.backing_off = true;
        self.on_not_compared();
        more_urgent(self.again.take(), cause)
    }

    /// A comparison that failed may be tried again.
    pub fn end_back_off(&mut self) {
        self.backing_off = false;
    }

    /// Whether a comparison failed and its retry is not due yet.
    pub fn is_backing_off(&self) -> bool {
        self.backing_off
    }

    /// One page of (conversation, head, cursor): all with head above cursor, and some where it is not, the most recent
    /// first; and where the next page starts. Returns how many conversations turned out to be behind.
    pub fn on_gaps(&mut self, gaps: Vec<Gap>, next: Option<ConvId>, at: At<'_>, out: &mut Out) -> usize {
        let (level, gaps): (Vec<_>, Vec<_>) = gaps.into_iter().partition(|gap| gap.head <= gap.cursor);
        let (mut found, sparse) = (0, gaps.len() < GAPS);
        self.know_level(level, at);
        for Gap { conv, head, cursor } in gaps {
            self.wake_up(&conv, at);
            self.rest_later(at);
            // R8: the stored cursor is the position of a conversation without one. No position was forgotten
            // since the page was asked for ([`Delivery::make_room`] waits), so the cursor cannot lie below one.
            let begin = || Conv::from_cursor(&conv, cursor, head, at.rules, out);
            let entry = self.convs.entry(conv.clone()).or_insert_with(begin);
            let was_behind = entry.is_behind();
            entry.want = entry.want.max(head);
            if !entry.is_behind() {
                continue;
            }
            found += 1;
            if !was_behind {
                self.behind += 1;
            }
            // Whatever the cause: where the login's own comparison failed, the next one stands in for it.
            if !self.caught_up && entry.login_head.is_none() {
                entry.login_head = Some(head);
                self.login_left += 1;
            }
            self.enqueue(&conv);
            self.watch(&conv, at);
        }
        self.compare = match next {
            Some(next) => Compare::Holding { next, sparse },
            None => Compare::Idle,
        };
        if self.compare == Compare::Idle {
            self.on_compared(at);
            self.begin_rooms(at, out);
        }
        self.fill(at, out);
        self.resume_compare(at, out);
        found
    }

    /// Where the device is not behind, the cursor is the position (R8), and the next live message goes straight to the
    /// socket. Not where there is one already: it may be further than this cursor.
    fn know_level(&mut self, level: Vec<Gap>, at: At<'_>) {
        for Gap { conv, cursor, .. } in level.into_iter().rev() {
            let is_known = self.convs.contains_key(&conv) || self.rested.get(&conv).is_some();
            if !is_known && self.rested.len() < at.rules.known {
                self.rested.put(&conv, cursor);
            }
        }
    }

    pub(super) fn resume_compare(&mut self, at: At<'_>, out: &mut Out) {
        match &self.compare {
            Compare::Stamps | Compare::Reading | Compare::Rooms => {}
            Compare::HoldingRooms { next } => {
                if self.behind < at.rules.behind {
                    let next = next.clone();
                    self.forget(at);
                    self.read_rooms(Some(next), at, out);
                }
            }
            Compare::Holding { next, sparse } => {
                if self.behind < at.rules.behind {
                    let place = (next.clone(), *sparse);
                    self.forget(at);
                    self.read_heads(Some(place), out);
                }
            }
            Compare::Idle => {
                if let Some(cause) = self.again.take() {
                    self.compare(cause, out);
                }
            }
        }
    }

    /// Whether the first `caught_up` is due: true once.
    pub fn take_caught_up(&mut self) -> bool {
        let due = !self.caught_up && self.compared && self.login_left == 0;
        self.caught_up |= due;
        due
    }

    pub(super) fn settle_login(&mut self, conv: &ConvId) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if entry.login_head.is_some_and(|head| entry.position >= Some(head)) {
            entry.login_head = None;
            self.login_left -= 1;
        }
    }
}
