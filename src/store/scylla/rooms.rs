//! What the store answers of rooms: [`Rooms`], from the tables that the homes keep beside the logs.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Inner, MAX_IN, ScyllaStore, at_most,
    inbox::{AT_ONCE, to_last},
    pages::to_counts,
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{
        ConvId, Device, RoomId, Seq, UserId,
        room::{Member, Room},
    },
    store::{RoomRow, Rooms, StoreError, StoreFuture, StoreResult},
};

/// Stands before each room and member.
const VERSION: u8 = 1;

impl Rooms for ScyllaStore {
    fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>> {
        self.bounded(self.inner.rooms(rooms))
    }

    fn member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> StoreFuture<'a, Member> {
        self.bounded(self.inner.member(room, user))
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(UserId, Member)>> {
        self.bounded(async move {
            let values = (room.as_str(), after.map_or("", UserId::as_str), at_most(limit));
            self.inner.members(values).await
        })
    }

    fn rooms_of<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Member)>> {
        self.bounded(self.inner.rooms_of(user, after, limit))
    }

    fn room_cursors<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Seq)>> {
        self.bounded(self.inner.room_cursors(device, after, limit))
    }
}

/// A room as the statement `rooms` selects it; nothing of a head where an event is applied that no head shows yet.
type Columns = (
    String,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i8>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// A room, and whether the row at its head must be read from the log. Without a head nobody was answered that it exists.
fn to_room(columns: Columns) -> Result<Option<(RoomRow, bool)>, CqlError> {
    let (id, state, head, ts, sender, cid, kind, preview, count, event, noted) = columns;
    let (Some(state), Some(head)) = (state, head) else { return Ok(None) };
    let (last, is_large) = to_last(unsigned(head), (ts, sender, cid, kind, preview))?;
    let row = RoomRow {
        id: RoomId::new(&id).map_err(CqlError::new)?,
        room: decode::<Room>(&state)?,
        head: unsigned(head),
        event: unsigned(event.unwrap_or(0)),
        ts: unsigned(ts.unwrap_or(0)),
        last,
        counts: to_counts(count.unwrap_or(0), 0),
        noted: unsigned(noted.unwrap_or(0)),
    };
    Ok(Some((row, is_large)))
}

/// A room, a member, or what an event made, as it is stored.
pub(super) fn encode(kept: &impl Serialize) -> StoreResult<Vec<u8>> {
    let mut value = vec![VERSION];
    rmp_serde::encode::write(&mut value, kept).map_err(CqlError::new)?;
    Ok(value)
}

/// Of what [`encode`] wrote.
pub(super) fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T, CqlError> {
    let kept = stored.strip_prefix(&[VERSION]).ok_or_else(|| CqlError::new("a room of a version that is not known"))?;
    rmp_serde::from_slice(kept).map_err(CqlError::new)
}

impl Inner {
    async fn rooms(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<RoomRow>>> {
        let mut found = Vec::with_capacity(rooms.len());
        for some in rooms.chunks(MAX_IN) {
            let names: Vec<&str> = some.iter().map(RoomId::as_str).collect();
            for columns in rows::all::<Columns>(self.ask(&self.cql.rooms, (names,)).await?)? {
                found.extend(to_room(columns)?);
            }
        }
        let whole = found.into_iter().map(|(row, is_large)| async move {
            if !is_large {
                return Ok(row);
            }
            let last = self.newest(&row.conv(), row.head).await?;
            Ok::<_, StoreError>(RoomRow { last, ..row })
        });
        let whole = stream::iter(whole).buffered(AT_ONCE).map_ok(|row| (row.id.clone(), row));
        let found: HashMap<RoomId, RoomRow> = whole.try_collect().await?;
        Ok(rooms.iter().map(|id| found.get(id).cloned()).collect())
    }

    pub(super) async fn member(&self, room: &RoomId, user: &UserId) -> StoreResult<Member> {
        let asked = self.ask(&self.cql.member, (room.as_str(), user.as_str())).await?;
        let found = rows::first::<(Vec<u8>,)>(asked)?;
        Ok(found.map(|(member,)| decode(&member)).transpose()?.unwrap_or(Member::STRANGER))
    }

    async fn members(&self, values: (&str, &str, i32)) -> StoreResult<Vec<(UserId, Member)>> {
        let found: Vec<(String, Vec<u8>)> = self.all_pages(&self.cql.members, values).await?;
        let named = found.into_iter().map(|(name, member)| {
            let name = UserId::new(&name).map_err(CqlError::new)?;
            Ok((name, decode(&member)?))
        });
        named.collect()
    }

    /// A row of which only the read mark is known belongs to no room that has heard of the user: the page goes on behind it.
    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, Member)>> {
        let limit = limit.max(1);
        let mut from = after.map_or_else(|| "room:".to_owned(), |room| ConvId::room(room).as_str().to_owned());
        let mut rooms = Vec::new();
        loop {
            let values = (user.as_str(), from.as_str(), at_most(limit - rooms.len()));
            let found: Vec<(String, Option<Vec<u8>>)> = self.all_pages(&self.cql.rooms_of, values).await?;
            let is_last = found.len() < limit - rooms.len();
            if let Some((conv, _)) = found.last() {
                from = conv.clone();
            }
            for (conv, member) in found {
                let room = ConvId::new(&conv).map_err(CqlError::new)?.as_room();
                if let (Some(room), Some(member)) = (room, member) {
                    rooms.push((room, decode(&member)?));
                }
            }
            if is_last || rooms.len() == limit {
                return Ok(rooms);
            }
        }
    }

    async fn room_cursors(
        &self,
        device: &Device,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, Seq)>> {
        let from = after.map(ConvId::room);
        let from = from.as_ref().map_or("room:", ConvId::as_str);
        let (user, name, life) = (device.user.as_str(), device.device.as_str(), signed(device.life));
        let found: Vec<(String, i64)> =
            self.all_pages(&self.cql.room_cursors, (user, name, life, from, at_most(limit))).await?;
        let named = found.into_iter().filter_map(|(conv, seq)| {
            let conv = match ConvId::new(&conv) {
                Ok(conv) => conv,
                Err(error) => return Some(Err(CqlError::new(error).into())),
            };
            conv.as_room().map(|room| Ok((room, unsigned(seq))))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::room::{Reach, Role, Spans, Standing};

    fn encode(kept: &impl Serialize) -> Vec<u8> {
        super::encode(kept).unwrap()
    }

    fn room() -> Room {
        let topic = "lunch".parse().ok();
        Room {
            topic,
            public: true,
            reach: Reach::All,
            created: 7,
            members: 3,
            owners: 1,
            applied: 5,
            lifetime: "60".parse().ok(),
        }
    }

    fn columns(state: Option<Vec<u8>>, head: Option<i64>, sender: &str, preview: &[u8]) -> Columns {
        let (sender, cid) = (Some(sender.to_owned()), Some("c".to_owned()));
        ("bar".to_owned(), state, head, Some(9), sender, cid, Some(0), Some(preview.to_vec()), Some(4), Some(5), None)
    }

    #[test]
    fn a_room_comes_back_with_its_head() {
        let (row, is_large) = to_room(columns(Some(encode(&room())), Some(8), "bob", &[0xc0])).unwrap().unwrap();
        assert_eq!((row.room.clone(), row.head, row.event, row.ts, row.counts.first), (room(), 8, 5, 9, 4));
        assert!(!is_large && row.last.is_some() && row.is_settled());
        let (row, is_large) = to_room(columns(Some(encode(&room())), Some(8), "bob", &[])).unwrap().unwrap();
        assert!(is_large && row.last.is_none());
        let (row, is_large) = to_room(columns(Some(encode(&room())), Some(8), "", &[])).unwrap().unwrap();
        assert!(!is_large && row.last.is_none(), "the row at the head is lost");
    }

    /// Its first event is applied, and the home died before the head: it is as if it did not exist, until it is mended.
    #[test]
    fn a_room_without_a_head_is_none() {
        assert_eq!(to_room(columns(Some(encode(&room())), None, "bob", &[0xc0])).unwrap(), None);
        assert_eq!(to_room(columns(None, Some(3), "bob", &[0xc0])).unwrap(), None);
    }

    #[test]
    fn members_come_back_and_what_cannot_be_read_is_an_error() {
        let member = Member { standing: Standing::Member(Role::Owner), spans: Spans::since(3), changed: 3 };
        let stored = encode(&member);
        assert_eq!(decode::<Member>(&stored).ok(), Some(member));
        for cut in 0..stored.len() {
            assert!(decode::<Member>(&stored[..cut]).is_err(), "cut at {cut}");
        }
        let mut later = stored;
        later[0] = VERSION + 1;
        assert!(decode::<Member>(&later).is_err());
    }
}
