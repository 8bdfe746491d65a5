//! The rooms of a damaged store. What the log says of them and what their own rows say are two copies of the same; either
//! may have lost some. Of each member, and of each room, the copy counts that knows of the later change; the members are
//! counted anew.

use fjall::{Keyspace, Readable as _, Slice};

use super::{Copy, MEMBERS, ROOMS, ROOMS_OF};
use crate::{
    model::{
        RoomId, UserId,
        room::{Member, Reach, Role, Room},
    },
    store::{
        StoreError,
        embedded::{keys, room_fold::Fold, room_rows, rows, scan, scan::Unreadable},
    },
};

/// A room whose own row is lost, of which members are left: theirs alone, until an owner says otherwise.
const UNKNOWN: Room = Room {
    topic: None,
    public: false,
    reach: Reach::Join,
    created: 0,
    members: 0,
    owners: 0,
    applied: 0,
    lifetime: None,
};

impl Copy {
    /// What is left of a log makes this of its room.
    pub(super) fn folded(&mut self, room: &RoomId, fold: Fold) -> Result<(), StoreError> {
        for (user, member) in fold.members {
            self.put(MEMBERS, keys::member(room, &user), room_rows::encode(&member)?)?;
        }
        fold.room.map_or(Ok(()), |kept| self.put(ROOMS, keys::room(room), room_rows::encode(&kept)?))
    }

    /// Adds what their own rows say; the logs were read before.
    pub(super) fn all_rooms(
        &mut self,
        rooms: &Keyspace,
        members: &Keyspace,
        rooms_of: &Keyspace,
    ) -> Result<[Unreadable; 3], StoreError> {
        let of_rooms = scan::each_row(rooms, |key, value| self.room(key, &value))?;
        let of_members = scan::each_row(members, |key, value| match keys::member_of(&key) {
            Some((room, user)) => self.member(&room, &user, &value),
            None => Ok(()),
        })?;
        self.write()?;
        let by_users = scan::each_row(rooms_of, |key, value| match keys::member_by_user(&key) {
            Some((room, user)) => self.member(&room, &user, &value),
            None => Ok(()),
        })?;
        self.write()?;
        self.count_members()?;
        Ok([of_rooms, of_members, by_users])
    }

    fn room(&mut self, key: Slice, value: &[u8]) -> Result<(), StoreError> {
        let Ok(room) = room_rows::decode::<Room>(value) else { return Ok(()) };
        self.highest = self.highest.max(room.applied);
        let folded = self.to.tables[ROOMS].get(&key).map_err(StoreError::unavailable)?;
        let folded = folded.map(|value| room_rows::decode::<Room>(&value)).transpose()?;
        if folded.is_none_or(|folded| folded.applied <= room.applied) {
            self.put(ROOMS, key, room_rows::encode(&room)?)?;
        }
        Ok(())
    }

    fn member(&mut self, room: &RoomId, user: &UserId, value: &[u8]) -> Result<(), StoreError> {
        let Ok(member) = room_rows::decode::<Member>(value) else { return Ok(()) };
        self.highest = self.highest.max(member.changed);
        let key = keys::member(room, user);
        let known = self.to.tables[MEMBERS].get(&key).map_err(StoreError::unavailable)?;
        let known = known.map(|value| room_rows::decode::<Member>(&value)).transpose()?;
        if known.is_none_or(|known| known.changed <= member.changed) {
            self.put(MEMBERS, key, room_rows::encode(&member)?)?;
        }
        Ok(())
    }

    /// Writes each member among the rooms of its user, and how many a room has.
    fn count_members(&mut self) -> Result<(), StoreError> {
        let view = self.to.db.snapshot();
        let mut counted: Option<(RoomId, Room)> = None;
        for item in view.iter(&self.to.tables[MEMBERS]) {
            let (key, value) = item.into_inner().map_err(StoreError::unavailable)?;
            let (room, user) = keys::member_of(&key).ok_or_else(rows::unreadable)?;
            if counted.as_ref().is_some_and(|(known, _)| *known != room) {
                self.counted(counted.take())?;
            }
            let (_, count) = counted.get_or_insert_with(|| (room.clone(), UNKNOWN));
            let member: Member = room_rows::decode(&value)?;
            count.members += u32::from(member.role().is_some());
            count.owners += u32::from(member.role() == Some(Role::Owner));
            count.applied = count.applied.max(member.changed);
            self.put(ROOMS_OF, keys::room_of(&user, &room), value)?;
        }
        self.counted(counted)
    }

    fn counted(&mut self, counted: Option<(RoomId, Room)>) -> Result<(), StoreError> {
        let Some((id, count)) = counted else { return Ok(()) };
        let key = keys::room(&id);
        let known = self.to.tables[ROOMS].get(&key).map_err(StoreError::unavailable)?;
        let known = known.map_or(Ok(UNKNOWN), |value| room_rows::decode::<Room>(&value))?;
        let applied = known.applied.max(count.applied);
        self.put(
            ROOMS,
            key,
            room_rows::encode(&Room { members: count.members, owners: count.owners, applied, ..known })?,
        )
    }
}
