//! What can be asked of natter through any door, and what is answered: plain data, without the frame around it.
//!
//! Every door (WebSocket frames, services' requests over NATS) turns its input into an [`Ask`] and an [`Outcome`] into
//! its own kind of answer; `ops` carries the ask out.

use serde::Serialize;

use super::{Body, ErrorCode, Message, Op, ServerFrame, server::Conversation};
use crate::model::{Cid, ConvId, Millis, Recipient, Seq};

/// A request, whatever door it came through.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Store and deliver a message.
    Send(Send),
    /// Raise the caller's read mark.
    Read(Read),
    /// Read a page of a log.
    History(History),
    /// Read a page of the caller's conversations.
    Conversations(Conversations),
    /// Pass on a live signal.
    Signal(Signal),
    /// An op of the protocol that this version does not serve.
    Unserved(Op),
}

/// Sends a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// To whom.
    pub to: Recipient,
    /// The sender's id for it.
    pub cid: Cid,
    /// The content.
    pub body: Body,
}

/// Everything up to `seq` was read by the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where.
    pub conv: ConvId,
    /// Up to here.
    pub seq: Seq,
}

/// Asks for older or newer messages of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Where.
    pub conv: ConvId,
    /// In which direction from which seq (exclusive).
    pub from: HistoryFrom,
    /// At most this many messages.
    pub limit: usize,
}

/// Where a history page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The last messages before this seq.
    Before(Seq),
    /// The first messages after this seq.
    After(Seq),
}

/// Asks for the list of conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversations {
    /// Where the page before ended.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// A live signal, never stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// To whom.
    pub to: Recipient,
    /// `typing` …
    pub kind: String,
    /// Anything.
    pub body: Option<Body>,
}

impl Ask {
    /// Which op it is.
    pub fn op(&self) -> Op {
        match self {
            Self::Send(_) => Op::Send,
            Self::Read(_) => Op::Read,
            Self::History(_) => Op::History,
            Self::Conversations(_) => Op::Conversations,
            Self::Signal(_) => Op::Signal,
            Self::Unserved(op) => *op,
        }
    }
}

/// What came of an [`Ask`] that was taken. Services get it as it is; for clients [`Answer::into_frame`] makes it a
/// frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Done, and there is nothing to say.
    Done,
    /// The message is durable.
    Sent {
        /// Where it stands.
        conv: ConvId,
        /// Its place.
        seq: Seq,
        /// The time stored with it.
        ts: Millis,
    },
    /// A page of a log.
    History {
        /// Which log.
        conv: ConvId,
        /// Oldest first.
        messages: Vec<Message>,
        /// Whether there is more in the direction asked for.
        more: bool,
    },
    /// A page of the list of conversations.
    Conversations {
        /// Most recent first.
        items: Vec<Conversation>,
        /// Where the next page starts.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
}

/// Why an ask was refused: what programs compare, and which field, what limit, what to do in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.word())]
pub struct Refused {
    /// The kind of fault.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
    /// How long to wait before the same request is worth another try, in milliseconds, where that is known.
    pub retry_after_ms: Option<u64>,
}

/// The end of every ask.
pub type Outcome = Result<Answer, Refused>;

impl Answer {
    /// The frame that carries it to a client; `None` where nothing is said.
    pub fn into_frame(self, reference: Option<u64>) -> Option<ServerFrame> {
        Some(match self {
            Self::Done => return None,
            Self::Sent { conv, seq, ts } => ServerFrame::Sent { reference, conv, seq, ts },
            Self::History { conv, messages, more } => ServerFrame::History { reference, conv, messages, more },
            Self::Conversations { items, next } => ServerFrame::Conversations { reference, items, next },
        })
    }
}

impl Refused {
    /// A refusal with its reason in words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The same, with how long to wait.
    pub fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    /// The `error` frame for it.
    pub fn into_frame(self, reference: Option<u64>) -> ServerFrame {
        let Self { code, message, retry_after_ms } = self;
        ServerFrame::Error { reference, code, message, retry: code.retry(), retry_after_ms }
    }
}
