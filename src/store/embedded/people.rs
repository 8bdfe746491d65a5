//! [`People`]: when users were last seen, and who blocks whom, on both users' side. Writes are commands of the writer; reads
//! run on blocking threads.

use fjall::{Guard, Readable as _};

use super::{
    EmbeddedStore,
    command::Command,
    commit::Commit,
    keys, rows,
    tables::{Tables, unavailable},
};
use crate::{
    model::{Millis, UserId},
    store::{People, STORE_DEADLINE, StoreFuture, StoreResult, Tie},
};

/// The two sides of a block in one byte.
const BLOCKS: u8 = 1;
const BLOCKED: u8 = 2;

impl People for EmbeddedStore {
    fn see<'a>(&'a self, seen: &'a [(UserId, Millis)]) -> StoreFuture<'a, ()> {
        let seen = seen.to_vec();
        Box::pin(self.request(STORE_DEADLINE, |reply| Command::See { seen, reply }))
    }

    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> StoreFuture<'a, Vec<Option<Millis>>> {
        let users = users.to_vec();
        Box::pin(self.read(move |tables| {
            let at = |user| tables.seq_at(&tables.last_seen, &keys::person(user));
            users.iter().map(|user| at(user).map(|at| (at > 0).then_some(at))).collect()
        }))
    }

    fn block<'a>(&'a self, user: &'a UserId, other: &'a UserId, on: bool) -> StoreFuture<'a, ()> {
        let (user, other) = (user.clone(), other.clone());
        Box::pin(self.request(STORE_DEADLINE, move |reply| Command::Block { user, other, on, reply }))
    }

    fn ties<'a>(&'a self, user: &'a UserId, after: Option<&'a UserId>, limit: usize) -> StoreFuture<'a, Vec<Tie>> {
        let range = keys::ties(user, after);
        Box::pin(self.read(move |tables| {
            let found = tables.db.snapshot().range(&tables.blocks, range).take(limit.max(1));
            found.map(tie).collect()
        }))
    }

    fn tie<'a>(&'a self, user: &'a UserId, other: &'a UserId) -> StoreFuture<'a, Tie> {
        let (key, other) = (keys::tie(user, other), other.clone());
        Box::pin(self.read(move |tables| {
            let sides = sides(tables, &key)?;
            Ok(Tie { other, blocks: sides & BLOCKS > 0, blocked: sides & BLOCKED > 0 })
        }))
    }
}

/// Both sides of a tie, 0 where there is none.
pub(super) fn sides(tables: &Tables, key: &[u8]) -> StoreResult<u8> {
    let found = tables.blocks.get(key).map_err(unavailable)?;
    found.map_or(Ok(0), |value| decode(&value))
}

/// The one byte of a row.
///
/// # Errors
/// When the row was not written by this module.
pub(super) fn decode(value: &[u8]) -> StoreResult<u8> {
    match value {
        [sides] if *sides <= BLOCKS | BLOCKED => Ok(*sides),
        _ => Err(rows::unreadable()),
    }
}

/// The same as the other one has it.
pub(super) fn mirrored(sides: u8) -> u8 {
    (sides & BLOCKS) << 1 | (sides & BLOCKED) >> 1
}

fn tie(item: Guard) -> StoreResult<Tie> {
    let (key, value) = item.into_inner().map_err(unavailable)?;
    let sides = decode(&value)?;
    let other = keys::tie_of(&key).ok_or_else(rows::unreadable)?;
    Ok(Tie { other, blocks: sides & BLOCKS > 0, blocked: sides & BLOCKED > 0 })
}

impl Commit<'_> {
    /// Raises when users were last seen; an earlier time changes nothing.
    pub(super) fn see(&mut self, seen: &[(UserId, Millis)]) -> StoreResult<()> {
        for (user, at) in seen {
            let key = keys::person(user);
            let known = match self.seen.get(&key) {
                Some(known) => *known,
                None => self.tables.seq_at(&self.tables.last_seen, &key)?,
            };
            if *at > known {
                self.seen.insert(key, *at);
            }
        }
        Ok(())
    }

    /// Writes both sides of a block.
    pub(super) fn block(&mut self, user: &UserId, other: &UserId, on: bool) -> StoreResult<()> {
        for (key, side) in [(keys::tie(user, other), BLOCKS), (keys::tie(other, user), BLOCKED)] {
            let known = match self.ties.get(&key) {
                Some(known) => *known,
                None => sides(self.tables, &key)?,
            };
            self.ties.insert(key, if on { known | side } else { known & !side });
        }
        Ok(())
    }

    /// Puts what was collected into the batch.
    pub(super) fn write_people(&mut self) {
        for (key, at) in std::mem::take(&mut self.seen) {
            self.batch.insert(&self.tables.last_seen, key, rows::encode_seq(at));
        }
        for (key, sides) in std::mem::take(&mut self.ties) {
            if sides == 0 {
                self.batch.remove(&self.tables.blocks, key);
            } else {
                self.batch.insert(&self.tables.blocks, key, [sides]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use fjall::PersistMode;

    use super::*;
    use crate::store::embedded::{EmbeddedOptions, commit::Memory, folder::Folder, verify::verify};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    /// alice blocks bob, and one side of it is lost.
    #[test]
    fn a_side_of_a_block_that_is_lost_is_reported_and_made_again_of_the_other() {
        let (alice, bob, options) = (user("alice"), user("bob"), EmbeddedOptions::default());
        for lost in [keys::tie(&alice, &bob), keys::tie(&bob, &alice)] {
            let dir = tempfile::tempdir().unwrap();
            let folder = Arc::new(Folder::claim(dir.path(), false).unwrap());
            let tables = Tables::open(folder.clone(), options).unwrap();
            let mut memory = Memory::new();
            let mut commit = Commit::new(&tables, &mut memory);
            commit.block(&alice, &bob, true).unwrap();
            commit.see(&[(alice.clone(), 7)]).unwrap();
            assert!(commit.is_durable(), "a block waits for the disk");
            commit.write().unwrap();
            let mut batch = tables.db.batch();
            batch.remove(&tables.blocks, lost);
            tables.commit(batch, PersistMode::SyncAll).unwrap();
            tables.close_idle();
            let watermark = folder.watermark_path();
            drop(folder);
            let problems = verify(dir.path(), options, |_| ()).unwrap().problems;
            assert!(problems.len() == 1 && problems[0].contains("two sides"), "{problems:?}");
            // A loss that somebody accepts.
            fs::remove_file(watermark).unwrap();
            let options = EmbeddedOptions { accept_loss: true, ..options };
            let tables = Tables::open(Arc::new(Folder::claim(dir.path(), true).unwrap()), options).unwrap();
            let both = [keys::tie(&alice, &bob), keys::tie(&bob, &alice)].map(|key| sides(&tables, &key).unwrap());
            assert_eq!(both, [BLOCKS, BLOCKED]);
            assert_eq!(tables.seq_at(&tables.last_seen, &keys::person(&alice)), Ok(7));
        }
    }
}
