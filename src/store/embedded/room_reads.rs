//! What the store answers of rooms without writing: [`crate::store::Rooms`], on blocking threads, each on one snapshot.

use fjall::{Guard, Readable as _, Snapshot};

use super::{
    EmbeddedStore,
    fold_reads::newest_of,
    keys, room_rows,
    rows::{self, StoredMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{
        ConvId, Counts, Device, RoomId, Row, Seq, UserId,
        room::{Member, Room},
    },
    store::{RoomRow, Rooms, StoreFuture, StoreResult},
};

impl Rooms for EmbeddedStore {
    fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>> {
        let rooms = rooms.to_vec();
        Box::pin(self.read(move |tables| {
            let view = tables.db.snapshot();
            rooms.iter().map(|room| room_row(tables, &view, room)).collect()
        }))
    }

    fn member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> StoreFuture<'a, Member> {
        let key = keys::member(room, user);
        Box::pin(self.read(move |tables| {
            let found = tables.members.get(key).map_err(unavailable)?;
            found.map_or(Ok(Member::STRANGER), |value| room_rows::decode(&value))
        }))
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(UserId, Member)>> {
        let range = keys::members(room, after);
        Box::pin(self.read(move |tables| {
            let found = tables.db.snapshot().range(&tables.members, range).take(limit.max(1));
            found.map(|item| member(item, keys::member_of).map(|(_, user, member)| (user, member))).collect()
        }))
    }

    fn rooms_of<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Member)>> {
        let range = keys::rooms_of(user, after);
        Box::pin(self.read(move |tables| {
            let found = tables.db.snapshot().range(&tables.rooms_of, range).take(limit.max(1));
            found.map(|item| member(item, keys::member_by_user).map(|(room, _, member)| (room, member))).collect()
        }))
    }

    fn room_cursors<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Seq)>> {
        let range = keys::room_cursors(device, after);
        Box::pin(self.read(move |tables| {
            let found = tables.db.snapshot().range(&tables.cursors, range).take(limit.max(1));
            found.map(cursor).collect()
        }))
    }
}

/// What changed is in the same commit as the row of the change: what is read is as of the head, always.
fn room_row(tables: &Tables, view: &Snapshot, id: &RoomId) -> StoreResult<Option<RoomRow>> {
    let Some(value) = view.get(&tables.rooms, keys::room(id)).map_err(unavailable)? else { return Ok(None) };
    let room: Room = room_rows::decode(&value)?;
    let conv = ConvId::room(id);
    let last = view.range(&tables.messages, keys::messages(&conv, 0, Seq::MAX)).next_back();
    let last = last.map(row).transpose()?;
    let (head, ts, counts) = match &last {
        Some(row) => (row.seq, row.ts, row.counts),
        // All of its rows are lost, and somebody accepted that.
        None => (0, room.created, Counts::default()),
    };
    let last = last.map(|last| newest_of(tables, view, &conv, last)).transpose()?.flatten();
    let event = room.applied.min(head);
    Ok(Some(RoomRow { id: id.clone(), room, head, event, ts, last, counts, noted: head }))
}

fn row(item: Guard) -> StoreResult<Row> {
    let (key, value) = item.into_inner().map_err(unavailable)?;
    StoredMessage::split(&value)?.to_row(keys::seq_of(&key).ok_or_else(rows::unreadable)?)
}

/// A row of the members, or of the rooms of a user.
fn member(item: Guard, names: fn(&[u8]) -> Option<(RoomId, UserId)>) -> StoreResult<(RoomId, UserId, Member)> {
    let (key, value) = item.into_inner().map_err(unavailable)?;
    let (room, user) = names(&key).ok_or_else(rows::unreadable)?;
    Ok((room, user, room_rows::decode(&value)?))
}

fn cursor(item: Guard) -> StoreResult<(RoomId, Seq)> {
    let (key, value) = item.into_inner().map_err(unavailable)?;
    let conv = keys::conv_of(&key).ok_or_else(rows::unreadable)?;
    let room = conv.as_room().ok_or_else(rows::unreadable)?;
    Ok((room, rows::decode_seq(&value)?))
}
