//! Rooms: which part of their logs is for the user. A conversation of a room is *closed* where the user may be out of it:
//! nothing above its position is handed out before the store has said how the user stands to the room. Used by
//! [`super::Delivery`].
//!
//! In a room the seq after a position is always for the user: a position comes from the store, which knows the spans between
//! joins and leaves, and from there on the row that ends a span is handed out before anything behind it.

use super::{At, Compare, Conv, Delivery, Out, absences::begin_room};
use crate::{
    model::{ConvId, Seq},
    protocol::ServerFrame,
    session::{Cause, Effect, RoomPlace, Upkeep},
};

/// What a comparison does about rooms, each more than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Nothing: the node looks at heads, and whoever changes a membership tells its user.
    Nothing,
    /// Which rooms the user is in: hints may have been lost.
    Listening,
    /// Heads and cursors too: nothing is known, or what was published was lost here.
    All,
}

impl Due {
    pub(super) fn by(cause: Cause) -> Self {
        match cause {
            Cause::Sweep => Self::Nothing,
            Cause::Recheck | Cause::Reconnect | Cause::SlowConsumer => Self::Listening,
            Cause::Login | Cause::Lagged => Self::All,
        }
    }
}

impl Delivery {
    /// The direct conversations are compared: the rooms are next, where something is due there.
    pub(super) fn begin_rooms(&mut self, at: At<'_>, out: &mut Out) {
        if self.roomless {
            // What became due since the stamps were read has a comparison of its own, with stamps of its own.
            self.rooms_due = if self.again.is_some() { self.rooms_due } else { Due::Nothing };
            self.compare = Compare::Idle;
            self.compared = true;
            return;
        }
        self.rooms_read = std::mem::replace(&mut self.rooms_due, Due::Nothing);
        if self.rooms_read == Due::Nothing {
            self.compare = Compare::Idle;
            self.compared = true;
        } else {
            self.read_rooms(None, at, out);
        }
    }

    /// Asks for a page of the user's rooms, the first or the one after `after`.
    pub(super) fn read_rooms(&mut self, after: Option<ConvId>, at: At<'_>, out: &mut Out) {
        self.compare = Compare::Rooms;
        let (all, cause, urgency) = (self.rooms_read == Due::All, self.cause, self.cause.urgency());
        let backlog = at.rules.backlog;
        out.push(Effect::Upkeep(Upkeep::CompareRooms { after, all, backlog, cause, urgency }));
    }

    /// One page of rooms, and where the next one starts. Returns how many turned out to be behind.
    pub fn on_rooms(
        &mut self,
        rooms: Vec<(ConvId, RoomPlace)>,
        next: Option<ConvId>,
        at: At<'_>,
        out: &mut Out,
    ) -> usize {
        if self.compare != Compare::Rooms {
            return 0;
        }
        let found = rooms.into_iter().map(|(conv, place)| usize::from(self.on_place(conv, place, at, out))).sum();
        self.compare = match next {
            Some(next) => Compare::HoldingRooms { next },
            None => Compare::Idle,
        };
        self.compared |= self.compare == Compare::Idle;
        self.fill(at, out);
        self.resume_compare(at, out);
        found
    }

    /// A room of a page; true where the device is behind there.
    fn on_place(&mut self, conv: ConvId, place: RoomPlace, at: At<'_>, out: &mut Out) -> bool {
        if self.rested.get(&conv).is_some_and(|position| position < place.last) {
            self.wake_up(&conv, at);
        }
        let Some(entry) = self.convs.get_mut(&conv) else { return self.on_new_place(conv, place, at, out) };
        let was_behind = entry.is_behind();
        if entry.closed || entry.position.is_none() {
            // Read anew, if this page says more: it is read one at a time, so that the last answer counts.
            if place.start.is_some_and(|start| entry.position.is_none_or(|position| start > position)) {
                entry.must_read = true;
            }
            if entry.must_read {
                // A read that is under way may be older than this page.
                entry.unseen = entry.unseen.max(place.upto);
            }
        } else {
            entry.want = entry.want.max(place.last);
        }
        let found = entry.is_behind() && !was_behind;
        self.behind += usize::from(found);
        self.wait_at_login(&conv, place.last);
        self.enqueue_work(&conv, at);
        found
    }

    /// A room of which this session knows nothing.
    fn on_new_place(&mut self, conv: ConvId, place: RoomPlace, at: At<'_>, out: &mut Out) -> bool {
        if self.rested.get(&conv).is_some() {
            // It is as far as this page, or further.
            return false;
        }
        let Some(start) = place.start else {
            out.push(Effect::Unlisten(conv));
            return false;
        };
        if place.last <= start {
            // As direct conversations in which the device is not behind. Nothing of the newest part may be for the user, and
            // something before it.
            begin_room(&conv, start, place, out);
            if self.rested.len() < at.rules.known {
                self.rested.put(&conv, start);
            }
            return false;
        }
        begin_room(&conv, start, place, out);
        self.rest_later(at);
        self.convs.insert(conv.clone(), Conv { want: place.last, ..Conv::at(start) });
        self.behind += 1;
        self.wait_at_login(&conv, place.last);
        self.enqueue_work(&conv, at);
        true
    }

    /// The first `caught_up` waits for what is behind.
    fn wait_at_login(&mut self, conv: &ConvId, head: Seq) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        if !self.caught_up && entry.has_work() && entry.login_head.is_none() {
            entry.login_head = Some(head);
            self.login_left += 1;
        }
    }

    fn enqueue_work(&mut self, conv: &ConvId, at: At<'_>) {
        if self.convs.get(conv).is_some_and(Conv::has_work) {
            self.enqueue(conv);
            self.watch(conv, at);
        }
    }

    /// How the user stands to a room was read, or could not be.
    pub fn on_room_read(&mut self, conv: &ConvId, place: Result<RoomPlace, ()>, at: At<'_>, out: &mut Out) {
        if !self.end_fill(conv) {
            return;
        }
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let held = entry.held.take();
        // A position that an acknowledgement moved meanwhile is no part of the answer.
        let fits = |place: &RoomPlace| match (entry.position, place.start) {
            (Some(position), Some(start)) => start >= position,
            _ => true,
        };
        match place {
            Ok(place) if fits(&place) => match place.start {
                Some(start) => {
                    self.open(conv, start, place, out);
                    self.hand_held(conv, held, at, out);
                    self.after_page(conv, true, at);
                }
                // Something was heard of that is not in the answer: perhaps the join.
                None if entry.unseen > place.upto => self.after_page(conv, false, at),
                None => self.shut(conv, out),
            },
            _ => self.after_page(conv, false, at),
        }
        self.fill(at, out);
        self.resume_compare(at, out);
    }

    /// The user is in the room, or was for a while behind the position: it goes on behind `start`.
    fn open(&mut self, conv: &ConvId, start: Seq, place: RoomPlace, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let (was_behind, before) = (entry.is_behind(), entry.unacked());
        match entry.position {
            None => {
                (entry.position, entry.acked, entry.stored) = (Some(start), start, entry.stored.max(start));
                begin_room(conv, start, place, out);
            }
            Some(position) if start > position => {
                entry.cuts.add(position + 1, start);
                entry.position = Some(start);
                out.push(Effect::Frame(ServerFrame::Truncated { conv: conv.clone(), from: start + 1 }));
            }
            Some(_) => {}
        }
        (entry.closed, entry.must_read) = (false, false);
        entry.want = entry.want.max(place.last).max(entry.unseen);
        entry.unseen = 0;
        debug_assert_eq!(before, entry.unacked(), "what is jumped over is not the client's to acknowledge");
        self.behind = self.behind + usize::from(entry.is_behind()) - usize::from(was_behind);
        self.settle_login(conv);
    }

    /// The user is not in the room: the session has nothing more to do with it, but for what is not acknowledged yet.
    fn shut(&mut self, conv: &ConvId, out: &mut Out) {
        let Some(entry) = self.convs.get_mut(conv) else { return };
        let was_behind = entry.is_behind();
        (entry.closed, entry.must_read, entry.unseen) = (true, false, 0);
        self.behind -= usize::from(was_behind);
        if entry.login_head.take().is_some() {
            self.login_left -= 1;
        }
        if entry.position.is_none() {
            self.convs.remove(conv);
        }
        out.push(Effect::Unlisten(conv.clone()));
    }
}
