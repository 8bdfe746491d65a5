//! Where a direct conversation ends, as the writer works on it: both users' inbox rows in one small value. Called
//! by [`super::commit`].
//!
//! The heads are in the same commit as the rows they speak of, so here they *are* the top of the log, known from
//! rows (R1): two point reads find it in a cold conversation, and none in a warm one.

use fjall::Slice;

use super::{keys, rows::Inbox, tables::Tables};
use crate::{
    model::{ConvId, Millis, Parties, Seq, UserId},
    store::StoreResult,
};

/// The end of a log and the read marks of its two users, in the order of their names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogEnd {
    head: Seq,
    ts: Millis,
    read: [Seq; 2],
    /// Whose row must be written.
    changed: [bool; 2],
}

impl LogEnd {
    /// As it is stored.
    pub(super) fn read(tables: &Tables, conv: &ConvId) -> StoreResult<Self> {
        let Parties::Direct(one, other) = conv.parties() else { return Ok(Self::default()) };
        let first = tables.inbox(&one, conv)?;
        let second = if one == other { first } else { tables.inbox(&other, conv)? };
        // A row that holds a read mark alone has no head. That of the other user has one, if there is any.
        let top = if first.head >= second.head { first } else { second };
        Ok(Self { head: top.head, ts: top.ts, read: [first.read, second.read], changed: [false; 2] })
    }

    /// Takes the next seq for a message, and moves its sender's read mark there.
    pub(super) fn push(&mut self, conv: &ConvId, sender: &UserId, ts: Millis) -> Seq {
        self.head += 1;
        self.ts = ts;
        self.changed = [true; 2];
        self.raise_mark(conv, sender, self.head);
        self.head
    }

    /// Raises a user's read mark; nothing where it stands higher, or for somebody who is no part of it.
    pub(super) fn raise_mark(&mut self, conv: &ConvId, user: &UserId, seq: Seq) {
        let Some(side) = side_of(conv, user) else { return };
        if seq > self.read[side] {
            self.read[side] = seq;
            self.changed[side] = true;
        }
    }

    /// Whether a row must be written.
    pub(super) fn is_changed(&self) -> bool {
        self.changed != [false; 2]
    }

    /// The rows that must be written, the recipient's and the sender's alike: they go into one commit (R2).
    pub(super) fn changed_rows(&self, conv: &ConvId) -> impl Iterator<Item = (Slice, Inbox)> + use<> {
        let row = |side: usize, user: &UserId| {
            let row = Inbox { head: self.head, ts: self.ts, read: self.read[side] };
            self.changed[side].then(|| (keys::inbox(user, conv), row))
        };
        let rows = match conv.parties() {
            // With oneself there is one row; only the first side's mark moves.
            Parties::Direct(one, other) if one == other => [row(0, &one), None],
            Parties::Direct(one, other) => [row(0, &one), row(1, &other)],
            Parties::Room(_) => [None, None],
        };
        rows.into_iter().flatten()
    }

    /// The same, with nothing left to write.
    pub(super) fn written(self) -> Self {
        Self { changed: [false; 2], ..self }
    }
}

/// Which of the two a user is. Compared as text: `parties` would make two names of it for every message.
fn side_of(conv: &ConvId, user: &UserId) -> Option<usize> {
    let names = conv.as_str().strip_prefix("dm:")?;
    let rest = names.strip_prefix(user.as_str());
    if rest.is_some_and(|rest| rest.starts_with(':')) {
        return Some(0);
    }
    let rest = names.strip_suffix(user.as_str());
    rest.is_some_and(|rest| rest.ends_with(':')).then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_by_whole_names() {
        let user = |name: &str| UserId::new(name).unwrap();
        let conv = |one: &str, other: &str| ConvId::direct(&user(one), &user(other));
        for (one, other) in [("a", "b"), ("a", "a-a"), ("a", "aa"), ("b-a", "c-a"), ("a-b", "b")] {
            let conv = conv(one, other);
            assert_eq!(side_of(&conv, &user(one)), Some(0), "{one} of {conv}");
            assert_eq!(side_of(&conv, &user(other)), Some(1), "{other} of {conv}");
        }
        assert_eq!(side_of(&conv("a", "a"), &user("a")), Some(0));
        for stranger in ["a", "b", "aa-b", "m"] {
            assert_eq!(side_of(&conv("aa", "bb"), &user(stranger)), None, "{stranger}");
        }
    }
}
