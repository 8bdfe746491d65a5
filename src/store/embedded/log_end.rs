//! Where a conversation's log ends, as the writer works on it: the inbox rows of its audience in one small value.
//! Called by [`super::commit`].
//!
//! The heads are in the same commit as the rows that they name, so here they *are* the top of the log, known from
//! rows (R1): two point reads find it in a cold conversation, and none in a warm one.

use fjall::Slice;

use super::{keys, rows::InboxValue, tables::Tables};
use crate::{
    model::{Audience, ConvId, Counts, Millis, NewMessage, ReadMark, Seq, UserId, moves_mark},
    store::StoreResult,
};

/// The end of a log and the read marks of its users, in the order of [`Audience::users`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogEnd {
    head: Seq,
    ts: Millis,
    /// How many messages there are.
    counts: Counts,
    read: [ReadMark; Audience::MAX],
    /// Whose row must be written.
    changed: [bool; Audience::MAX],
}

impl LogEnd {
    /// As it is stored.
    pub(super) fn read(tables: &Tables, conv: &ConvId, audience: &Audience) -> StoreResult<Self> {
        let mut end = Self::default();
        for (place, user) in audience.users().enumerate() {
            let row = tables.inbox_row(user, conv)?;
            end.read[place] = row.read;
            // A row that holds only a read mark has no head, a service's not of what it wrote; another user's has one, if
            // there is any.
            if row.head > end.head {
                (end.head, end.ts, end.counts) = (row.head, row.ts, row.counts);
            }
        }
        Ok(end)
    }

    /// Where the next row stands, and what is counted there. The seq is never one at or below `floor`: after a loss those
    /// may have been given out.
    pub(super) fn next(&self, conv: &ConvId, message: &NewMessage, floor: Seq) -> (Seq, Counts) {
        (self.head.max(floor) + 1, self.counts.with(message.kind, conv, &message.sender))
    }

    /// Takes a message at its place, and moves its sender's read mark there if nothing below it was kept from the sender:
    /// it was handed out up to `read_upto`, or the mark covers it, as it does where one's own messages precede. A sender that
    /// is a service has no row, unless it writes to itself.
    pub(super) fn push(&mut self, audience: &Audience, message: &NewMessage, (seq, counts): (Seq, Counts)) {
        let NewMessage { sender, service, ts, read_upto, .. } = message;
        (self.head, self.ts, self.counts) = (seq, *ts, counts);
        let of_sender = audience.position(sender.as_str());
        let spared = of_sender.filter(|_| *service && audience.others(sender).next().is_some());
        for place in 0..Audience::MAX {
            self.changed[place] |= spared != Some(place);
        }
        let mark = of_sender.map_or(0, |place| self.read[place].seq);
        if !*service && moves_mark(seq, *read_upto, mark) {
            self.raise_read_mark(audience, sender, ReadMark { seq, counts });
        }
    }

    /// Raises a user's read mark. Does nothing if it is higher already, or if the user is not in the audience.
    pub(super) fn raise_read_mark(&mut self, audience: &Audience, user: &UserId, mark: ReadMark) {
        let Some(place) = audience.position(user.as_str()) else { return };
        if mark.seq > self.read[place].seq {
            self.read[place] = mark;
            self.changed[place] = true;
        }
    }

    /// Whether a row must be written.
    pub(super) fn is_changed(&self) -> bool {
        self.changed.contains(&true)
    }

    /// The rows that must be written. Their order does not matter: they go into one commit, so no sender sees a head
    /// before its recipients do (R2).
    pub(super) fn changed_rows(&self, conv: &ConvId, audience: &Audience) -> impl Iterator<Item = (Slice, InboxValue)> {
        audience.users().enumerate().filter(|(place, _)| self.changed[*place]).map(|(place, user)| {
            let row = InboxValue { head: self.head, ts: self.ts, counts: self.counts, read: self.read[place] };
            (keys::inbox(user, conv), row)
        })
    }

    /// The same, with nothing left to write.
    pub(super) fn written(self) -> Self {
        Self { changed: [false; Audience::MAX], ..self }
    }
}
