//! The words of the domain: users, devices, conversations, seqs. Everything above imports this module and
//! it imports nothing of natter.
//!
//! A [`ConvId`] or a name that exists is valid: both can only be made through a check, so no code further
//! in has to ask again whether a name may stand in a subject, a key or a log line.

use std::{fmt, str::FromStr};

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Deserializer, Serialize};

/// A place in a conversation's log: 1, 2, 3 … dense, never reused. 0 means "before the first".
pub type Seq = u64;

/// Milliseconds since 1970 UTC; for people only, nothing is ordered by it (I5).
pub type Millis = u64;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64;

/// The largest seq that can be spoken of: JSON readers hold integers up to 2^53 exactly.
pub const MAX_SEQ: Seq = (1 << 53) - 1;

/// Why a name, a cid or a conversation id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or longer than the limit.
    #[error("must have 1 to {MAX_NAME} characters, has {0}")]
    Length(usize),
    /// A character outside the alphabet.
    #[error("may hold only letters, digits, '_' and '-'")]
    Alphabet,
    /// A cid with a control character.
    #[error("may not hold control characters")]
    Control,
    /// A conversation id that is neither `dm:<a>:<b>` with a <= b nor `room:<id>`.
    #[error("must be dm:<a>:<b> with the smaller name first, or room:<id>")]
    Conversation,
    /// A recipient that starts with neither `@` nor `#`.
    #[error("must be @user or #room")]
    Recipient,
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(NameError::Length(text.chars().count()));
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.bytes().all(ok) { Ok(()) } else { Err(NameError::Alphabet) }
}

fn check_cid(text: &str) -> Result<(), NameError> {
    let chars = text.chars().count();
    if chars == 0 || chars > MAX_NAME {
        return Err(NameError::Length(chars));
    }
    if text.chars().any(char::is_control) { Err(NameError::Control) } else { Ok(()) }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// Checks `text` against the alphabet and the length limit.
            ///
            /// # Errors
            /// Says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = CompactString::deserialize(deserializer)?;
                $check(&text).map_err(serde::de::Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}

checked_text!(
    /// A user, from a token's `sub`, or a service: both share one alphabet and one space of names.
    UserId, check_name
);
checked_text!(
    /// A device that its user's client named.
    DeviceId, check_name
);
checked_text!(
    /// A room.
    RoomId, check_name
);
checked_text!(
    /// The sender's own id for a message, 1 to 64 characters, unique per sender: what makes a retry safe (I4).
    Cid, check_cid
);

/// A conversation's id as it stands on the wire and in keys: `dm:<a>:<b>` with a <= b bytewise, or `room:<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ConvId(CompactString);

/// Who shares a conversation.
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

/// A live connection of one device, unique over the mesh. Of two sessions of one device the larger
/// ([`SessionRank`]) stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(CompactString);

impl SessionId {
    /// A fresh id: 80 random bits in lower-case hex. Its order means nothing but is the same for everyone,
    /// which is all that R11 needs.
    pub fn random() -> Self {
        Self(format_compact!("{:016x}{:04x}", rand::random::<u64>(), rand::random::<u16>()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What decides between two sessions of one device: the client's own counter, then the session id (R11).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionRank {
    /// `hello.attempt`: a counter that the client keeps over its reconnects.
    pub attempt: u64,
    /// Breaks the tie.
    pub session: SessionId,
}

/// The time of this machine's clock, for people.
pub fn now_millis() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_alphabet() {
        assert!(UserId::new("a_B-9").is_ok());
        assert_eq!(UserId::new(""), Err(NameError::Length(0)));
        assert_eq!(UserId::new(&"x".repeat(65)), Err(NameError::Length(65)));
        for bad in ["a.b", "a*", "a>", "a b", "ä", "a:b", "a/b", "\n"] {
            assert_eq!(UserId::new(bad), Err(NameError::Alphabet), "{bad:?}");
        }
    }

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
