//! Frames from a client: reading them, and saying exactly what is wrong with those that cannot be read.
//!
//! A frame is read into one flat struct whatever its op (serde's tagged enums would buffer the body), then into
//! [`ClientFrame`]. Only when that fails is it read again to find out which field to blame.

pub(super) mod blame;
mod outgoing;

use compact_str::CompactString;
pub use outgoing::{Changing, Outgoing, Referring};

use super::{
    Ask, Encoding, ErrorCode, Op, Refused,
    fields::{Fields, FromFields, SHORT_TEXT, name, need, seq, since},
    strict::{Strict, Text},
};
use crate::model::{ConvId, DeviceId, Seq};

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
    /// The last that `caught_up` brought (R12).
    pub since: Option<CompactString>,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        write!(f, "Hello {{ device: {}, client: {:?}, attempt: {} }}", self.device, self.client, self.attempt)
    }
}

/// A frame that could not be read: what to answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refused}")]
pub struct FrameError {
    /// The client's `ref`, if that much could be read.
    pub reference: Option<u64>,
    /// Which field, and what it must be.
    pub refused: Refused,
}

impl Request {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// What to answer to the client.
    pub fn decode(encoding: Encoding, payload: &[u8]) -> Result<Self, FrameError> {
        let decoded = encoding.decode(payload).map_err(|words| blame::blame(encoding, payload, &words));
        let Strict::<Fields<'_>>(fields) = decoded?;
        let reference = fields.reference;
        let frame = fields.into_frame().map_err(|refused| FrameError { reference, refused })?;
        Ok(Self { reference, frame })
    }
}

impl Fields<'_> {
    fn into_frame(self) -> Result<ClientFrame, Refused> {
        let word = need("op", self.op.as_ref().map(Text::as_str))?;
        let Some(op) = Op::from_word(word).filter(|op| op.is_for_clients()) else {
            let shown: String = word.chars().take(SHORT_TEXT).collect();
            return Err(Refused::new(ErrorCode::UnknownOp, format!("op: no such op {shown:?}")));
        };
        Ok(match op {
            Op::Hello => ClientFrame::Hello(Hello::from_fields(self)?),
            Op::Ack => ClientFrame::Ack { conv: name("conv", self.conv)?, seq: seq("seq", self.seq)? },
            Op::Token => ClientFrame::Token { token: need("token", self.token)? },
            Op::Ping => ClientFrame::Ping,
            asked => ClientFrame::Ask(Ask::from_fields(asked, self)?),
        })
    }
}

impl FromFields for Hello {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self {
            token: fields.token,
            device: name("device", fields.device)?,
            client: fields.client.map(|text| text.chars().take(SHORT_TEXT).collect()),
            attempt: fields.attempt.unwrap_or(0),
            since: fields.since.map(since).transpose()?,
        })
    }
}
