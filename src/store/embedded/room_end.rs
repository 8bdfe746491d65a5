//! What the writer knows of rooms: where their logs end, who is in them, and how far their writers have read. As a commit
//! leaves it, as the writer remembers it from one commit to the next, or as it is stored. Called by [`super::rooms`].

use std::collections::HashMap;

use fjall::{OwnedWriteBatch, Readable as _};

use super::{
    keys,
    recent::Recent,
    room_rows,
    rows::{self, InboxValue, StoredMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{
        ConvId, Counts, ReadMark, RoomId, Seq, UserId,
        room::{Member, Room},
    },
    store::StoreResult,
};

/// How many rooms the writer remembers, twice that at most: some 3 MB.
const ROOMS: usize = 8_192;
/// How many members and read marks: some 10 MB.
const SEATS: usize = 32_768;

/// Where a room's log ends, and what the changes up to there made of the room.
#[derive(Debug, Clone)]
pub(super) struct RoomEnd {
    /// `None`: there is no such room.
    pub(super) room: Option<Room>,
    /// The top of its log.
    pub(super) head: Seq,
    /// What is counted there.
    pub(super) counts: Counts,
    /// The room's row must be written.
    pub(super) is_changed: bool,
}

impl RoomEnd {
    fn read(tables: &Tables, id: &RoomId) -> StoreResult<Self> {
        let view = tables.db.snapshot();
        let room = view.get(&tables.rooms, keys::room(id)).map_err(unavailable)?;
        let room = room.map(|value| room_rows::decode(&value)).transpose()?;
        let last = view.range(&tables.messages, keys::messages(&ConvId::room(id), 0, Seq::MAX)).next_back();
        let mut end = Self { room, head: 0, counts: Counts::default(), is_changed: false };
        if let Some(last) = last {
            let (key, value) = last.into_inner().map_err(unavailable)?;
            end.head = keys::seq_of(&key).ok_or_else(rows::unreadable)?;
            end.counts = StoredMessage::split(&value)?.counts;
        }
        Ok(end)
    }
}

/// Somebody in a room.
type Seat = (RoomId, UserId);

/// What is remembered from one commit to the next.
pub(super) struct RoomMemory {
    ends: Recent<RoomId, RoomEnd>,
    members: Recent<Seat, Member>,
    marks: Recent<Seat, ReadMark>,
}

impl RoomMemory {
    /// Nothing remembered yet.
    pub(super) fn new() -> Self {
        Self { ends: Recent::new(ROOMS), members: Recent::new(SEATS), marks: Recent::new(SEATS) }
    }
}

/// What one commit changes, which the next thing in it must see.
#[derive(Default)]
pub(super) struct RoomDraft {
    ends: HashMap<RoomId, RoomEnd>,
    members: HashMap<Seat, Member>,
    marks: HashMap<Seat, ReadMark>,
}

/// The three places to look, in their order.
pub(super) struct Seen<'a> {
    pub(super) draft: &'a RoomDraft,
    pub(super) memory: &'a mut RoomMemory,
    pub(super) tables: &'a Tables,
    /// Counts the rows that are looked up.
    pub(super) lookups: &'a mut u64,
}

impl Seen<'_> {
    /// The end of a room's log.
    pub(super) fn end(&mut self, room: &RoomId) -> StoreResult<RoomEnd> {
        if let Some(known) = self.draft.ends.get(room).cloned().or_else(|| self.memory.ends.get(room)) {
            return Ok(known);
        }
        *self.lookups += 2;
        let end = RoomEnd::read(self.tables, room)?;
        self.memory.ends.put(room.clone(), end.clone());
        Ok(end)
    }

    /// How somebody stands to a room.
    pub(super) fn member(&mut self, room: &RoomId, user: &UserId) -> StoreResult<Member> {
        let seat = (room.clone(), user.clone());
        if let Some(known) = self.draft.members.get(&seat).cloned().or_else(|| self.memory.members.get(&seat)) {
            return Ok(known);
        }
        *self.lookups += 1;
        let found = self.tables.members.get(keys::member(room, user)).map_err(unavailable)?;
        let member = found.map_or(Ok(Member::STRANGER), |value| room_rows::decode(&value))?;
        self.memory.members.put(seat, member.clone());
        Ok(member)
    }

    /// How far somebody has read a room.
    pub(super) fn mark(&mut self, room: &RoomId, user: &UserId) -> StoreResult<ReadMark> {
        let seat = (room.clone(), user.clone());
        if let Some(known) = self.draft.marks.get(&seat).copied().or_else(|| self.memory.marks.get(&seat)) {
            return Ok(known);
        }
        *self.lookups += 1;
        let mark = self.tables.inbox_row(user, &ConvId::room(room))?.read;
        self.memory.marks.put(seat, mark);
        Ok(mark)
    }
}

impl RoomDraft {
    /// The room's log ends here now.
    pub(super) fn put_end(&mut self, room: &RoomId, end: RoomEnd) {
        self.ends.insert(room.clone(), end);
    }

    /// Somebody stands to the room in another way now.
    pub(super) fn put_member(&mut self, room: &RoomId, user: &UserId, member: Member) {
        self.members.insert((room.clone(), user.clone()), member);
    }

    /// Somebody has read so far now.
    pub(super) fn put_mark(&mut self, room: &RoomId, user: &UserId, mark: ReadMark) {
        self.marks.insert((room.clone(), user.clone()), mark);
    }

    /// Puts into the batch what is not there yet, and remembers all of it.
    pub(super) fn write(
        self,
        batch: &mut OwnedWriteBatch,
        tables: &Tables,
        memory: &mut RoomMemory,
    ) -> StoreResult<()> {
        for (seat, member) in self.members {
            let ((room, user), value) = (&seat, room_rows::encode(&member)?);
            batch.insert(&tables.members, keys::member(room, user), value.clone());
            batch.insert(&tables.rooms_of, keys::room_of(user, room), value);
            memory.members.put(seat, member);
        }
        for (seat, read) in self.marks {
            let (room, user) = &seat;
            let row = InboxValue { read, ..InboxValue::default() };
            batch.insert(&tables.inbox, keys::inbox(user, &ConvId::room(room)), row.encode());
            memory.marks.put(seat, read);
        }
        for (id, end) in self.ends {
            if let Some(room) = end.room.as_ref().filter(|_| end.is_changed) {
                batch.insert(&tables.rooms, keys::room(&id), room_rows::encode(room)?);
            }
            memory.ends.put(id, RoomEnd { is_changed: false, ..end });
        }
        Ok(())
    }
}
