//! What every engine promises of rooms: who may write is decided where a row gets its seq, and the tables are what the log
//! makes of them.

pub use std::collections::BTreeMap;

pub use natter::{
    model::{
        RoomId,
        room::{Change, Denied, Member, Reach, Role, Room, RoomLimits, Standing, View, decide, may_send},
    },
    store::{RoomRow, StoreError},
};

use super::*;

pub fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

/// What a store says where somebody may not.
pub fn denied<T>(why: Denied) -> StoreResult<T> {
    Err(StoreError::Denied(why))
}

/// A change as a message.
pub fn event(sender: &str, cid: &str, change: &Change) -> NewMessage {
    NewMessage { kind: Kind::Event, body: change.to_body(), ..message(sender, cid) }
}

/// A new room, public or not, whose members read from their join on.
pub fn created(public: bool) -> Change {
    Change::Created { topic: None, public, history: Reach::Join, lifetime: None }
}

pub fn invited(name: &str) -> Change {
    Change::Invited { user: user(name) }
}

pub fn kicked(name: &str) -> Change {
    Change::Kicked { user: user(name) }
}

pub fn made(name: &str, role: Role) -> Change {
    Change::Role { user: user(name), role }
}

/// Makes a change that nobody made before.
pub async fn change(store: &Store, room: &RoomId, sender: &str, change: &Change) -> StoreResult<Seq> {
    let cid = format!("{:x}", rand::random::<u64>());
    append(&*store.logs, &ConvId::room(room), event(sender, &cid, change)).await.map(|appended| appended.seq)
}

/// Sends a message.
pub async fn say(store: &Store, room: &RoomId, sender: &str, cid: &str) -> StoreResult<Seq> {
    append(&*store.logs, &ConvId::room(room), message(sender, cid)).await.map(|appended| appended.seq)
}

/// A new public room of alice, with these members besides.
pub async fn lobby(store: &Store, members: &[&str]) -> RoomId {
    let lobby = room("lobby");
    assert_eq!(change(store, &lobby, "alice", &created(true)).await, Ok(1));
    for (name, seq) in members.iter().zip(2..) {
        assert_eq!(change(store, &lobby, name, &Change::Joined).await, Ok(seq));
    }
    lobby
}

/// A room's row, if there is one.
pub async fn row(store: &Store, room: &RoomId) -> Option<RoomRow> {
    store.rooms.rooms(std::slice::from_ref(room)).await.unwrap().remove(0)
}

/// All that a room has heard of, read in pages of `limit`.
pub async fn members(store: &Store, room: &RoomId, limit: usize) -> Vec<(UserId, Member)> {
    let mut found: Vec<(UserId, Member)> = Vec::new();
    loop {
        let after = found.last().map(|(user, _)| user.clone());
        let page = store.rooms.members(room, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        let is_last = page.len() < limit;
        found.extend(page);
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "a listing must move on");
        if is_last {
            return found;
        }
    }
}

/// What a log makes of a room, by the rules of the model.
#[derive(Debug, Default, PartialEq)]
pub struct Folded {
    pub room: Option<Room>,
    pub members: BTreeMap<UserId, Member>,
}

impl Folded {
    pub fn member(&self, user: &UserId) -> Member {
        self.members.get(user).cloned().unwrap_or(Member::STRANGER)
    }

    /// What becomes of a message at `seq`: the same decision as the engine's.
    pub fn take(&mut self, seq: Seq, kind: Kind, sender: &UserId, ts: u64, body: &Body) -> Result<(), Denied> {
        let from = self.member(sender);
        if kind != Kind::Event {
            return may_send(self.room.as_ref(), &from);
        }
        let change = Change::from_body(body).unwrap();
        let about = change.concerns(sender);
        let target = about.map_or_else(|| from.clone(), |user| self.member(user));
        let view = View { room: self.room.as_ref(), sender: &from, target: &target };
        let changed = decide(view, &change, seq, ts, RoomLimits { members: 10_000 })?;
        if let (Some(user), Some(member)) = (about, changed.target) {
            self.members.insert(user.clone(), member);
        }
        self.room = Some(changed.room);
        Ok(())
    }

    pub fn of(rows: &[Row]) -> Self {
        let mut folded = Self::default();
        for row in rows {
            let taken = folded.take(row.seq, row.kind, &row.sender, row.ts, &row.body);
            assert_eq!(taken, Ok(()), "{} may not stand in the log: {row:?}", row.seq);
            assert!(lasts_as_it_should(folded.room.as_ref(), row), "{row:?} in {:?}", folded.room);
        }
        folded
    }
}

/// No message lasts longer than the room lets it.
fn lasts_as_it_should(room: Option<&Room>, row: &Row) -> bool {
    let end = room.and_then(|room| room.lifetime).map(|lifetime| lifetime.end(row.ts));
    row.kind != Kind::Message || end.is_none_or(|end| row.expires().is_some_and(|expires| expires <= end))
}

/// The log is dense, each row could be written where it stands, and the tables are what the log makes of them.
pub async fn checked(store: &Store, room: &RoomId) -> Vec<Row> {
    let rows = log(&*store.logs, &ConvId::room(room)).await;
    let folded = Folded::of(&rows);
    let kept = row(store, room).await;
    assert_eq!(kept.as_ref().map(|kept| kept.room.clone()), folded.room);
    assert_eq!(members(store, room, 3).await, folded.members.clone().into_iter().collect::<Vec<_>>());
    for (user, member) in &folded.members {
        assert_eq!(store.rooms.member(room, user).await.as_ref(), Ok(member));
        let of_user = store.rooms.rooms_of(user, None, 100).await.unwrap();
        assert!(of_user.contains(&(room.clone(), member.clone())), "{user}: {of_user:?}");
    }
    let Some(last) = rows.last() else { return rows };
    let kept = kept.unwrap();
    let event = rows.iter().rev().find(|row| row.kind == Kind::Event).map(|row| row.seq);
    let messages = rows.iter().filter(|row| row.kind == Kind::Message).count() as u64;
    assert_eq!((kept.head, kept.ts, Some(kept.event)), (last.seq, last.ts, event));
    assert_eq!(kept.counts, Counts { first: messages, second: 0 });
    let newest = rows.iter().rev().find(|row| matches!(row.kind, Kind::Message | Kind::Event)).unwrap();
    assert_eq!(
        kept.last.as_ref().map(|last| (last.seq, last.kind, last.body.clone())),
        Some((newest.seq, newest.kind, newest.body.clone()))
    );
    assert!(kept.is_settled());
    rows
}
