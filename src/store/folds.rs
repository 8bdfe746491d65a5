//! What stands beside the logs: what edits, deletions and reactions made of messages, who was mentioned where, and which
//! messages expire. Read by `ops`; written only by the appends of the engine itself.
//!
//! Each of these rows follows from one row of a log and may be written again at any time, at the value of that row's seq
//! ([`crate::model::Folded::take`] says which of them counts), before that row is answered.

use super::StoreFuture;
use crate::model::{ConvId, FoldedPart, Millis, Seq, UserId};

/// The folds.
pub trait Folds: Send + Sync + 'static {
    /// What was made of the messages from `from` to `upto`, both included, by the rows of this moment: one slice.
    fn folded<'a>(&'a self, conv: &'a ConvId, from: Seq, upto: Seq) -> StoreFuture<'a, FoldedPart>;

    /// What is behind a read mark besides what the counts say.
    fn behind<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, after: Seq, now: Millis) -> StoreFuture<'a, Behind>;
}

/// What a user has not read of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// Messages that mention the user and have not expired.
    pub mentions: u64,
    /// Messages of others that have expired: nobody can read them any more. Of a longer part the last
    /// [`Behind::LOOK`] that expire are looked at.
    pub expired: u64,
}

impl Behind {
    /// Most messages that expire, and most that mention the user, that are looked at for one conversation.
    pub const LOOK: usize = 1_000;
}
