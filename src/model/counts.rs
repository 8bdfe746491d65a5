//! What a row of a log is, and how many messages a log has up to a place: what unread counts are made of. Computed where a
//! row gets its seq (by the stores), stored with the row, compared by lists.

use serde::{Deserialize, Serialize};

use super::{ConvId, Parties, Seq, UserId};

/// What a row of a log is. Everything but a message says something about the log or about another row, and is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// What somebody wrote.
    #[default]
    Message = 0,
    /// Something that happened in the conversation: somebody joined, the topic changed.
    Event = 1,
    /// Another text for a message.
    Edit = 2,
    /// A message is gone.
    Delete = 3,
    /// Somebody's reaction to a message.
    Reaction = 4,
}

impl Kind {
    /// What nearly every row is.
    pub fn is_message(&self) -> bool {
        *self == Self::Message
    }

    const ALL: [Self; 5] = [Self::Message, Self::Event, Self::Edit, Self::Delete, Self::Reaction];

    /// As it is stored and travels between nodes.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The kind that is stored as this; `None` for one that a later version wrote.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Which of the two numbers of [`Counts`] a user's messages are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first user that the id of a direct conversation names; everybody in a room.
    First,
    /// The second user.
    Second,
}

impl Side {
    /// The side of a user; `None` for somebody who is no part of a direct conversation.
    pub fn of(conv: &ConvId, user: &UserId) -> Option<Self> {
        match conv.parties() {
            Parties::Room(_) => Some(Self::First),
            Parties::Direct(first, _) if first == *user => Some(Self::First),
            Parties::Direct(_, second) if second == *user => Some(Self::Second),
            Parties::Direct(..) => None,
        }
    }
}

/// How many rows of kind *message* a log has up to and including a place: in a direct conversation for each side, in a room
/// one number. With oneself there is one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages of the first side; in a room of everybody.
    pub first: u64,
    /// Messages of the second side; 0 in a room.
    pub second: u64,
}

impl Counts {
    /// With one more row of this kind, written by `sender`.
    #[must_use]
    pub fn with(self, kind: Kind, conv: &ConvId, sender: &UserId) -> Self {
        if kind != Kind::Message {
            return self;
        }
        match Side::of(conv, sender) {
            Some(Side::First) => Self { first: self.first + 1, ..self },
            Some(Side::Second) => Self { second: self.second + 1, ..self },
            None => self,
        }
    }

    /// How many the log has of this side.
    pub fn of(self, side: Side) -> u64 {
        match side {
            Side::First => self.first,
            Side::Second => self.second,
        }
    }

    /// How many of these messages `user` has not read, who has read those counted in `read`: in a direct conversation the
    /// other side's, in a room everybody's.
    pub fn unread(self, read: Self, conv: &ConvId, user: &UserId) -> u64 {
        let counted = match (conv.parties(), Side::of(conv, user)) {
            (Parties::Room(_), _) => Side::First,
            (Parties::Direct(..), Some(Side::First)) => Side::Second,
            (Parties::Direct(..), Some(Side::Second)) => Side::First,
            (Parties::Direct(..), None) => return 0,
        };
        self.of(counted).saturating_sub(read.of(counted))
    }
}

/// How far a person has read a conversation, with what was counted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadMark {
    /// Everything up to here.
    pub seq: Seq,
    /// The counts of the log at that seq.
    pub counts: Counts,
}

impl ReadMark {
    /// Goes to the other one if that is further.
    pub fn raise(&mut self, other: Self) {
        if other.seq > self.seq {
            *self = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RoomId;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn counted(conv: &ConvId, rows: &[(Kind, &str)]) -> Counts {
        rows.iter().fold(Counts::default(), |counts, (kind, sender)| counts.with(*kind, conv, &user(sender)))
    }

    #[test]
    fn a_pair_is_counted_by_sides() {
        let conv = ConvId::direct(&user("bob"), &user("alice"));
        let read = counted(&conv, &[(Kind::Message, "alice"), (Kind::Message, "bob")]);
        let rest = [(Kind::Message, "alice"), (Kind::Reaction, "bob"), (Kind::Message, "alice"), (Kind::Edit, "alice")];
        let all = rest.iter().fold(read, |counts, (kind, sender)| counts.with(*kind, &conv, &user(sender)));
        assert_eq!(all, Counts { first: 3, second: 1 });
        assert_eq!(all.unread(read, &conv, &user("bob")), 2);
        assert_eq!(all.unread(read, &conv, &user("alice")), 0, "one's own messages are read");
        assert_eq!(all.unread(Counts::default(), &conv, &user("alice")), 1);
        assert_eq!(read.unread(all, &conv, &user("bob")), 0, "a mark may be ahead of what was counted");
        assert_eq!(all.unread(Counts::default(), &conv, &user("eve")), 0);
    }

    #[test]
    fn with_oneself_nothing_is_unread_and_in_a_room_everybodys() {
        let (alice, bob) = (user("alice"), user("bob"));
        let alone = ConvId::direct(&alice, &alice);
        let all = counted(&alone, &[(Kind::Message, "alice"), (Kind::Message, "alice")]);
        assert_eq!((all, all.unread(Counts::default(), &alone, &alice)), (Counts { first: 2, second: 0 }, 0));
        let room = ConvId::room(&RoomId::new("bar").unwrap());
        let all = counted(&room, &[(Kind::Event, "alice"), (Kind::Message, "bob"), (Kind::Message, "alice")]);
        assert_eq!((all, all.unread(Counts::default(), &room, &bob)), (Counts { first: 2, second: 0 }, 2));
    }

    #[test]
    fn kinds_come_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.byte()), Some(kind));
        }
        assert_eq!(Kind::of(5), None);
    }
}
