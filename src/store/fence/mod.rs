//! A conversation at its home: recovered once per epoch, then appended to without a conditional write, correct whatever
//! pauses, crashes or is late. The rules are F1–F9 of `docs/rules.md`; this module keeps F3–F7 and knows no store.
//!
//! [`Role`] is one conversation's state in one epoch of its slot: sends and the store's answers go in, [`Effect`]s come
//! out. The CQL engine carries them out: it repeats what was not answered, the same thing again, and ends the role
//! when the slot is lost. The simulation in `sim` does so too, on three replicas that do the worst they may.
//!
//! `role` is the way of a message, `recovery` finds the end of the log, `cids` recognises what was stored before, and
//! `heads` raises the heads and answers. `beside` says who may write about a message and whom a mention tells. `rooms` is what
//! a room needs besides: who may append, and what its events make.

use std::sync::Arc;

use super::{Appended, StoreResult};
use crate::model::{
    Cid, Counts, NewMessage, ReadMark, Row, Seq, UserId,
    room::{Member, Room, RoomLimits},
};

mod beside;
mod cids;
mod heads;
mod recovery;
mod role;
mod rooms;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use beside::{Told, stands_beside};
pub use role::Role;
pub use rooms::{Made, RoomAt};

/// The number of a home's term of a slot.
pub type Epoch = u64;

/// A row with what makes it part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The message in its place.
    pub row: Row,
    /// The epoch of the home that first placed it.
    pub w: Epoch,
    /// The `w` of the row before it; 0 at seq 1.
    pub pw: Epoch,
    /// The seq of the last event below it, in a room; 0 elsewhere. So events are found without the messages between them.
    pub event: Seq,
    /// What it makes of its room, if it is an event of a room.
    pub made: Option<Box<Made>>,
    /// Whom it tells that they are mentioned: decided where it was placed.
    pub told: Told,
}

impl Placed {
    /// Its seq and what it made, if it is an event of a room.
    fn made(&self) -> Option<(Seq, &Made)> {
        Some((self.row.seq, self.made.as_deref()?))
    }

    /// The seq of the last event of its room at or below it.
    fn last_event(&self) -> Seq {
        if self.made.is_some() { self.row.seq } else { self.event }
    }
}

/// Who waits for the answer to a send or a mend.
pub trait Ticket {
    /// Nobody waits any more: what is not written yet need not be.
    fn is_gone(&self) -> bool;
}

/// What a role wants done. Each but [`Effect::Answer`] and [`Effect::Mended`] is answered with the [`Event`] of the same
/// name.
#[derive(Debug)]
pub enum Effect<T> {
    /// A quorum read of the heads there are: the larger one (a service may have none).
    ReadHeads,
    /// Instead of [`Effect::ReadHeads`], of a room: a quorum read of its row.
    ReadRoom,
    /// Quorum reads of what the events above `above` made, by their way back from the one at `last`: the oldest first, at most
    /// [`Limits::events`].
    ReadEvents {
        /// The newest.
        last: Seq,
        /// These and those below are known.
        above: Seq,
    },
    /// Quorum reads of how these users stand to the room; strangers where it never heard of them.
    ReadMembers(Vec<UserId>),
    /// Writes what rows of the log make, at the timestamps of their seqs, until quorums have acknowledged all of it.
    Apply(Applied),
    /// A quorum read of the rows from `from` on, as far as they are dense, at most [`Limits::page`].
    ReadRows {
        /// The first.
        from: Seq,
    },
    /// A quorum read of the senders and cids at `upto` and below, newest first, at most [`Limits::cids`] or down to
    /// `down_to`.
    ReadCids {
        /// The newest.
        upto: Seq,
        /// The oldest that counts.
        down_to: Seq,
    },
    /// Writes rows with their cid rows in one batch of one partition, every column set, at the timestamp of this epoch,
    /// until a quorum has acknowledged it: after a time-out the same batch again.
    Write(Arc<[Placed]>),
    /// A quorum read, sent after this, that shows the incarnation alive.
    Validate,
    /// Raises every head, and the read marks given, until quorums have acknowledged all of it.
    Raise(Raise),
    /// Looks whether messages are stored: at the seq given, or, without one, wherever the cid rows of the bucket of
    /// `top + 1` and of the one before it say, at or below `top`. The rows themselves decide.
    Look {
        /// The messages.
        asked: Vec<Look>,
        /// Rows above do not count.
        top: Seq,
    },
    /// What became of a send.
    Answer(T, StoreResult<Appended>),
    /// All heads were raised to this seq, the end of the log, after the mend came.
    Mended(T, Seq),
}

/// What validated rows make besides the log, written before a head shows them.
#[derive(Debug, Clone)]
pub struct Applied {
    /// How users stand to the room after the last event about them.
    pub members: Vec<(UserId, Member)>,
    /// The rows: what each of them makes of a message, whom it mentions, and when it expires stands beside the log.
    pub rows: Arc<[Placed]>,
}

/// A message that may be stored.
#[derive(Debug, Clone)]
pub struct Look {
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// Where it should stand.
    pub at: Option<Seq>,
}

/// What heads and read marks are to be at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The seq of all heads.
    pub upto: Seq,
    /// The row there; `None` where it is lost.
    pub last: Option<Row>,
    /// The counts there.
    pub counts: Counts,
    /// The service that wrote all that is new: it has no inbox, so its head stays where it is.
    pub spared: Option<UserId>,
    /// Read marks of senders, at their own messages.
    pub marks: Vec<(UserId, ReadMark)>,
    /// The seq of the last event at or below `upto`, in a room.
    pub event: Seq,
    /// The room as of there, unless this epoch has written it: together with the head or not at all, so that a head shows
    /// no event that is not in it.
    pub room: Option<Box<Room>>,
}

/// A head as it was read: the seq, and the counts of the log there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// 0 where there is none.
    pub seq: Seq,
    /// What was counted at the seq.
    pub counts: Counts,
}

/// What the store answered.
#[derive(Debug, Clone)]
pub enum Event {
    /// The larger head.
    Heads(Head),
    /// The room's row.
    Room(RoomAt),
    /// What events made, by their seqs, oldest first; nothing where the newest is lost.
    Events(Vec<(Seq, Made)>),
    /// How the users stand to the room, in the order of the question.
    Members(Vec<Member>),
    /// All of it is acknowledged.
    Applied,
    /// Rows from the one that was asked for on; `more` when the page was full.
    Rows {
        /// Dense, oldest first.
        rows: Vec<Placed>,
        /// There may be more.
        more: bool,
    },
    /// Senders and cids; all from `from` on are there.
    Cids {
        /// Each with its seq.
        found: Vec<(Seq, UserId, Cid)>,
        /// The seq from which on none is missing.
        from: Seq,
    },
    /// The batch is acknowledged.
    Written,
    /// The incarnation was alive after the acknowledgement.
    Validated,
    /// The heads are acknowledged.
    Raised,
    /// The rows that have exactly the sender and cid that was looked for, in the order of the question.
    Looked(Vec<Option<Row>>),
}

/// Sizes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seqs per partition.
    pub bucket: Seq,
    /// Rows of one write.
    pub rows: usize,
    /// Bytes of bodies of one write; one message always goes.
    pub bytes: usize,
    /// Rows of one page of a recovery.
    pub page: usize,
    /// Cids that a recovery loads.
    pub cids: usize,
    /// Events of a room that a recovery applies at once.
    pub events: usize,
    /// Members that a room keeps in memory.
    pub members: usize,
    /// How large a room may become.
    pub room: RoomLimits,
}

impl Limits {
    fn bucket_of(&self, seq: Seq) -> Seq {
        seq.saturating_sub(1) / self.bucket
    }

    /// The first seq whose cid counts for a message that is placed at `seq`: R15.
    fn cids_from(&self, seq: Seq) -> Seq {
        self.bucket_of(seq).saturating_sub(1) * self.bucket + 1
    }

    /// How many rows the bucket of `seq` takes from there on.
    fn room(&self, seq: Seq) -> usize {
        usize::try_from((self.bucket_of(seq) + 1) * self.bucket + 1 - seq).unwrap_or(usize::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bucket: 4096,
            rows: 64,
            bytes: 256 * 1024,
            page: 64,
            cids: 512,
            events: 4096,
            members: 1024,
            room: RoomLimits { members: 10_000 },
        }
    }
}

/// A send that waits.
struct Waiting<T> {
    ticket: T,
    message: NewMessage,
}
