//! What edits, deletions and reactions make of a message. Pure: the engines keep the rows that count beside what they are
//! about and fold them when a page is read; the order of the log decides.

use std::{collections::BTreeMap, fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Body, Cid, Kind, Millis, Row, Seq, UserId};

/// What somebody reacts with: 1 to 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Reaction(CompactString);

impl Reaction {
    /// Most bytes: the longest emoji are joined of several characters.
    pub const MOST: usize = 64;

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reaction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > Self::MOST {
            Err(format!("must have 1 to {} bytes, has {}", Self::MOST, text.len()))
        } else if text.chars().any(char::is_control) {
            Err("may not hold control characters".into())
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Reaction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CompactString::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The body of a reaction's row: a reaction that its sender has from here on, or has no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reacting {
    /// Which.
    pub reaction: Reaction,
    /// Whether it is set.
    pub set: bool,
}

impl Reacting {
    /// The body of its row.
    pub fn to_body(&self) -> Body {
        match Body::of(self) {
            Ok(body) => body,
            Err(wrong) => unreachable!("a reaction is a map of a short text: {wrong}"),
        }
    }

    /// What a row of kind reaction says; `None` for any other.
    pub fn of_row(kind: Kind, body: &Body) -> Option<Self> {
        if kind == Kind::Reaction { body.parse().ok() } else { None }
    }
}

/// Who reacts with one and the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Reacted {
    /// With what.
    pub reaction: Reaction,
    /// How many users.
    pub count: u64,
    /// The first of them by name, at most [`Reacted::WHO`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub who: Vec<UserId>,
}

impl Reacted {
    /// Most users that are named.
    pub const WHO: usize = 50;
}

/// The text that counts instead of the first one.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The place of the edit.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// The text.
    pub body: Body,
}

impl Edited {
    fn of(row: &Row) -> Self {
        let Row { seq, ts, sender, cid, body, .. } = row;
        Self { seq: *seq, sender: sender.clone(), cid: cid.clone(), ts: *ts, body: body.clone() }
    }
}

/// What was made of one message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// Its last edit.
    pub edited: Option<Edited>,
    /// Who deleted it: then nothing else counts.
    pub deleted: Option<UserId>,
    /// In the order of their bytes, at most [`Folded::REACTIONS`].
    pub reactions: Vec<Reacted>,
}

impl Folded {
    /// Most reactions that are shown of one message.
    pub const REACTIONS: usize = 50;

    /// Takes a row that counts: of each edit the last, of each deletion the last, of reactions the last of each user and
    /// reaction, in the order of reactions and users. `names` is how many users may still be named.
    pub fn take(&mut self, row: &Row, names: &mut usize) {
        match row.kind {
            Kind::Edit => self.edited = Some(Edited::of(row)),
            Kind::Delete => self.deleted = Some(row.sender.clone()),
            Kind::Reaction => self.react(row, names),
            Kind::Message | Kind::Event => {}
        }
    }

    fn react(&mut self, row: &Row, names: &mut usize) {
        let Some(Reacting { reaction, set: true }) = Reacting::of_row(row.kind, &row.body) else { return };
        if self.reactions.last().is_none_or(|last| last.reaction != reaction) {
            if self.reactions.len() >= Self::REACTIONS {
                return;
            }
            self.reactions.push(Reacted { reaction, count: 0, who: Vec::new() });
        }
        let Some(last) = self.reactions.last_mut() else { return };
        last.count += 1;
        if last.who.len() < Reacted::WHO && *names > 0 {
            *names -= 1;
            last.who.push(row.sender.clone());
        }
    }

    /// Nothing was made of it that shows.
    pub fn is_empty(&self) -> bool {
        self.edited.is_none() && self.deleted.is_none() && self.reactions.is_empty()
    }
}

/// What was made of the messages of a part of a log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FoldedPart {
    /// Of those of which anything was made.
    pub of: BTreeMap<Seq, Folded>,
    /// Rows read for it.
    pub scanned: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reaction_is_a_short_line() {
        for bad in ["", "a\nb", "\0", &"x".repeat(65), &"ä".repeat(33)] {
            assert!(bad.parse::<Reaction>().is_err(), "{bad:?}");
        }
        for good in ["+1", "👩‍👩‍👧‍👦", &"x".repeat(64)] {
            let reacting = Reacting { reaction: good.parse().unwrap(), set: true };
            assert_eq!(Reacting::of_row(Kind::Reaction, &reacting.to_body()), Some(reacting.clone()));
            assert_eq!(Reacting::of_row(Kind::Message, &reacting.to_body()), None);
        }
    }
}
