//! How much of one conversation a user has not read, and how far any device has it: for events about users who are away.
//! Called by [`super::offline`]; lists count by themselves, from what they have read anyway.

use super::conversations::behind;
use crate::{
    metrics::StoreOp,
    model::{ConvId, RoomId, Seq, UserId},
    store::{CountsAt, Store, StoreResult},
};

/// What is read at most: the user's row, marks, a room and a member, a row at the mark.
pub(super) const READS: usize = 5;
/// Under which name failures are counted.
pub(super) const STORE_OP: StoreOp = StoreOp::Counts;

/// See [`of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread {
    /// Messages that are not read.
    pub(super) messages: u64,
    /// Acknowledged by one of the user's devices.
    pub(super) delivered: Seq,
}

/// Reads it; `None` where the user is not in the conversation any more.
pub(super) async fn of(store: &Store, user: &UserId, conv: &ConvId) -> StoreResult<Option<Unread>> {
    match conv.as_room() {
        Some(room) => in_room(store, user, conv, &room).await,
        None => direct(store, user, conv).await,
    }
}

async fn direct(store: &Store, user: &UserId, conv: &ConvId) -> StoreResult<Option<Unread>> {
    let Some(row) = store.inbox.details(user, std::slice::from_ref(conv)).await?.pop() else { return Ok(None) };
    let delivered = store.marks.delivered(user, conv).await?;
    let behind = behind(store, user, conv, (row.read.seq, row.noted)).await?;
    let unread = row.counts.unread(row.read.counts, conv, user).saturating_sub(behind.expired);
    Ok(Some(Unread { messages: unread, delivered }))
}

async fn in_room(store: &Store, user: &UserId, conv: &ConvId, room: &RoomId) -> StoreResult<Option<Unread>> {
    let Some(row) = store.rooms.rooms(std::slice::from_ref(room)).await?.pop().flatten() else { return Ok(None) };
    let Some(since) = store.rooms.member(room, user).await?.spans.open() else { return Ok(None) };
    let marks = store.marks.of_user(user, conv).await?;
    // What was there when the member joined is not unread.
    let read = marks.read.max(since);
    let counts = match store.logs.counts_at(conv, read, row.head).await? {
        CountsAt::Known(counts) => counts,
        CountsAt::AboveTop(_) => row.counts,
    };
    let behind = behind(store, user, conv, (read, row.noted.max(marks.noted))).await?;
    let unread = row.counts.unread(counts, conv, user).saturating_sub(behind.expired);
    Ok(Some(Unread { messages: unread, delivered: marks.delivered }))
}
