//! What the role of a room wants done, as CQL: its row, its members, and what its events make of them. Called by `io`.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::try_join_all;

use super::{
    Inner,
    entry::{Caller, Entry},
    gathered::Write,
    io::Done,
    raiser::head_values,
};
use crate::{
    model::{ReadMark, RoomId, Seq, UserId, room::Member},
    store::{
        StoreError, StoreResult,
        fence::{Effect, Event, Made, Placed, Raise, RoomAt},
        scylla::{
            MAX_IN, bucket_of,
            heads::to_head,
            inbox::preview_of,
            rooms::{decode, encode},
            rows::{self, CqlError},
            signed, unsigned,
        },
    },
};

/// A room's row as it is written: the room where it changed, and the head. One partition, so both or neither.
pub(super) struct RoomRaise {
    room: RoomId,
    raise: Raise,
    /// The encoded room, and the seq of the last event that is in it.
    state: Option<(Vec<u8>, i64)>,
}

/// Room, head, time, sender, cid, kind, preview, count, event, timestamp.
pub(super) type RoomHeadValues<'a> = (&'a str, i64, i64, &'a str, &'a str, i8, &'a [u8], i64, i64, i64);

impl RoomRaise {
    fn new(room: RoomId, raise: &Raise) -> StoreResult<Self> {
        let state = raise.room.as_ref().map(|room| Ok::<_, StoreError>((encode(room)?, signed(room.applied))));
        Ok(Self { room, state: state.transpose()?, raise: raise.clone() })
    }

    pub(super) fn head(&self) -> RoomHeadValues<'_> {
        let (_, _, head, ts, sender, cid, kind, preview, first, _, at) = head_values("", "", &self.raise);
        (self.room.as_str(), head, ts, sender, cid, kind, preview, first, signed(self.raise.event), at)
    }

    /// Its bytes besides what every head has.
    pub(super) fn size(&self) -> usize {
        let preview = self.raise.last.as_ref().map_or(0, |row| preview_of(row).len());
        preview + self.state.as_ref().map_or(0, |(room, _)| room.len())
    }

    pub(super) fn state(&self) -> Option<(&str, &[u8], i64)> {
        self.state.as_ref().map(|(room, applied)| (self.room.as_str(), room.as_slice(), *applied))
    }
}

/// What stands in the row of a room for what its event made: empty where it made nothing, never null.
pub(super) fn encode_made(placed: &Placed) -> StoreResult<Vec<u8>> {
    placed.made.as_deref().map_or_else(|| Ok(Vec::new()), encode)
}

pub(super) fn decode_made(stored: &[u8]) -> Result<Option<Made>, CqlError> {
    if stored.is_empty() { Ok(None) } else { decode(stored).map(Some) }
}

impl Write {
    /// How users stand to a room: at the room and at the user, two partitions each.
    pub(super) fn members(entry: &Entry, room: &RoomId, members: &[(UserId, Member)]) -> StoreResult<Vec<Self>> {
        let mut writes = Vec::with_capacity(2 * members.len());
        for (user, member) in members {
            let (at, member) = (signed(member.changed), encode(member)?);
            writes.push(Self::Member { room: room.clone(), user: user.clone(), member: member.clone(), at });
            writes.push(Self::RoomOf { conv: entry.conv.clone(), user: user.clone(), member, at });
        }
        Ok(writes)
    }
}

impl Inner {
    /// Effects of rooms alone; `None` for the others.
    pub(super) async fn try_of_room(
        self: &Arc<Self>,
        entry: &Entry,
        effect: &Effect<Caller>,
        again: bool,
    ) -> StoreResult<Option<Done>> {
        let Some(room) = entry.conv.as_room() else { return Ok(None) };
        let event = match effect {
            Effect::ReadRoom => Event::Room(self.room_at(&room).await?),
            Effect::ReadEvents { last, above } => Event::Events(self.events(entry, *last, *above).await?),
            Effect::ReadMembers(users) => Event::Members(self.members_named(&room, users).await?),
            Effect::Raise(raise) => {
                self.raise_room(room, entry, raise, again).await?;
                Event::Raised
            }
            _ => return Ok(None),
        };
        Ok(Some(Done::Event(event)))
    }

    pub(in crate::store::scylla) async fn room_at(&self, room: &RoomId) -> StoreResult<RoomAt> {
        type Columns = (Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>);
        let found = rows::first::<Columns>(self.ask(&self.cql.room_at, (room.as_str(),)).await?)?;
        let (seq, count, event, state) = found.unwrap_or_default();
        Ok(RoomAt {
            head: to_head(seq, count, None),
            event: event.map_or(0, unsigned),
            room: state.map(|state| decode(&state)).transpose()?,
        })
    }

    /// The way back from event to event: they are few, and each is one row.
    async fn events(&self, entry: &Entry, last: Seq, above: Seq) -> StoreResult<Vec<(Seq, Made)>> {
        let (mut found, mut at) = (VecDeque::new(), last);
        while at > above {
            let values = (entry.conv.as_str(), signed(bucket_of(at)), signed(at));
            let row = rows::first::<(Option<i64>, Option<Vec<u8>>)>(self.ask(&self.cql.made, values).await?)?;
            let Some((Some(before), Some(made))) = row else { break };
            // Lost: what is above it is applied, what is below it cannot be found.
            let Some(made) = decode_made(&made)? else { break };
            found.push_front((at, made));
            if found.len() > self.homes.limits.events {
                // The newest is read again when the older ones are applied.
                found.pop_back();
            }
            at = unsigned(before);
        }
        Ok(found.into())
    }

    async fn members_named(&self, room: &RoomId, users: &[UserId]) -> StoreResult<Vec<Member>> {
        let mut members = vec![Member::STRANGER; users.len()];
        for some in users.chunks(MAX_IN) {
            let names: Vec<&str> = some.iter().map(UserId::as_str).collect();
            let found = self.ask(&self.cql.members_named, (room.as_str(), names)).await?;
            for (name, member) in rows::all::<(String, Vec<u8>)>(found)? {
                if let Some(at) = users.iter().position(|user| user.as_str() == name) {
                    members[at] = decode(&member)?;
                }
            }
        }
        Ok(members)
    }

    /// The room's row, and the read marks of those who wrote. No stamps: a room's head is compared by itself.
    async fn raise_room(self: &Arc<Self>, room: RoomId, entry: &Entry, raise: &Raise, again: bool) -> StoreResult<()> {
        let marks = raise.marks.iter().map(|(user, mark)| self.write(mark_of(entry, user, *mark), again));
        let row = Write::Room(Box::new(RoomRaise::new(room, raise)?));
        try_join_all(marks.chain([self.write(row, again)]).collect::<Vec<_>>()).await?;
        self.know(&entry.conv, raise.upto, Some(raise.counts));
        Ok(())
    }
}

fn mark_of(entry: &Entry, user: &UserId, mark: ReadMark) -> Write {
    Write::Mark { user: user.clone(), conv: entry.conv.clone(), mark }
}
