//! What can be asked of natter through any door, and what is answered: one file per op, with its fields and its answer.
//! The table in `op` makes [`Ask`](super::Ask) and [`Answer`] of them.
//!
//! Every door (WebSocket frames, services' requests over NATS) turns its input into an ask and an [`Outcome`] into its own
//! kind of answer; `ops` carries the ask out.

mod about;
mod blocks;
mod conversations;
mod erase;
mod history;
mod mint;
mod presence;
mod read;
mod readers;
mod rooms;
mod send;
mod send_many;
mod sessions;
mod signal;

pub use self::{
    about::{About, Say},
    blocks::{BLOCKS_LIMIT, Block, Blocking, Blocks, BlocksPage},
    conversations::{CONVERSATIONS_LIMIT, Conversation, Conversations, ConversationsPage, PeerMarks},
    erase::{Erase, Erased},
    history::{HISTORY_LIMIT, History, HistoryFrom, HistoryPage},
    mint::{MINT_TTL, Mint, Minted},
    presence::{PRESENCE_LIMIT, Presence, Presences, Seen},
    read::Read,
    readers::{Reader, Readers, ReadersPage},
    rooms::{
        ChangeRoom, Members, MembersPage, OneRoom, ROOMS_LIMIT, RoomChanged, RoomLog, RoomMember, RoomShown, RoomView,
        Rooms, RoomsPage,
    },
    send::{Send, SendOptions, Sent},
    send_many::{SEND_MANY_LIMIT, SendMany, SentMany, SentTo},
    sessions::{EndSession, Ended, LiveSession, SeenDevice, Sessions, SessionsPage},
    signal::{Signal, signal_type},
};
use serde::{Deserialize, Serialize};

use super::{Answer, ErrorCode, ServerFrame};

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

/// A refusal as services read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// Which kind.
    pub code: ErrorCode,
    /// Which field, what limit, what to do.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// How long to wait before that, in milliseconds, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Refused { code, message, retry_after_ms } = refused;
        Self { code, message, retry: code.retry(), retry_after_ms }
    }
}

/// The end of every ask.
pub type Outcome = Result<Answer, Refused>;

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
