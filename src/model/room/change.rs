//! What can happen to a room: the bodies of its event rows, as they stand in the log and go to clients.

use std::{fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Reach, Role};
use crate::model::{Body, Kind, UserId};

/// One change, made by the sender of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Change {
    /// The first of each room; whoever makes it owns the room.
    Created {
        /// What the room is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<Topic>,
        /// Everybody may join it.
        public: bool,
        /// What members may read.
        history: Reach,
    },
    /// The sender joined.
    Joined,
    /// The sender left, or declined an invitation.
    Left,
    /// A user may join.
    Invited {
        /// Who.
        user: UserId,
    },
    /// A user was put out, or an invitation was taken back.
    Kicked {
        /// Who.
        user: UserId,
    },
    /// A member got another role.
    Role {
        /// Who.
        user: UserId,
        /// The new one.
        role: Role,
    },
    /// The room has another topic.
    Topic {
        /// None: it has none any more.
        topic: Option<Topic>,
    },
}

impl Change {
    /// Whose membership it changes, when `sender` makes it; nobody's if it is about the room.
    pub fn concerns<'a>(&'a self, sender: &'a UserId) -> Option<&'a UserId> {
        match self {
            Self::Created { .. } | Self::Joined | Self::Left => Some(sender),
            Self::Invited { user } | Self::Kicked { user } | Self::Role { user, .. } => Some(user),
            Self::Topic { .. } => None,
        }
    }

    /// Whom it puts out of the room, when `sender` makes it.
    pub fn puts_out(self, sender: &UserId) -> Option<UserId> {
        match self {
            Self::Left => Some(sender.clone()),
            Self::Kicked { user } => Some(user),
            _ => None,
        }
    }

    /// The change that a row is; `None` for one that is no event.
    pub fn of_row(kind: Kind, body: &Body) -> Option<Self> {
        if kind == Kind::Event { Self::from_body(body).ok() } else { None }
    }

    /// The body of its row.
    pub fn to_body(&self) -> Body {
        match Body::of(self) {
            Ok(body) => body,
            Err(wrong) => unreachable!("a change is a map of short texts: {wrong}"),
        }
    }

    /// Reads the body of an event row.
    ///
    /// # Errors
    /// What is wrong with it; a row that natter wrote has nothing wrong.
    pub fn from_body(body: &Body) -> Result<Self, String> {
        body.parse()
    }
}

/// What a room is about: 1 to 250 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Topic(CompactString);

impl Topic {
    /// Most characters.
    pub const MOST: usize = 250;

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let chars = text.chars().count();
        if chars == 0 || chars > Self::MOST {
            Err(format!("must have 1 to {} characters, has {chars}", Self::MOST))
        } else if text.chars().any(char::is_control) {
            Err("may not hold control characters".into())
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CompactString::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_as_they_were_written() {
        let bob = UserId::new("bob").unwrap();
        let topic: Topic = "lunch".parse().unwrap();
        let cases = [
            (Change::Joined, r#"{"event":"joined"}"#),
            (
                Change::Created { topic: Some(topic.clone()), public: true, history: Reach::All },
                r#"{"event":"created","topic":"lunch","public":true,"history":"all"}"#,
            ),
            (Change::Kicked { user: bob.clone() }, r#"{"event":"kicked","user":"bob"}"#),
            (Change::Role { user: bob, role: Role::Moderator }, r#"{"event":"role","user":"bob","role":"moderator"}"#),
            (Change::Topic { topic: None }, r#"{"event":"topic","topic":null}"#),
        ];
        for (change, json) in cases {
            assert_eq!(Change::from_body(&change.to_body()), Ok(change.clone()));
            assert_eq!(serde_json::to_string(&change).unwrap(), json);
        }
        assert!(Change::from_body(&Body::text("joined")).is_err());
    }

    #[test]
    fn a_topic_is_a_line_of_text() {
        for bad in ["", "a\nb", &"x".repeat(251)] {
            assert!(bad.parse::<Topic>().is_err(), "{bad:?}");
        }
        assert!("ä".repeat(250).parse::<Topic>().is_ok());
    }
}
