//! Conversation ids, and the recipients that clients name. A [`ConvId`] that exists is valid and in its one canonical form.

use std::{fmt, str::FromStr};

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Deserializer, Serialize};

use super::{NameError, RoomId, UserId};

/// A conversation's id, as on the wire and in keys: `dm:<a>:<b>` with a <= b bytewise, or `room:<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ConvId(CompactString);

/// Who takes part in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parties {
    /// A direct conversation between two users, who may be one and the same.
    Direct(UserId, UserId),
    /// A room; its members are kept in the store.
    Room(RoomId),
}

impl ConvId {
    /// The direct conversation of two users, in either order.
    pub fn direct(one: &UserId, other: &UserId) -> Self {
        let (a, b) = if one <= other { (one, other) } else { (other, one) };
        Self(format_compact!("dm:{a}:{b}"))
    }

    /// A room's conversation.
    pub fn room(room: &RoomId) -> Self {
        Self(format_compact!("room:{room}"))
    }

    /// What `user` writes into when writing to `recipient`.
    pub fn between(user: &UserId, recipient: &Recipient) -> Self {
        match recipient {
            Recipient::User(other) => Self::direct(user, other),
            Recipient::Room(room) => Self::room(room),
        }
    }

    /// Whether it is a room's.
    pub fn is_room(&self) -> bool {
        self.0.starts_with("room:")
    }

    /// Reads an id from the wire.
    ///
    /// # Errors
    /// [`NameError::Conversation`] when the text is not in the one canonical form.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if parse_parties(text).is_some() { Ok(Self(text.into())) } else { Err(NameError::Conversation) }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The users or the room the id names.
    pub fn parties(&self) -> Parties {
        match parse_parties(&self.0) {
            Some(parties) => parties,
            None => unreachable!("a ConvId is checked when it is made"),
        }
    }

    /// The room, where it is a room's conversation.
    pub fn as_room(&self) -> Option<RoomId> {
        RoomId::new(self.0.strip_prefix("room:")?).ok()
    }

    /// Whether `user` is one of the two users of this direct conversation. Always false for a room.
    pub fn is_direct_of(&self, user: &UserId) -> bool {
        self.direct_names().is_some_and(|(a, b)| a == user.as_str() || b == user.as_str())
    }

    /// The other user of a direct conversation as seen by `user` (oneself in a conversation with oneself);
    /// `None` for a room or for a conversation that `user` is no part of.
    pub fn peer_of(&self, user: &UserId) -> Option<UserId> {
        let (a, b) = self.direct_names()?;
        let other = if a == user.as_str() {
            b
        } else if b == user.as_str() {
            a
        } else {
            return None;
        };
        UserId::new(other).ok()
    }

    fn direct_names(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("dm:")?.split_once(':')
    }
}

fn parse_parties(text: &str) -> Option<Parties> {
    if let Some(names) = text.strip_prefix("dm:") {
        let (a, b) = names.split_once(':')?;
        (a <= b).then_some(())?;
        return Some(Parties::Direct(UserId::new(a).ok()?, UserId::new(b).ok()?));
    }
    let room = text.strip_prefix("room:")?;
    Some(Parties::Room(RoomId::new(room).ok()?))
}

impl fmt::Display for ConvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ConvId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ConvId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = CompactString::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Whom a client writes to: `@user` or `#room`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A direct message.
    User(UserId),
    /// A message to a room.
    Room(RoomId),
}

impl FromStr for Recipient {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_at_checked(1) {
            Some(("@", user)) => UserId::new(user).map(Self::User),
            Some(("#", room)) => RoomId::new(room).map(Self::Room),
            _ => Err(NameError::Recipient),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "@{user}"),
            Self::Room(room) => write!(f, "#{room}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_conversation_has_one_name() {
        let (a, b) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        assert_eq!(ConvId::direct(&b, &a).as_str(), "dm:alice:bob");
        assert_eq!(ConvId::direct(&a, &b).peer_of(&a), Some(b.clone()));
        assert_eq!(ConvId::direct(&a, &a).peer_of(&a), Some(a));
        assert_eq!(ConvId::direct(&b, &b).peer_of(&UserId::new("eve").unwrap()), None);
        for bad in ["dm:bob:alice", "dm:alice", "dm:a:b:c", "room:", "alice", "dm::"] {
            assert_eq!(ConvId::new(bad), Err(NameError::Conversation), "{bad}");
        }
        assert!(ConvId::new("room:lobby").is_ok());
    }

    #[test]
    fn recipients_say_what_they_are() {
        assert_eq!("@bob".parse(), Ok(Recipient::User(UserId::new("bob").unwrap())));
        assert_eq!("#bar".parse(), Ok(Recipient::Room(RoomId::new("bar").unwrap())));
        assert_eq!("bob".parse::<Recipient>(), Err(NameError::Recipient));
        assert_eq!("äb".parse::<Recipient>(), Err(NameError::Recipient));
        assert_eq!("".parse::<Recipient>(), Err(NameError::Recipient));
    }
}
