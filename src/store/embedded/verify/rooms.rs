//! Whether the tables of rooms hold what the logs make of them: membership is a fold of the log (R22).

use std::collections::btree_map::Entry;

use fjall::Readable as _;

use super::Check;
use crate::{
    model::{
        ConvId, RoomId, Row, Seq, UserId,
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

impl RoomSeen {
    /// Whether somebody is in the room now.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.fold.has(user)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fjall::{PersistMode, Slice};

    use super::*;
    use crate::{
        model::{
            Body, Cid, Counts, Kind, NewMessage, UserId,
            room::{Change, Reach},
        },
        store::embedded::{
            EmbeddedOptions,
            commit::{Commit, Memory, QueuedMessage},
            folder::Folder,
            tables::Tables,
            verify::verify,
        },
    };

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    /// A room of alice, who kicked bob, with some of its rows changed behind the writer's back.
    fn problems(change: impl Fn(&Tables, &RoomId, &mut fjall::OwnedWriteBatch)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let tables =
            Tables::open(Arc::new(Folder::claim(dir.path(), false).unwrap()), EmbeddedOptions::default()).unwrap();
        let id = RoomId::new("lobby").unwrap();
        let steps = [
            ("alice", Change::Created { topic: None, public: true, history: Reach::Join, lifetime: None }),
            ("bob", Change::Joined),
            ("alice", Change::Kicked { user: user("bob") }),
        ];
        let queued = |(n, (sender, change)): (usize, (&str, Change))| {
            let message = NewMessage::of_user(user(sender), Cid::new(&n.to_string()).unwrap(), 1, change.to_body());
            let cid = keys::cid(&ConvId::room(&id), &message.sender, &message.cid);
            QueuedMessage { cid, message: NewMessage { kind: Kind::Event, ..message } }
        };
        let mut memory = Memory::new();
        let mut commit = Commit::new(&tables, &mut memory);
        let answers = commit.append(&ConvId::room(&id), steps.into_iter().enumerate().map(queued).collect());
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        commit.write().unwrap();
        let mut batch = tables.db.batch();
        change(&tables, &id, &mut batch);
        tables.commit(batch, PersistMode::SyncAll).unwrap();
        tables.close_idle();
        verify(dir.path(), EmbeddedOptions::default(), |_| ()).unwrap().problems
    }

    fn kept(tables: &Tables, table: &fjall::Keyspace, key: Slice) -> Slice {
        tables.db.snapshot().get(table, key).unwrap().unwrap()
    }

    #[test]
    fn what_the_log_does_not_make_is_reported() {
        assert_eq!(problems(|_, _, _| ()), [""; 0]);
        let (alice, bob, eve) = (user("alice"), user("bob"), user("eve"));
        let back_in = problems(|tables, id, batch| {
            let of_alice = kept(tables, &tables.members, keys::member(id, &alice));
            batch.insert(&tables.members, keys::member(id, &bob), of_alice.clone());
            batch.insert(&tables.rooms_of, keys::room_of(&bob, id), of_alice);
        });
        assert!(back_in.len() == 1 && back_in[0].contains("of bob"), "{back_in:?}");
        let unknown = problems(|tables, id, batch| {
            let of_alice = kept(tables, &tables.members, keys::member(id, &alice));
            batch.insert(&tables.members, keys::member(id, &eve), of_alice.clone());
            batch.insert(&tables.rooms_of, keys::room_of(&eve, id), of_alice);
        });
        assert!(unknown.len() == 1 && unknown[0].contains("None of eve"), "{unknown:?}");
        let gone = problems(|tables, id, batch| {
            batch.remove(&tables.members, keys::member(id, &bob));
            batch.remove(&tables.rooms_of, keys::room_of(&bob, id));
        });
        assert!(gone.len() == 1 && gone[0].contains("nothing is kept"), "{gone:?}");
        let one_side = problems(|tables, id, batch| {
            batch.insert(
                &tables.rooms_of,
                keys::room_of(&bob, id),
                kept(tables, &tables.members, keys::member(id, &alice)),
            );
        });
        assert!(one_side.len() == 1 && one_side[0].contains("among the user's rooms"), "{one_side:?}");
        let other_side = problems(|tables, id, batch| {
            batch.insert(
                &tables.rooms_of,
                keys::room_of(&eve, id),
                kept(tables, &tables.members, keys::member(id, &alice)),
            );
        });
        assert!(other_side.len() == 1 && other_side[0].contains("only in the user's rooms"), "{other_side:?}");
        let another_room = problems(|tables, id, batch| {
            let room: Room = room_rows::decode(&kept(tables, &tables.rooms, keys::room(id))).unwrap();
            batch.insert(&tables.rooms, keys::room(id), room_rows::encode(&Room { members: 2, ..room }).unwrap());
        });
        assert!(another_room.len() == 1 && another_room[0].contains("the log makes"), "{another_room:?}");
        let no_log = problems(|tables, id, batch| {
            let nowhere = RoomId::new("nowhere").unwrap();
            batch.insert(&tables.rooms, keys::room(&nowhere), kept(tables, &tables.rooms, keys::room(id)));
        });
        assert!(no_log.len() == 1 && no_log[0].contains("a room and no event"), "{no_log:?}");
    }

    #[test]
    fn a_row_that_its_sender_could_not_write_is_reported() {
        let by_bob = problems(|tables, id, batch| {
            let conv = ConvId::room(id);
            let message = NewMessage::of_user(user("bob"), Cid::new("after").unwrap(), 1, Body::text("hi"));
            let counts = Counts { first: 1, second: 0 };
            batch.insert(&tables.messages, keys::message(&conv, 4), rows::encode(&message, counts).unwrap());
            batch.insert(&tables.cids, keys::cid(&conv, &message.sender, &message.cid), rows::encode_seq(4));
        });
        assert!(by_bob.len() == 1 && by_bob[0].contains("bob could not write what stands at 4"), "{by_bob:?}");
    }
}
