//! The durable side: logs, inboxes, marks and devices, each behind a trait of its own, with an engine per module.
//!
//! Called by [`appender`] (the only caller of [`Logs::append`]) and by whatever reads logs, heads and marks for a
//! session or a service. What an engine promises is written at each method and checked for every engine by the
//! contract suite under `tests/`.

use std::{sync::Arc, time::Duration};

use compact_str::CompactString;
use futures_util::future::BoxFuture;

use crate::model::{
    Audience, Body, Cid, ConvId, Counts, Device, DeviceId, Folded, Gap, Kind, MAX_SEQ, Millis, NewMessage, ReadMark,
    Refs, Row, Seq, UserId,
};

pub mod appender;
pub mod embedded;
mod error;
pub mod fence;
mod folds;
mod holes;
pub mod keys;
mod level;
pub mod people;
pub mod rooms;
pub mod scylla;
pub mod slots;

pub use error::{StoreError, StoreResult, is_served};
pub use folds::{Behind, Folds};
pub use keys::Keys;
pub use people::{People, Tie};
pub use rooms::{RoomRow, Rooms};

/// The longest any engine may let a caller wait before it says [`StoreError::Unavailable`].
pub const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// What every store call returns.
pub type StoreFuture<'a, T> = BoxFuture<'a, StoreResult<T>>;

/// The store as natter needs it: traits that one engine implements, or a test's wrapper around one of them.
/// Cheap to clone.
///
/// All methods may be called from any task at any time; none blocks the caller's thread. Engines bound their own
/// time: an answer, or [`StoreError::Unavailable`], comes within [`STORE_DEADLINE`]. Any of them may answer
/// [`StoreError::Damaged`] where the disk has changed what was stored.
#[derive(Clone)]
pub struct Store {
    /// The messages.
    pub logs: Arc<dyn Logs>,
    /// Which conversations a user has, and where a device is behind.
    pub inbox: Arc<dyn Inbox>,
    /// Cursors, read marks and devices.
    pub marks: Arc<dyn Marks>,
    /// Rooms and their members.
    pub rooms: Arc<dyn Rooms>,
    /// Who was seen when, and who blocks whom.
    pub people: Arc<dyn People>,
    /// What stands beside the messages.
    pub folds: Arc<dyn Folds>,
    /// What bodies are sealed with.
    pub keys: Arc<dyn Keys>,
    /// The engine itself.
    pub engine: Arc<dyn Engine>,
    /// Who may append to what, where several nodes share the store.
    pub slots: Option<Arc<dyn slots::Slots>>,
}

impl Store {
    /// A store whose parts are all this engine.
    pub fn of(engine: Arc<impl Logs + Inbox + Marks + Rooms + Folds + People + Keys + Engine>) -> Self {
        Self {
            logs: engine.clone(),
            inbox: engine.clone(),
            marks: engine.clone(),
            rooms: engine.clone(),
            people: engine.clone(),
            folds: engine.clone(),
            keys: engine.clone(),
            engine,
            slots: None,
        }
    }

    /// The same for an engine that several nodes share.
    pub fn shared(
        engine: Arc<impl Logs + Inbox + Marks + Rooms + Folds + People + Keys + Engine + slots::Slots>,
    ) -> Self {
        Self { slots: Some(engine.clone()), ..Self::of(engine) }
    }
}

/// Rows that are looked through for a cid where there is no table of them.
const LOOKED_THROUGH: usize = 256;

/// The logs: one per conversation.
pub trait Logs: Send + Sync + 'static {
    /// Appends `batch`, in its order, to a direct conversation, and answers for each message by its (sender, cid).
    ///
    /// When a message's answer is `Ok`:
    /// - it is durable (I1) and has exactly one seq forever (I4), fresh or not;
    /// - every head of the conversation (one per user of its [`Audience`]) is at or above its seq (R2), also for a
    ///   retry (R3); a sender that is a service has no inbox, so that no head of it is raised for what it wrote;
    /// - the sender's read mark is at or above its seq, where nothing below was kept from the sender
    ///   ([`crate::model::moves_mark`]); otherwise the mark stays.
    ///
    /// Appends of one conversation may be under way at the same time. Duplicate (sender, cid) pairs inside a batch get
    /// one seq.
    ///
    /// # Errors
    /// Per message: [`StoreError::CidReused`], or [`StoreError::Unavailable`], after which it may or may not be
    /// stored: the sender retries with the same cid. [`StoreError::NotHome`] from an engine with [`slots`], for its
    /// caller there.
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>>;

    /// Reads forward: the rows after `after`, oldest first, dense from `after + 1` (cut at the first seq that is
    /// not the next, R18). No row is returned above the heads (R4).
    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>>;

    /// Reads backward: the last rows before `before`, returned oldest first and dense up to the smaller of
    /// `before - 1` and the top. `Seq::MAX` reads the end of the log. Heads as in [`Logs::read_after`].
    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>>;

    /// The message with this cid of a sender, where it is stored and a second try of it would still be known as one: at or
    /// below the heads. For whoever must not append and wants to know whether somebody has.
    ///
    /// This default looks through the end of the log; an engine that keeps cids looks there.
    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        Box::pin(async move {
            let last = self.read_before(conv, MAX_SEQ, Span { rows: LOOKED_THROUGH, bytes: usize::MAX }).await?;
            Ok(last.into_iter().rev().find(|row| row.sender == *sender && row.cid == *cid))
        })
    }

    /// The first seq after `after`, up to `upto`, at which there is a row: `after + 1`, or where the log goes on behind a
    /// hole, which no log has unless rows were lost. An engine that cannot look for it finds one by a few probes; of
    /// several holes it may then pass over rows between them.
    fn next_row<'a>(&'a self, conv: &'a ConvId, after: Seq, upto: Seq) -> StoreFuture<'a, Option<Seq>> {
        Box::pin(holes::next_row(self, conv, after, upto))
    }

    /// The highest seq that may be read, known from rows or heads, never from a notice (R1).
    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq>;

    /// How far the log is known to go: `seq` or more where it goes that far, else its top. Asks the store only where that
    /// is not known here already.
    fn reaches<'a>(&'a self, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, Seq> {
        let _ = seq;
        self.top(conv)
    }

    /// How many messages the log has up to `seq`. `known` is a seq that the caller knows to exist (a position, a row):
    /// up to there, and as far as is known here, the top is not asked for.
    ///
    /// Where the row at `seq` was lost, what was counted at the last one before it.
    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, known: Seq) -> StoreFuture<'a, CountsAt> {
        Box::pin(async move {
            let top = if seq <= known { seq } else { self.top(conv).await? };
            if seq > top {
                return Ok(CountsAt::AboveTop(top));
            }
            let before = seq.saturating_add(1).min(MAX_SEQ);
            let last = self.read_before(conv, before, Span { rows: 1, bytes: usize::MAX }).await?.pop();
            Ok(CountsAt::Known(last.map_or(Counts::default(), |row| row.counts)))
        })
    }

    /// Makes sure that all heads of a conversation are at the end of its log, and returns that seq: for a store that lost
    /// heads, or got rows and heads of different moments. Places nothing. Repeat it until it is answered.
    ///
    /// Where heads and rows are one commit, as this default has it, they cannot differ.
    ///
    /// # Errors
    /// [`StoreError::NotHome`] as in [`Logs::append`].
    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.top(conv)
    }
}

/// Whether a user's heads may have changed. Only equality means anything, and only of clean ones: heads that were compared
/// *after* clean stamps were read miss nothing that was answered before the same stamps are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps {
    /// Opaque, printable, at most 64 bytes. Empty for a user without conversations.
    pub value: CompactString,
    /// Nothing is under way: only then may they be compared with later ones.
    pub clean: bool,
    /// The device that was asked for is not known in this life any more: its cursors are gone or going.
    pub retired: bool,
    /// A room may have heard of the user: only then is there anything to compare in rooms.
    pub in_rooms: bool,
}

/// Listings of a user's conversations, in the order of their ids, in pages.
pub trait Inbox: Send + Sync + 'static {
    /// A user's conversations after `after`, at most `limit` rows scanned per page.
    fn conversations<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> StoreFuture<'a, Page<InboxRow>>;

    /// Whole inbox rows of these conversations of a user, in their order: the most that is read for a list.
    /// Conversations without a head are left out.
    fn details<'a>(&'a self, user: &'a UserId, convs: &'a [ConvId]) -> StoreFuture<'a, Vec<InboxDetail>>;

    /// The conversations after `after` in which the device is behind (head > cursor); at most `limit` items and
    /// about `scan` conversations looked at per page, so a page may be empty and have a `next`. Cursors are read after
    /// heads.
    fn gaps<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreFuture<'a, Compared>;

    /// The stamps of the inbox of a device's user now: one row, instead of a comparison of all heads.
    fn stamps<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, Stamps>;
}

/// How far devices have acknowledged and people have read, and which devices there are.
pub trait Marks: Send + Sync + 'static {
    /// A device's cursor in a conversation; 0 where it has none.
    fn cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId) -> StoreFuture<'a, Seq>;

    /// Raises a cursor. It never goes back: a smaller value changes nothing. Not fsynced on its own: losing it
    /// means handing out again, never losing.
    fn raise_cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, ()>;

    /// How far any of the user's devices has acknowledged the conversation: `delivered` in receipts and listings.
    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq>;

    /// A user's read mark; 0 where there is none.
    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq>;

    /// How far a user's devices and the user have come: [`Marks::delivered`] and [`Marks::read_mark`] in one read.
    fn of_user<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, UserMarks> {
        Box::pin(async move {
            let delivered = self.delivered(user, conv).await?;
            Ok(UserMarks { delivered, read: self.read_mark(user, conv).await?, noted: MAX_SEQ })
        })
    }

    /// Raises a read mark. It never goes back.
    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, mark: ReadMark) -> StoreFuture<'a, ()>;

    /// A device logs in; its life is not looked at, the answer tells it. One that is not known becomes so, durably, before
    /// its first `welcome`: with a life of its own, whose cursors start at the user's read marks of this moment. They are
    /// stored before the device is, so that a crash in between leaves a device that is still new. Of more than `most`
    /// devices those that logged in longest ago are retired.
    ///
    /// Of two calls at once for a device that is not known each may get a life: that of the larger connection stays.
    fn enter<'a>(&'a self, device: &'a Device, most: usize) -> StoreFuture<'a, Entered>;

    /// A device is in use, in its life, though it did not log in just now: counts as a login does, where it was not seen for
    /// `within`. Does nothing for one that was retired.
    fn refresh<'a>(&'a self, device: &'a Device, within: Duration) -> StoreFuture<'a, ()>;

    /// The devices of a user, in no order.
    fn devices<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, Vec<KnownDevice>>;

    /// Makes a device unknown and forgets its cursors; false where it is not known. A session of it goes on until it
    /// looks at [`Stamps::retired`].
    fn retire<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> StoreFuture<'a, bool>;
}

/// What concerns an engine as a whole.
pub trait Engine: Send + Sync + 'static {
    /// Whether writes are taken, for `/readyz`: an answer within a second or so.
    fn health(&self) -> StoreFuture<'_, ()>;

    /// Writes what is not yet durable (cursors) and stops. Calls after it answer [`StoreError::Unavailable`].
    fn close(&self) -> StoreFuture<'_, ()>;
}

/// A page of a comparison of heads with cursors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Where the device is behind, in the order of their ids.
    pub items: Vec<Gap>,
    /// Some of those where it is not, the most recent first.
    pub level: Vec<Gap>,
    /// Where the next page starts.
    pub next: Option<ConvId>,
    /// Rows looked at.
    pub scanned: usize,
}

/// What a login is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The connection's number, 1 or more (R11): larger than every number that was answered before the call began, as
    /// long as nodes with sessions of the device run. Logins at the same moment may get the same.
    pub number: u64,
    /// The device's life: cursors belong to it.
    pub life: u64,
    /// It was not known before.
    pub is_new: bool,
    /// The stamps of the inbox, read with the rest.
    pub stamps: Stamps,
}

/// A device that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDevice {
    /// Which, with its life.
    pub device: Device,
    /// When it was last known to be in use, for people.
    pub seen: Millis,
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
    /// When nobody is shown its body any more, as it was stored: its room may have said so.
    pub expires: Option<Millis>,
}

/// A conversation of a user as the inbox knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// The conversation.
    pub conv: ConvId,
    /// Its recorded top.
    pub head: Seq,
    /// The time of the message at the head.
    pub ts: Millis,
}

/// A conversation of a user with all that a list shows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxDetail {
    /// The conversation.
    pub conv: ConvId,
    /// Its recorded top.
    pub head: Seq,
    /// The time of the message at the head.
    pub ts: Millis,
    /// The newest message; `None` where it is lost.
    pub last: Option<Preview>,
    /// What was counted at the head.
    pub counts: Counts,
    /// How far the user has read.
    pub read: ReadMark,
    /// Nothing stands beside the log above here that [`Folds::behind`] tells of.
    pub noted: Seq,
}

/// What a list shows of a message, or of an event: of the newest one. Edits, deletions and reactions are in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Its place.
    pub seq: Seq,
    /// When a node took it.
    pub ts: Millis,
    /// What it is.
    pub kind: Kind,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// What it says.
    pub body: Body,
    /// What it refers to.
    pub refs: Option<Box<Refs>>,
    /// What was made of it.
    pub folded: Folded,
}

impl From<Row> for Preview {
    fn from(row: Row) -> Self {
        let Row { seq, kind, sender, cid, ts, body, refs, .. } = row;
        Self { seq, ts, kind, sender, cid, body, refs, folded: Folded::default() }
    }
}

/// How far somebody is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserMarks {
    /// Acknowledged by one of the user's devices.
    pub delivered: Seq,
    /// Read by the person.
    pub read: Seq,
    /// Nobody mentioned the person above here; [`MAX_SEQ`] where that is not known.
    pub noted: Seq,
}

/// What [`Logs::counts_at`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountsAt {
    /// What was counted there.
    Known(Counts),
    /// The log does not go that far; this is its top.
    AboveTop(Seq),
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

/// Whose inbox rows a message of the conversation concerns.
///
/// # Errors
/// [`StoreError::Unsupported`] for a room, whose messages are in no inbox.
fn audience_of(conv: &ConvId) -> StoreResult<Audience> {
    Audience::of(conv).ok_or(StoreError::Unsupported("rooms"))
}
