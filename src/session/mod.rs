//! The session state machine: what a connection's frames, notices and store answers mean. No I/O in it: events
//! in, [`Effect`]s out; time is a number that the caller passes in. The pump in the gateway owns the socket, the
//! store and the bus and carries the effects out.
//!
//! [`delivery`] is the part that I2, I3 and I6 rest on; it is tested against a simple model with random
//! interleavings.

pub mod delivery;
pub mod joined;

pub use delivery::Delivery;
pub use joined::{Identity, Joined};

use crate::{
    model::{Cid, ConvId, Millis, Seq, UserId},
    protocol::{Body, CloseReason, ErrorCode, ServerFrame, client::HistoryFrom},
};

/// Monotonic milliseconds since any fixed moment: the session's only clock.
pub type Tick = u64;

/// [`Rules::page_rows`] of a node: not a setting, but tests use smaller pages.
pub const PAGE_ROWS: usize = 64;
/// [`Rules::behind`] of a node.
pub const BEHIND: usize = 64;
/// [`Rules::known`] of a node.
pub const KNOWN: usize = 32;

/// What every session of a node keeps to. Times in milliseconds. The node makes them from its configuration, which
/// has the default of every setting.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most messages handed out and not yet acknowledged.
    pub window: u64,
    /// Most bytes of a message body.
    pub body_bytes: usize,
    /// Most requests under way before the socket is read no further.
    pub pending: usize,
    /// Most rows of one fill page.
    pub page_rows: usize,
    /// Most conversations filled one after another; the others wait in the store, not in memory.
    pub behind: usize,
    /// Conversations whose position is kept although nothing is under way there.
    pub known: usize,
    /// At least this long between two writes of one cursor.
    pub ack_coalesce: Tick,
    /// From the fence to the second look at the heads.
    pub recheck: Tick,
    /// Between two slow sweeps; 0 switches them off.
    pub reconcile: Tick,
    /// Unacknowledged for so long, a message counts as not delivered for push services.
    pub offline_after: Tick,
    /// Between two pings.
    pub ping: Tick,
    /// Silence after which a peer is dead.
    pub idle: Tick,
    /// How long a peer may leave what was written to it unread.
    pub stall: Tick,
}

/// Why the heads are compared: a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A session starts.
    Login,
    /// Once more, about a second after a fence.
    Recheck,
    /// The connection to NATS was made anew.
    Reconnect,
    /// Notices were dropped on the way to this node.
    SlowConsumer,
    /// The slow pass over all sessions.
    Sweep,
    /// More was heard than this session keeps in memory.
    Lagged,
}

/// What a session wants done. `L` is a message that arrived live, `R` a row that was read from a log: the session
/// looks at neither.
#[derive(Debug, PartialEq)]
pub enum Effect<L, R> {
    /// Hand a live message to the socket.
    HandLive(L),
    /// Hand a row to the socket.
    HandRow(ConvId, R),
    /// Write a frame.
    Frame(ServerFrame),
    /// Append a message to the conversation with this user.
    Append {
        /// The request's `ref`.
        reference: Option<u64>,
        /// To whom.
        to: UserId,
        /// The sender's id for it.
        cid: Cid,
        /// The content.
        body: Body,
    },
    /// Read a page of a log; from the stored cursor when `after` is `None`.
    Fill {
        /// Which log.
        conv: ConvId,
        /// The position.
        after: Option<Seq>,
        /// Most rows.
        rows: usize,
    },
    /// Read one page of heads above cursors.
    Compare {
        /// Where the page before ended.
        after: Option<ConvId>,
        /// Why.
        cause: Cause,
    },
    /// Read the top and the stored cursor of a conversation.
    ReadTop(Marking),
    /// Raise the stored cursor, then tell the other side.
    RaiseCursor {
        /// Which conversation.
        conv: ConvId,
        /// Up to here.
        seq: Seq,
    },
    /// Raise the read mark, then tell both sides.
    RaiseRead(Marking),
    /// Read a page for `history`.
    History {
        /// The request's `ref`.
        reference: Option<u64>,
        /// Which log.
        conv: ConvId,
        /// From where.
        from: HistoryFrom,
        /// Most messages.
        limit: usize,
    },
    /// Read the list of conversations.
    Conversations {
        /// The request's `ref`.
        reference: Option<u64>,
        /// Where the page before ended.
        after: Option<String>,
        /// Most rows.
        limit: usize,
    },
    /// Publish a live signal.
    Signal {
        /// To whom.
        to: UserId,
        /// `typing` …
        kind: String,
        /// Anything.
        body: Option<Body>,
    },
    /// Check a fresh token.
    Refresh {
        /// The request's `ref`.
        reference: Option<u64>,
        /// The JWT.
        token: String,
    },
    /// Tell the user's other nodes that this session exists (R11).
    Announce,
    /// A message lies unacknowledged too long.
    Unheard {
        /// Which conversation.
        conv: ConvId,
        /// The first that was not acknowledged.
        seq: Seq,
    },
    /// Ping the peer.
    Ping,
    /// Close the connection.
    Close(CloseReason),
}

/// An `ack` or a `read` that waits for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marking {
    /// The request's `ref`, for an error.
    pub reference: Option<u64>,
    /// Which conversation.
    pub conv: ConvId,
    /// Up to here.
    pub seq: Seq,
    /// Which of the two.
    pub mark: Mark,
}

/// What an acknowledgement moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The device's cursor (`ack`).
    Cursor,
    /// The user's read mark (`read`).
    Read,
}

/// The error frame for a refused request.
pub fn refusal(reference: Option<u64>, code: ErrorCode, message: impl Into<String>) -> ServerFrame {
    ServerFrame::Error { reference, code, message: message.into(), retry: code.retry() }
}

/// When a token ends, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// On the session's clock.
    pub tick: Tick,
    /// On the wall, for people.
    pub at: Millis,
}
