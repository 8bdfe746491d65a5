//! What a user is to others, besides messages: when the user was last seen, and who blocks whom. Read and written by
//! `presence`, `blocks` and `ops`.

use super::StoreFuture;
use crate::model::{Millis, UserId};

/// How two users stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The other one.
    pub other: UserId,
    /// The user blocks the other one.
    pub blocks: bool,
    /// The user is blocked by the other one.
    pub blocked: bool,
}

/// Last seen, and blocks.
pub trait People: Send + Sync + 'static {
    /// These users were there at these times. Never goes back: an earlier time changes nothing. Not fsynced on its own:
    /// losing it shows an earlier time.
    fn see<'a>(&'a self, seen: &'a [(UserId, Millis)]) -> StoreFuture<'a, ()>;

    /// When each of these users was last known to be there, in their order.
    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> StoreFuture<'a, Vec<Option<Millis>>>;

    /// `user` blocks `other` from now on, or no more. Durable when answered, and shown by every later [`People::ties`] of
    /// either of the two. Saying it again changes nothing. Of two at the same moment either may be the last.
    fn block<'a>(&'a self, user: &'a UserId, other: &'a UserId, on: bool) -> StoreFuture<'a, ()>;

    /// Whom a user has ever blocked or was blocked by, those included of whom neither is so any more, after `after`, in the
    /// order of their names. A page of fewer than `limit` is the last one.
    fn ties<'a>(&'a self, user: &'a UserId, after: Option<&'a UserId>, limit: usize) -> StoreFuture<'a, Vec<Tie>>;

    /// How a user stands to one other.
    fn tie<'a>(&'a self, user: &'a UserId, other: &'a UserId) -> StoreFuture<'a, Tie>;
}
