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
    Body, Encoding, ErrorCode,
    strict::{Strict, Text},
};
use crate::model::{Cid, ConvId, DeviceId, MAX_SEQ, NameError, Recipient, RoomId, Seq};

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
    /// Sends a message.
    Send {
        /// To whom.
        to: Recipient,
        /// The sender's id for it.
        cid: Cid,
        /// The content.
        body: Body,
    },
    /// Everything up to `seq` has arrived.
    Ack {
        /// Where.
        conv: ConvId,
        /// Up to here.
        seq: Seq,
    },
    /// Everything up to `seq` was read by the person.
    Read {
        /// Where.
        conv: ConvId,
        /// Up to here.
        seq: Seq,
    },
    /// Asks for older or newer messages of a conversation.
    History {
        /// Where.
        conv: ConvId,
        /// In which direction from which seq (exclusive); neither means the end of the log.
        from: HistoryFrom,
        /// At most this many messages.
        limit: usize,
    },
    /// Asks for the list of conversations.
    Conversations {
        /// Where the page before ended.
        after: Option<String>,
        /// At most this many.
        limit: usize,
    },
    /// A live signal, never stored.
    Signal {
        /// To whom.
        to: Recipient,
        /// `typing` …
        kind: String,
        /// Anything.
        body: Option<Body>,
    },
    /// A fresh token for the same user.
    Token {
        /// The JWT.
        token: String,
    },
    /// An op of the protocol that this version does not serve yet: `presence`, `join`, `leave`.
    Later(&'static str),
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

/// Where a history page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The last messages before this seq.
    Before(Seq),
    /// The first messages after this seq.
    After(Seq),
}

/// Most messages in one `history` answer.
pub const HISTORY_LIMIT: usize = 200;
/// Most conversations in one `conversations` answer.
pub const CONVERSATIONS_LIMIT: usize = 100;
/// Longest `type` of a signal, and longest `client` of a hello that is kept.
pub const SHORT_TEXT: usize = 64;

/// A frame that could not be read: what to answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct FrameError {
    /// The client's `ref`, if that much could be read.
    pub reference: Option<u64>,
    /// The kind of fault.
    pub code: ErrorCode,
    /// Which field, and what it must be.
    pub message: String,
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
    /// Reads a client's frame. `body_limit` in bytes, for either encoding.
    ///
    /// # Errors
    /// What to answer to the client.
    pub fn decode(encoding: Encoding, payload: &[u8], body_limit: usize) -> Result<Self, FrameError> {
        let decoded = encoding.decode(payload).map_err(|words| blame::blame(encoding, payload, &words));
        let Strict::<Flat<'_>>(flat) = decoded?;
        let reference = flat.reference;
        let frame = flat.into_frame(body_limit).map_err(|(code, message)| FrameError { reference, code, message })?;
        Ok(Self { reference, frame })
    }
}

type Fault = (ErrorCode, String);

fn need<T>(field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| (ErrorCode::BadFrame, format!("{field}: missing")))
}

fn name<T: FromStr<Err = NameError>>(field: &str, text: Option<impl AsRef<str>>) -> Result<T, Fault> {
    need(field, text)?.as_ref().parse().map_err(|e| (ErrorCode::BadName, format!("{field}: {e}")))
}

fn seq(field: &str, value: Option<u64>) -> Result<Seq, Fault> {
    let value = need(field, value)?;
    if value <= MAX_SEQ { Ok(value) } else { Err((ErrorCode::BadFrame, format!("{field}: must be below 2^53"))) }
}

fn limit(value: Option<u64>, most: usize) -> Result<usize, Fault> {
    match value.map(usize::try_from) {
        None => Ok(most.min(50)),
        Some(Ok(n)) if (1..=most).contains(&n) => Ok(n),
        Some(_) => Err((ErrorCode::BadFrame, format!("limit: must be 1 to {most}"))),
    }
}

fn sized(body: Body, limit: usize) -> Result<Body, Fault> {
    if body.fits(limit) {
        Ok(body)
    } else {
        Err((ErrorCode::TooLarge, format!("body: over the limit of {limit} bytes (as JSON and as MessagePack)")))
    }
}

impl Flat<'_> {
    fn into_frame(self, body_limit: usize) -> Result<ClientFrame, Fault> {
        let op = need("op", self.op.as_ref().map(Text::as_str))?;
        Ok(match op {
            "send" => ClientFrame::Send {
                to: name("to", self.to)?,
                cid: name::<Cid>("cid", self.cid)?,
                body: sized(need("body", self.body)?, body_limit)?,
            },
            "ack" => ClientFrame::Ack { conv: name("conv", self.conv)?, seq: seq("seq", self.seq)? },
            "read" => ClientFrame::Read { conv: name("conv", self.conv)?, seq: seq("seq", self.seq)? },
            "hello" => ClientFrame::Hello(Hello {
                token: self.token,
                device: name("device", self.device)?,
                client: self.client.map(|text| text.chars().take(SHORT_TEXT).collect()),
                attempt: self.attempt.unwrap_or(0),
            }),
            "history" => self.into_history()?,
            "conversations" => self.into_conversations()?,
            "signal" => ClientFrame::Signal {
                to: name("to", self.to)?,
                kind: signal_type(self.kind)?,
                body: self.body.map(|body| sized(body, body_limit)).transpose()?,
            },
            "token" => ClientFrame::Token { token: need("token", self.token)? },
            "presence" => ClientFrame::Later("presence"),
            "join" => ClientFrame::Later("join"),
            "leave" => ClientFrame::Later("leave"),
            other => {
                let shown: String = other.chars().take(SHORT_TEXT).collect();
                return Err((ErrorCode::UnknownOp, format!("op: no such op {shown:?}")));
            }
        })
    }

    fn into_history(self) -> Result<ClientFrame, Fault> {
        let from = match (self.before, self.after) {
            (Some(_), Some(_)) => return Err((ErrorCode::BadFrame, "before, after: give only one".into())),
            (Some(before), None) => HistoryFrom::Before(seq("before", Some(before))?),
            (None, Some(After::Seq(after))) => HistoryFrom::After(seq("after", Some(after))?),
            (None, Some(After::Text(_))) => return Err((ErrorCode::BadFrame, "after: must be a seq".into())),
            (None, None) => HistoryFrom::Before(MAX_SEQ),
        };
        let conv = name::<ConvId>("conv", self.conv)?;
        Ok(ClientFrame::History { conv, from, limit: limit(self.limit, HISTORY_LIMIT)? })
    }

    fn into_conversations(self) -> Result<ClientFrame, Fault> {
        let after = match self.after {
            None => None,
            Some(After::Text(text)) => Some(text),
            Some(After::Seq(_)) => return Err((ErrorCode::BadFrame, "after: must be the `next` of an answer".into())),
        };
        Ok(ClientFrame::Conversations { after, limit: limit(self.limit, CONVERSATIONS_LIMIT)? })
    }
}

fn signal_type(kind: Option<String>) -> Result<String, Fault> {
    let kind = need("type", kind)?;
    name::<RoomId>("type", Some(&kind))?; // the same alphabet as names
    Ok(kind)
}
