//! Frames from a client: reading them, and saying exactly what is wrong with those that cannot be read.
//!
//! A frame is read into one flat struct whatever its op (serde's tagged enums would buffer the body), then into
//! [`ClientFrame`]. Only when that fails is it read again to find out which field to blame.

mod blame;
mod outgoing;

pub use outgoing::Outgoing;

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::{
    Ask, Body, Encoding, ErrorCode, Op, Refused,
    ask::{self, HistoryFrom},
    strict::{Strict, Text},
};
use crate::model::{Cid, ConvId, DeviceId, MAX_SEQ, NameError, RoomId, Seq};

/// A client's frame with the number it wants to see in the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The client's `ref`.
    pub reference: Option<u64>,
    /// What it asks.
    pub frame: ClientFrame,
}

/// Everything a client can say.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// Opens the session; must be first.
    Hello(Hello),
    /// Everything up to `seq` has arrived.
    Ack {
        /// Where.
        conv: ConvId,
        /// Up to here.
        seq: Seq,
    },
    /// A fresh token for the same user.
    Token {
        /// The JWT.
        token: String,
    },
    /// Asks for a `pong`: a sign of life for clients that cannot see WebSocket pings, like those in browsers.
    Ping,
    /// Everything that does not concern the connection itself.
    Ask(Ask),
}

impl ClientFrame {
    /// Which op it is.
    pub fn op(&self) -> Op {
        match self {
            Self::Hello(_) => Op::Hello,
            Self::Ack { .. } => Op::Ack,
            Self::Token { .. } => Op::Token,
            Self::Ping => Op::Ping,
            Self::Ask(ask) => ask.op(),
        }
    }
}

/// The first frame of a connection.
#[derive(Clone, PartialEq)]
pub struct Hello {
    /// The JWT, unless it came in the request's header.
    pub token: Option<String>,
    /// The device's name.
    pub device: DeviceId,
    /// The client's name and version, for logs.
    pub client: Option<String>,
    /// A counter that the client keeps over its reconnects (R11).
    pub attempt: u64,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        write!(f, "Hello {{ device: {}, client: {:?}, attempt: {} }}", self.device, self.client, self.attempt)
    }
}

/// Most messages in one `history` answer.
pub const HISTORY_LIMIT: usize = 200;
/// Most conversations in one `conversations` answer.
pub const CONVERSATIONS_LIMIT: usize = 100;
/// What a page holds at most where the client names no limit.
const DEFAULT_LIMIT: usize = 50;
/// Longest `type` of a signal, and longest `client` of a hello that is kept.
pub const SHORT_TEXT: usize = 64;

/// A frame that could not be read: what to answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refused}")]
pub struct FrameError {
    /// The client's `ref`, if that much could be read.
    pub reference: Option<u64>,
    /// Which field, and what it must be.
    pub refused: Refused,
}

/// Every field of every op. A field has one type whatever the op, but for `after`.
#[derive(Deserialize)]
struct Flat<'a> {
    #[serde(borrow)]
    op: Option<Text<'a>>,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    #[serde(borrow)]
    cid: Option<Text<'a>>,
    #[serde(borrow)]
    conv: Option<Text<'a>>,
    seq: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    body: Option<Body>,
    token: Option<String>,
    device: Option<String>,
    client: Option<String>,
    attempt: Option<u64>,
    before: Option<u64>,
    /// A seq for `history`, an opaque text for `conversations`.
    after: Option<After>,
    limit: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum After {
    Seq(u64),
    Text(String),
}

/// `null` is a body like any other; only a frame without the field has none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Body>, D::Error> {
    Body::deserialize(deserializer).map(Some)
}

impl Request {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// What to answer to the client.
    pub fn decode(encoding: Encoding, payload: &[u8]) -> Result<Self, FrameError> {
        let decoded = encoding.decode(payload).map_err(|words| blame::blame(encoding, payload, &words));
        let Strict::<Flat<'_>>(flat) = decoded?;
        let reference = flat.reference;
        let frame = flat.into_frame().map_err(|refused| FrameError { reference, refused })?;
        Ok(Self { reference, frame })
    }
}

fn bad_frame(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::BadFrame, message)
}

fn need<T>(field: &str, value: Option<T>) -> Result<T, Refused> {
    value.ok_or_else(|| bad_frame(format!("{field}: missing")))
}

fn name<T: FromStr<Err = NameError>>(field: &str, text: Option<impl AsRef<str>>) -> Result<T, Refused> {
    need(field, text)?.as_ref().parse().map_err(|e| Refused::new(ErrorCode::BadName, format!("{field}: {e}")))
}

fn seq(field: &str, value: Option<u64>) -> Result<Seq, Refused> {
    let value = need(field, value)?;
    if value <= MAX_SEQ { Ok(value) } else { Err(bad_frame(format!("{field}: must be below 2^53"))) }
}

fn limit(value: Option<u64>, most: usize) -> Result<usize, Refused> {
    match value.map(usize::try_from) {
        None => Ok(most.min(DEFAULT_LIMIT)),
        Some(Ok(n)) if (1..=most).contains(&n) => Ok(n),
        Some(_) => Err(bad_frame(format!("limit: must be 1 to {most}"))),
    }
}

impl Flat<'_> {
    fn into_frame(self) -> Result<ClientFrame, Refused> {
        let word = need("op", self.op.as_ref().map(Text::as_str))?;
        let Some(op) = Op::from_word(word) else {
            let shown: String = word.chars().take(SHORT_TEXT).collect();
            return Err(Refused::new(ErrorCode::UnknownOp, format!("op: no such op {shown:?}")));
        };
        Ok(ClientFrame::Ask(match op {
            Op::Hello => return self.into_hello(),
            Op::Ack => return Ok(ClientFrame::Ack { conv: name("conv", self.conv)?, seq: seq("seq", self.seq)? }),
            Op::Token => return Ok(ClientFrame::Token { token: need("token", self.token)? }),
            Op::Ping => return Ok(ClientFrame::Ping),
            Op::Send => Ask::Send(ask::Send {
                to: name("to", self.to)?,
                cid: name::<Cid>("cid", self.cid)?,
                body: need("body", self.body)?,
            }),
            Op::Read => Ask::Read(ask::Read { conv: name("conv", self.conv)?, seq: seq("seq", self.seq)? }),
            Op::History => Ask::History(self.into_history()?),
            Op::Conversations => Ask::Conversations(self.into_conversations()?),
            Op::Signal => {
                let (to, kind) = (name("to", self.to)?, signal_type(self.kind)?);
                Ask::Signal(ask::Signal { to, kind, body: self.body })
            }
            Op::Presence | Op::Join | Op::Leave => Ask::Unserved(op),
        }))
    }

    fn into_hello(self) -> Result<ClientFrame, Refused> {
        Ok(ClientFrame::Hello(Hello {
            token: self.token,
            device: name("device", self.device)?,
            client: self.client.map(|text| text.chars().take(SHORT_TEXT).collect()),
            attempt: self.attempt.unwrap_or(0),
        }))
    }

    fn into_history(self) -> Result<ask::History, Refused> {
        let from = match (self.before, self.after) {
            (Some(_), Some(_)) => return Err(bad_frame("before, after: give only one")),
            (Some(before), None) => HistoryFrom::Before(seq("before", Some(before))?),
            (None, Some(After::Seq(after))) => HistoryFrom::After(seq("after", Some(after))?),
            (None, Some(After::Text(_))) => return Err(bad_frame("after: must be a seq")),
            (None, None) => HistoryFrom::Before(MAX_SEQ),
        };
        let conv = name::<ConvId>("conv", self.conv)?;
        Ok(ask::History { conv, from, limit: limit(self.limit, HISTORY_LIMIT)? })
    }

    fn into_conversations(self) -> Result<ask::Conversations, Refused> {
        let after = match self.after {
            None => None,
            Some(After::Text(text)) => Some(text),
            Some(After::Seq(_)) => return Err(bad_frame("after: must be the `next` of an answer")),
        };
        Ok(ask::Conversations { after, limit: limit(self.limit, CONVERSATIONS_LIMIT)? })
    }
}

/// The `type` of a signal: the same alphabet as names.
///
/// # Errors
/// What is wrong with it.
pub fn signal_type(kind: Option<String>) -> Result<String, Refused> {
    let kind = need("type", kind)?;
    name::<RoomId>("type", Some(&kind))?;
    Ok(kind)
}
