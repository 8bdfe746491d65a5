//! What can happen to a room: the bodies of its event rows, as they stand in the log and go to clients.

use std::{fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Reach, Role};
use crate::model::{Body, Kind, Millis, UserId};

/// One change, made by the sender of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
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
        /// How long its messages last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime: Option<Lifetime>,
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
    /// Messages that follow last as long as this.
    Lifetime {
        /// None: until their sender says.
        lifetime: Option<Lifetime>,
    },
}

impl Change {
    /// Whose membership it changes, when `sender` makes it; nobody's if it is about the room.
    pub fn concerns<'a>(&'a self, sender: &'a UserId) -> Option<&'a UserId> {
        match self {
            Self::Created { .. } | Self::Joined | Self::Left => Some(sender),
            Self::Invited { user } | Self::Kicked { user } | Self::Role { user, .. } => Some(user),
            Self::Topic { .. } | Self::Lifetime { .. } => None,
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

/// How long a message lasts: 1 second to a year of 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Lifetime(u32);

impl Lifetime {
    /// The longest, in seconds.
    pub const LONGEST: u32 = 365 * 86_400;

    /// In seconds.
    pub fn secs(self) -> u32 {
        self.0
    }

    /// When what begins at `ts` is over.
    pub fn end(self, ts: Millis) -> Millis {
        ts.saturating_add(u64::from(self.0) * 1_000)
    }
}

impl TryFrom<u64> for Lifetime {
    type Error = String;

    fn try_from(secs: u64) -> Result<Self, String> {
        match u32::try_from(secs) {
            Ok(secs @ 1..=Self::LONGEST) => Ok(Self(secs)),
            _ => Err(format!("must be 1 to {} seconds", Self::LONGEST)),
        }
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<u64>().map_err(|_| "must be a number of seconds".to_owned())?.try_into()
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
                Change::Created { topic: Some(topic.clone()), public: true, history: Reach::All, lifetime: None },
                r#"{"event":"created","topic":"lunch","public":true,"history":"all"}"#,
            ),
            (Change::Kicked { user: bob.clone() }, r#"{"event":"kicked","user":"bob"}"#),
            (Change::Role { user: bob, role: Role::Moderator }, r#"{"event":"role","user":"bob","role":"moderator"}"#),
            (Change::Topic { topic: None }, r#"{"event":"topic","topic":null}"#),
            (Change::Lifetime { lifetime: "60".parse().ok() }, r#"{"event":"lifetime","lifetime":60}"#),
        ];
        for (change, json) in cases {
            assert_eq!(Change::from_body(&change.to_body()), Ok(change.clone()));
            assert_eq!(serde_json::to_string(&change).unwrap(), json);
        }
        assert!(Change::from_body(&Body::text("joined")).is_err());
    }

    #[test]
    fn a_lifetime_is_a_second_to_a_year() {
        for bad in ["0", "31536001", "-1", "1.5", "", "4294967297"] {
            assert!(bad.parse::<Lifetime>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Lifetime>("0").is_err());
        let year: Lifetime = "31536000".parse().unwrap();
        assert_eq!(year.end(5), 31_536_000_005);
    }

    #[test]
    fn a_topic_is_a_line_of_text() {
        for bad in ["", "a\nb", &"x".repeat(251)] {
            assert!(bad.parse::<Topic>().is_err(), "{bad:?}");
        }
        assert!("ä".repeat(250).parse::<Topic>().is_ok());
    }
}
