//! The durable side: logs, heads, cursors, read marks, devices, behind one trait with an engine per module.
//!
//! Called by [`appender`] (the only caller of [`Store::append`]) and by the gateway's store requests. What an
//! engine promises is written at each method and checked for every engine by the contract suite under `tests/`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::model::{Cid, ConvId, DeviceId, Millis, Seq, UserId};

pub mod appender;
pub mod embedded;
pub mod scylla;

/// A message that has no place in its log yet.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Who wrote it: a user or a service.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// The body as MessagePack, checked by [`crate::protocol::body`].
    pub body: Bytes,
}

/// Where a message stands after an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub seq: Seq,
    /// The time that was stored with it: that of the first try.
    pub ts: Millis,
    /// False when (sender, cid) was already stored: a retry.
    pub fresh: bool,
}

/// One message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// The body as MessagePack.
    pub body: Bytes,
}

/// A conversation of a user as the inbox knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The conversation.
    pub conv: ConvId,
    /// Its recorded top.
    pub head: Seq,
    /// The time of the message at the head.
    pub ts: Millis,
}

/// A conversation in which a device has not acknowledged everything: head > cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The conversation.
    pub conv: ConvId,
    /// Its recorded top.
    pub head: Seq,
    /// The device's stored cursor; 0 where it has none.
    pub cursor: Seq,
}

/// One page of an ordered listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found, in the order of the conversation ids.
    pub items: Vec<T>,
    /// Ask again with this as `after`; `None` at the end.
    pub next: Option<ConvId>,
    /// Rows that the store read for it: what the reconcile budget counts.
    pub scanned: usize,
}

/// How much of a log to read at once. A page always holds at least one row if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// At most this many rows.
    pub rows: usize,
    /// Stop after the row that brings the bodies to this many bytes.
    pub bytes: usize,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The cid is stored in this conversation with another body.
    #[error("this cid was already used for another body, as seq {seq}")]
    CidReused {
        /// Where the other body stands.
        seq: Seq,
    },
    /// The store did not answer in time or refuses; what was asked may have happened or not.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The conversation kind is not served (rooms, for now).
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
}

impl StoreError {
    /// An [`StoreError::Unavailable`] with its cause in words.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::Unavailable(cause.to_string().into())
    }
}

/// What every engine gives back.
pub type StoreResult<T> = Result<T, StoreError>;

/// The store as natter needs it. All methods may be called from any task at any time; none blocks the caller's
/// thread. Engines bound their own time: an answer, or [`StoreError::Unavailable`], comes within a few seconds.
pub trait Store: Send + Sync + 'static {
    /// Appends `batch`, in its order, to a direct conversation, and answers for each message by its (sender, cid).
    ///
    /// When a message's answer is `Ok`:
    /// - it is durable (I1) and has exactly one seq for ever (I4), fresh or not;
    /// - every head of the conversation (both users' `inbox`) is at or above its seq, the recipient's raised
    ///   before the sender's (R2), also for a retry (R3);
    /// - the sender's read mark is at or above its seq.
    ///
    /// The caller keeps at most one append of a conversation in flight per node ([`appender`] does); other nodes
    /// may append at the same time. Duplicate (sender, cid) pairs inside a batch get one seq.
    ///
    /// # Errors
    /// Per message: [`StoreError::CidReused`], or [`StoreError::Unavailable`], after which it may or may not be
    /// stored: the sender retries with the same cid.
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>>;

    /// Reads forward: the rows after `after`, oldest first, dense from `after + 1` (cut at the first seq that is
    /// not the next, R18). No row is returned above a head: whoever meets one raises the heads first (R4).
    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>>;

    /// Reads backward: the last rows before `before`, returned oldest first and dense up to the smaller of
    /// `before - 1` and the top. `Seq::MAX` reads the end of the log. Heads as in [`Store::read_after`].
    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>>;

    /// The highest seq that exists, known from rows, never from a notice (R1).
    fn top<'a>(&'a self, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>>;

    /// A user's conversations in the order of their ids, at most `limit` rows scanned per page.
    fn inbox<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Head>>>;

    /// The conversations in which the device is behind (head > cursor), in the order of their ids; at most
    /// `limit` items and about as many conversations scanned per page, so a page may be empty and have a `next`.
    fn gaps<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Gap>>>;

    /// A device's cursor in a conversation; 0 where it has none.
    fn cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
    ) -> BoxFuture<'a, StoreResult<Seq>>;

    /// Raises a cursor. It never goes back: a smaller value changes nothing. Not fsynced on its own: losing it
    /// means handing out again, never losing.
    fn raise_cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
        seq: Seq,
    ) -> BoxFuture<'a, StoreResult<()>>;

    /// How far any of the user's devices has acknowledged the conversation: `delivered` in receipts and listings.
    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>>;

    /// A user's read mark; 0 where there is none.
    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>>;

    /// Raises a read mark. It never goes back.
    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, seq: Seq) -> BoxFuture<'a, StoreResult<()>>;

    /// Makes a device known, durably, before its first `welcome`; true when it is new. A new device's cursors start
    /// at the user's read marks of this moment; they are stored before the device is, so that a crash in
    /// between leaves a device that is still new.
    fn register_device<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> BoxFuture<'a, StoreResult<bool>>;

    /// Whether writes are taken, for `/readyz`: an answer within a second or so.
    fn health(&self) -> BoxFuture<'_, StoreResult<()>>;

    /// Writes what is not yet durable (cursors) and stops. Calls after it answer [`StoreError::Unavailable`].
    fn close(&self) -> BoxFuture<'_, StoreResult<()>>;
}

/// The longest any engine may let a caller wait before it says [`StoreError::Unavailable`].
pub const STORE_DEADLINE: Duration = Duration::from_millis(crate::config::MAX_STORE_WAIT_MS);
