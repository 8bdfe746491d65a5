//! Long absences: a device that comes back further behind than [`Rules::backlog`] begins with the newest messages, and is told
//! that its backlog was cut. What lies before them is in the history. Used by [`super::Delivery`].
//!
//! Only where a position comes from the stored cursor. What a session that is there has begun to hand out it hands out whole,
//! however slow its client is. Of rooms the store's answer says where the device begins ([`RoomPlace`]), because it knows which
//! rows are for the user.

use super::{Conv, Delivery, Out};
use crate::{
    model::{ConvId, Seq},
    session::{Effect, RoomPlace, Rules},
};

/// Tells the client that it begins behind `position`, and that what is before is left to the history. That is not the client's
/// to acknowledge.
fn begin_above(conv: &ConvId, position: Seq, out: &mut Out) {
    out.push(Effect::LeftToHistory { conv: conv.clone(), from: position + 1 });
}

/// The position of a device that begins a direct conversation: its stored cursor, or above it if the log at `head` is too far
/// ahead.
fn begin(conv: &ConvId, cursor: Seq, head: Seq, rules: &Rules, out: &mut Out) -> Seq {
    let newest = head.saturating_sub(rules.backlog);
    if newest <= cursor {
        return cursor;
    }
    begin_above(conv, newest, out);
    newest
}

/// The same of a room, where the store has said that it begins behind `start`.
pub(super) fn begin_room(conv: &ConvId, start: Seq, place: RoomPlace, out: &mut Out) {
    if place.is_cut {
        begin_above(conv, start, out);
    }
}

impl Conv {
    /// A direct conversation of a device that begins it.
    pub(super) fn from_cursor(conv: &ConvId, cursor: Seq, head: Seq, rules: &Rules, out: &mut Out) -> Self {
        Self::at(begin(conv, cursor, head, rules, out))
    }
}

impl Delivery {
    /// A stored cursor is where a conversation without a position begins. One that has a position by now is further than
    /// that cursor may be (R8). True where it begins above the cursor.
    pub(super) fn start_at(&mut self, conv: &ConvId, cursor: Seq, rules: &Rules, out: &mut Out) -> bool {
        let Some(entry) = self.convs.get_mut(conv) else { return false };
        if entry.position.is_some() {
            return false;
        }
        let start = begin(conv, cursor, entry.want, rules, out);
        (entry.position, entry.acked, entry.stored) = (Some(start), start, entry.stored.max(start));
        if !entry.is_behind() {
            self.behind -= 1;
        }
        start > cursor
    }
}
