//! The keys under which what users say is sealed: one for each user and month. Written and read by [`crate::sealing`], which
//! alone knows what is in them.

use super::StoreFuture;
use crate::model::{Millis, UserId};

/// A month of thirty days, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(pub u16);

impl Month {
    const MILLIS: Millis = 30 * 24 * 3_600 * 1_000;

    /// That in which a time is; the last one for times that no clock shows.
    pub fn of(time: Millis) -> Self {
        Self(u16::try_from(time / Self::MILLIS).unwrap_or(u16::MAX))
    }
}

/// Most bytes of a key as it is kept.
pub const MOST_KEY: usize = 100;

/// The keys.
pub trait Keys: Send + Sync + 'static {
    /// A user's key of a month, as it is kept.
    fn key<'a>(&'a self, user: &'a UserId, month: Month) -> StoreFuture<'a, Option<Vec<u8>>>;

    /// Keeps a key of at most [`MOST_KEY`] bytes, durably, where the user has none for the month. Returns the one that stands:
    /// of several at once all callers get the same.
    fn keep_key<'a>(&'a self, user: &'a UserId, month: Month, key: Vec<u8>) -> StoreFuture<'a, Vec<u8>>;

    /// Destroys all keys of a user, durably: what is on the disk of them is written over, or goes with the engine's next
    /// compaction. A key that is kept afterwards is another one. Returns how many there were.
    fn destroy_keys<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, u64>;
}
