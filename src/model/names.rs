//! Names of users, devices and rooms, and cids. Each can only be made through its check, so code further in
//! need not ask again whether a name is safe in a subject, a key or a log line.

use std::{fmt, str::FromStr};

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest name in bytes, and the longest cid in characters.
pub const MAX_NAME: usize = 64;

/// Why a name, a cid or a conversation id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty or too long.
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

impl Cid {
    /// A new one, for a request that must be carried out once however often it is sent.
    pub fn fresh() -> Self {
        Self(format_compact!("{:016x}{:08x}", rand::random::<u64>(), rand::random::<u32>()))
    }
}

/// One device of one user: what cursors belong to. Device names are unique only within their user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// Whose it is.
    pub user: UserId,
    /// The name that the user's client gave it.
    pub device: DeviceId,
    /// Which of the lives of that name: each registration begins one, with cursors of its own. 0 before the store has
    /// told ([`crate::store::Marks::enter`]).
    pub life: u64,
}

impl Device {
    /// A device of which the store was not asked yet.
    pub fn new(user: UserId, device: DeviceId) -> Self {
        Self { user, device, life: 0 }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.device)
    }
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
}
