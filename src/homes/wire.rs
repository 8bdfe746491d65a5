//! What nodes say to each other about slots: announcements, questions and answers, as MessagePack arrays that begin with
//! a version. Names, bodies and numbers are checked on the way in. Called by everything in this folder that asks or
//! answers.

use std::io::Cursor;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    model::{Body, Cid, ConvId, Kind, MAX_SEQ, Millis, NewMessage, Refs, Seq, UserId, room::Denied},
    store::{
        Appended, StoreError, StoreResult,
        slots::{Incarnation, Slot},
    },
};

/// The version of all of it. A node that gets another one says so, and the asker answers `unavailable`.
const VERSION: u8 = 4;

/// Most bytes of a request: half of what the servers take, so that a message with its heads and names always fits.
pub(super) const REQUEST_BYTES: usize = 512 << 10;
/// What a message costs besides its body, at most: a cid of 64 characters, a name, a number, and the array around them.
const MESSAGE_COST: usize = 400;
/// Most messages of one request.
const REQUEST_ROWS: usize = 256;
/// What it refers to costs besides: the message that it is about, and for each user whom it mentions a name.
const REFS_COST: usize = 200;
const MENTION_COST: usize = 70;
/// Most characters of a reason in words.
const WORDS: usize = 300;

/// Why a payload is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Of another version.
    #[error("it speaks version {0}, this node {VERSION}")]
    Version(u8),
    /// Not in the form.
    #[error("it cannot be read: {0}")]
    Form(String),
}

/// A node's announcement of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Here {
    /// Who it is now.
    #[serde(with = "incarnation")]
    pub(super) who: Incarnation,
    /// It drains: it takes no slots.
    pub(super) leaving: bool,
    /// Whom it hears.
    #[serde(with = "incarnations")]
    pub(super) hears: Vec<Incarnation>,
}

/// Asks a home to append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppendRequest {
    /// The asker's number for it, by which it asks what became of it.
    pub(super) id: u64,
    /// Where to.
    pub(super) conv: ConvId,
    /// What.
    #[serde(with = "messages")]
    pub(super) batch: Vec<NewMessage>,
}

/// What became of an [`AppendRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AppendAnswer {
    /// The outcome of each message, in order.
    Done(Vec<Outcome>),
    /// Nothing was done, for this reason; it may be asked again.
    Refused(String),
}

/// Asks a home to bring all heads of a conversation to the end of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MendRequest {
    /// The asker's number for it, as that of an append.
    pub(super) id: u64,
    /// Which.
    pub(super) conv: ConvId,
}

/// What became of a [`MendRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MendAnswer {
    /// All heads are at this seq.
    Done(#[serde(deserialize_with = "seq")] Seq),
    /// Not here.
    NotHome,
    /// Not done, or not known, for this reason; it may be asked again.
    Refused(String),
}

/// What became of one message: what the store answers, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// Stored.
    Stored(Seq, Millis, bool),
    /// The cid has another body, as this seq.
    CidReused(Seq),
    /// Unknown.
    Unavailable(String),
    /// Not stored: not at home.
    NotHome,
    /// Not stored: a kind of conversation that is not served.
    Unsupported,
    /// Not stored: the sender may not write it.
    Denied(Denied),
    /// Stored, until the last of these times.
    Lasting(Seq, Millis, bool, Millis),
}

/// Asks a node whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probe {
    /// The slot that is asked about.
    #[serde(with = "slot")]
    pub(super) slot: Slot,
    /// The append that waits for an answer; 0 for none.
    pub(super) id: u64,
}

/// That it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alive {
    /// Who it is now.
    #[serde(with = "incarnation")]
    pub(super) who: Incarnation,
    /// It is home of the slot, as far as it knows.
    pub(super) serves: bool,
    /// It has the append, and will answer it.
    pub(super) under_way: bool,
}

/// Asks a node to take a slot, or tells it that it was given one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TakeRequest {
    /// Which.
    #[serde(with = "slot")]
    pub(super) slot: Slot,
    /// Its last home gave it to the node that is told.
    pub(super) given: bool,
}

/// What became of a [`TakeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TakeAnswer {
    /// This incarnation is home of it.
    HomeIs(#[serde(with = "incarnation")] Incarnation),
    /// The node drains, or the store does not answer it: it takes none.
    Leaving,
    /// Not taken, for this reason.
    Refused(String),
}

/// Asks a node for its word on an incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WordRequest {
    /// On whom.
    #[serde(with = "incarnation")]
    pub(super) on: Incarnation,
}

/// A node's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    /// The incarnation answered it just now.
    pub(super) alive: bool,
}

/// Writes one of the above.
pub(super) fn encode(what: &impl Serialize) -> Bytes {
    rmp_serde::to_vec(&(VERSION, what)).map_or_else(
        |error| {
            // Writing to memory cannot fail, and nothing here is without a form; whoever gets this cannot read it.
            tracing::error!(%error, "a message between nodes could not be written");
            Bytes::new()
        },
        Bytes::from,
    )
}

/// Reads one of the above.
///
/// # Errors
/// [`Unreadable`], for whoever answers.
pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Unreadable> {
    let form = |error: rmp_serde::decode::Error| Unreadable::Form(error.to_string());
    // An array of two: the version, then what only that version can read.
    match payload {
        [0x92, VERSION, ..] => {}
        [0x92, version @ 0..=0x7f, ..] => return Err(Unreadable::Version(*version)),
        _ => return Err(Unreadable::Form("no version".to_owned())),
    }
    let mut rest = Cursor::new(&payload[2..]);
    let what = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(form)?;
    let read = usize::try_from(rest.position()).unwrap_or_default();
    if read + 2 == payload.len() { Ok(what) } else { Err(Unreadable::Form("bytes after the end".to_owned())) }
}

/// How many of these messages fit into one request: one at least.
pub(super) fn fitting(batch: &[NewMessage]) -> usize {
    let mut bytes = MESSAGE_COST;
    let fits = |message: &&NewMessage| {
        let refs = message.refs.as_deref().map_or(0, |refs| REFS_COST + refs.mentions.len() * MENTION_COST);
        bytes += message.body.size() + MESSAGE_COST + refs;
        bytes <= REQUEST_BYTES
    };
    batch.iter().take(REQUEST_ROWS).take_while(fits).count().clamp(1, batch.len().max(1))
}

impl From<StoreResult<Appended>> for Outcome {
    fn from(result: StoreResult<Appended>) -> Self {
        match result {
            Ok(Appended { seq, ts, fresh, expires: None }) => Self::Stored(seq, ts, fresh),
            Ok(Appended { seq, ts, fresh, expires: Some(expires) }) => Self::Lasting(seq, ts, fresh, expires),
            Err(StoreError::CidReused { seq }) => Self::CidReused(seq),
            Err(StoreError::Unavailable(words)) => Self::Unavailable(words.chars().take(WORDS).collect()),
            Err(StoreError::NotHome) => Self::NotHome,
            Err(error @ StoreError::Damaged(_)) => Self::Unavailable(error.to_string()),
            Err(StoreError::Unsupported(_)) => Self::Unsupported,
            Err(StoreError::Denied(why)) => Self::Denied(why),
        }
    }
}

impl From<Outcome> for StoreResult<Appended> {
    fn from(outcome: Outcome) -> Self {
        let known = |seq| (1..=MAX_SEQ).contains(&seq);
        Err(match outcome {
            Outcome::Stored(seq, ts, fresh) if known(seq) => return Ok(Appended { seq, ts, fresh, expires: None }),
            Outcome::Lasting(seq, ts, fresh, expires) if known(seq) => {
                return Ok(Appended { seq, ts, fresh, expires: Some(expires) });
            }
            Outcome::CidReused(seq) if known(seq) => StoreError::CidReused { seq },
            Outcome::Stored(..) | Outcome::Lasting(..) | Outcome::CidReused(_) => {
                StoreError::unavailable("a home's answer has no seq")
            }
            Outcome::Unavailable(words) => StoreError::unavailable(words.chars().take(WORDS).collect::<String>()),
            Outcome::NotHome => StoreError::NotHome,
            Outcome::Unsupported => StoreError::UNSERVED,
            Outcome::Denied(why) => StoreError::Denied(why),
        })
    }
}

/// A message, as it travels: its kind as a number, its sender and whether that is a service, the rest, and what it refers to.
#[derive(Serialize, Deserialize)]
struct Message(u8, UserId, bool, Cid, Millis, Body, Seq, Option<Box<Refs>>);

impl Message {
    fn into_new(self) -> Option<NewMessage> {
        let Self(kind, sender, service, cid, ts, body, read_upto, refs) = self;
        Some(NewMessage { kind: Kind::of(kind)?, sender, service, cid, ts, body, read_upto, refs })
    }
}

/// An incarnation, as it travels: its name is that of a user, or it could not be put into a subject.
#[derive(Serialize, Deserialize)]
struct Life(UserId, u64);

impl Life {
    fn incarnation(self) -> Incarnation {
        Incarnation { node: self.0.as_str().into(), number: self.1 }
    }

    fn of(who: &Incarnation) -> Option<Self> {
        Some(Self(UserId::new(&who.node).ok()?, who.number))
    }
}

mod messages {
    use super::*;

    pub(super) fn serialize<S: Serializer>(batch: &[NewMessage], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(batch.iter().map(|message| {
            let NewMessage { kind, sender, service, cid, ts, body, read_upto, refs } = message;
            (kind.byte(), sender, service, cid, ts, body, read_upto, refs)
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NewMessage>, D::Error> {
        let batch = Vec::<Message>::deserialize(from)?;
        if batch.is_empty() || batch.len() > REQUEST_ROWS {
            return Err(serde::de::Error::custom(format_args!("a batch of {} messages", batch.len())));
        }
        let messages = batch.into_iter().map(Message::into_new).collect::<Option<_>>();
        messages.ok_or_else(|| serde::de::Error::custom("a kind of row that this version does not know"))
    }
}

/// A seq, 0 for an empty log.
fn seq<'de, D: Deserializer<'de>>(from: D) -> Result<Seq, D::Error> {
    let seq = Seq::deserialize(from)?;
    if seq <= MAX_SEQ { Ok(seq) } else { Err(serde::de::Error::custom(format_args!("{seq} is no seq"))) }
}

mod slot {
    use super::*;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(slot: &Slot, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(slot.number())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Slot, D::Error> {
        let number = u16::deserialize(from)?;
        Slot::new(number).ok_or_else(|| serde::de::Error::custom(format_args!("{number} is no slot")))
    }
}

mod incarnation {
    use super::*;

    pub(super) fn serialize<S: Serializer>(who: &Incarnation, to: S) -> Result<S::Ok, S::Error> {
        Life::of(who).ok_or_else(|| serde::ser::Error::custom("no name of a node"))?.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Incarnation, D::Error> {
        Life::deserialize(from).map(Life::incarnation)
    }
}

mod incarnations {
    use super::*;

    pub(super) fn serialize<S: Serializer>(all: &[Incarnation], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().filter_map(Life::of))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Incarnation>, D::Error> {
        Ok(Vec::<Life>::deserialize(from)?.into_iter().map(Life::incarnation).collect())
    }
}

#[cfg(test)]
mod tests;
