//! Whether the tables of rooms hold what the logs make of them: membership is a fold of the log (R21).

use std::collections::btree_map::Entry;

use fjall::Readable as _;

use super::Check;
use crate::{
    model::{
        ConvId, RoomId, Row, Seq,
        room::{Member, Room},
    },
    store::{
        StoreResult,
        embedded::{keys, room_fold::Fold, room_rows, rows, tables::unavailable},
    },
};

/// What was seen of a room's log.
#[derive(Debug, Default)]
pub(super) struct RoomSeen {
    fold: Fold,
    /// Rows are lost: then nobody can say what stood in them.
    pub(super) has_holes: bool,
}

impl RoomSeen {
    /// The next row; what is wrong with it.
    pub(super) fn take(&mut self, conv: &ConvId, row: &Row) -> Option<String> {
        conv.as_room()?;
        let wrong = self.fold.take(row).err().filter(|_| !self.has_holes)?;
        Some(format!("{conv}: {} could not write what stands at {}: {wrong}", row.sender, row.seq))
    }
}

impl<P: FnMut(u64)> Check<'_, P> {
    /// A room's log has no more rows.
    pub(super) fn end_of_room(&mut self, id: &RoomId, top: Seq, seen: RoomSeen) -> StoreResult<()> {
        let RoomSeen { fold: Fold { room, mut members }, has_holes } = seen;
        let kept = self.room(id)?;
        // After a loss that was accepted the tables may know of changes that no row is left of.
        let is_ahead = self.tables.floor > 0 && kept.as_ref().is_some_and(|kept| kept.applied > top);
        if has_holes || is_ahead {
            return Ok(());
        }
        if kept != room {
            self.report.problem(format!("room:{id}: the log makes {room:?} of it, kept is {kept:?}"));
        }
        for item in self.tables.db.snapshot().range(&self.tables.members, keys::members(id, None)) {
            let (key, value) = item.into_inner().map_err(unavailable)?;
            let (_, user) = keys::member_of(&key).ok_or_else(rows::unreadable)?;
            let kept: Member = room_rows::decode(&value)?;
            let folded = match members.entry(user.clone()) {
                Entry::Occupied(folded) => Some(folded.remove()),
                Entry::Vacant(_) => None,
            };
            if folded.as_ref() != Some(&kept) {
                self.report.problem(format!("room:{id}: the log makes {folded:?} of {user}, kept is {kept:?}"));
            }
        }
        for (user, folded) in members {
            self.report.problem(format!("room:{id}: the log makes {folded:?} of {user}, nothing is kept"));
        }
        Ok(())
    }

    /// Rooms and members without a log, and members that their users do not find. What the logs say was compared when
    /// they were read.
    pub(super) fn rooms(&mut self) -> StoreResult<()> {
        let tables = self.tables;
        self.each(&tables.rooms, |check, key, value| {
            room_rows::decode::<Room>(value)?;
            let id = keys::room_of_key(key).ok_or_else(rows::unreadable)?;
            let top = check.tables.top(&check.tables.db.snapshot(), &ConvId::room(&id))?;
            if top == 0 && check.tables.floor == 0 {
                check.report.problem(format!("room:{id}: a room and no event"));
            }
            Ok(())
        })?;
        self.each(&tables.members, |check, key, value| {
            let (room, user) = keys::member_of(key).ok_or_else(rows::unreadable)?;
            let member: Member = room_rows::decode(value)?;
            if check.room(&room)?.is_none() {
                check.report.problem(format!("room:{room}: {user} is a member of no room"));
            }
            let found = check.tables.rooms_of.get(keys::room_of(&user, &room)).map_err(unavailable)?;
            let found = found.map(|value| room_rows::decode::<Member>(&value)).transpose()?;
            if found.as_ref() != Some(&member) {
                check.report.problem(format!("room:{room}: {user} is {member:?}, among the user's rooms {found:?}"));
            }
            Ok(())
        })?;
        self.each(&tables.rooms_of, |check, key, value| {
            room_rows::decode::<Member>(value)?;
            let (room, user) = keys::member_by_user(key).ok_or_else(rows::unreadable)?;
            if check.tables.members.get(keys::member(&room, &user)).map_err(unavailable)?.is_none() {
                check.report.problem(format!("room:{room}: {user} is among its members only in the user's rooms"));
            }
            Ok(())
        })
    }

    fn room(&self, id: &RoomId) -> StoreResult<Option<Room>> {
        let found = self.tables.rooms.get(keys::room(id)).map_err(unavailable)?;
        found.map(|value| room_rows::decode(&value)).transpose()
    }
}
