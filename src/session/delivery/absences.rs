//! Long absences: a device that comes back further behind than [`Rules::backlog`] begins with the newest messages, and is told
//! that its backlog was cut. What lies before them is in the history. Used by [`super::Delivery`].
//!
//! Only where a position comes from the stored cursor. What a session that is there has begun to hand out it hands out whole,
//! however slow its client is. Of rooms the store's answer says where the device begins ([`crate::session::RoomPlace`]),
//! because it knows which rows are for the user.

use super::{Conv, Delivery, Out};
use crate::{
    model::{ConvId, Seq},
    session::{Effect, Rules},
};

/// Where a device begins whose stored cursor is `cursor` in a log that goes up to `head`, if that is above the cursor.
fn first_position(cursor: Seq, head: Seq, rules: &Rules) -> Option<Seq> {
    let newest = head.saturating_sub(rules.backlog);
    (newest > cursor).then_some(newest)
}

impl Conv {
    /// A direct conversation of a device that begins at its stored cursor, or above it if the log at `head` is too far ahead:
    /// then the client is told.
    pub(super) fn from_cursor(conv: &ConvId, cursor: Seq, head: Seq, rules: &Rules, out: &mut Out) -> Self {
        let Some(position) = first_position(cursor, head, rules) else { return Self::at(cursor) };
        out.push(Effect::LeftToHistory { conv: conv.clone(), from: position + 1 });
        Self::at(position)
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
        let above = first_position(cursor, entry.want, rules);
        if let Some(above) = above {
            out.push(Effect::LeftToHistory { conv: conv.clone(), from: above + 1 });
        }
        // What is left to the history is not the client's to acknowledge.
        let start = above.unwrap_or(cursor);
        (entry.position, entry.acked, entry.stored) = (Some(start), start, entry.stored.max(start));
        if !entry.is_behind() {
            self.behind -= 1;
        }
        above.is_some()
    }
}
