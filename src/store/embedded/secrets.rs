//! [`Keys`]: what bodies are sealed with. The keys themselves stand in a file of their own, `KEYS`, in slots of one size, so that
//! one that is destroyed is written over where it stands: in the engine's own files a row that was removed stays until it is
//! compacted, and in its journals longer. A table says which slot a user's key of a month is in.
//!
//! A slot is on the disk before the commit that names it, and written over before the one that forgets it: a slot without a name
//! is never read, and a name whose slot is empty has no key. Numbers are big-endian:
//!
//! ```text
//! length of the key (1)   key, and zeros after it (119)   FNV-1a of both (8); all zeros where it was destroyed
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use fjall::{Readable as _, Slice};

use super::{
    EmbeddedStore,
    command::Command,
    commit::Commit,
    keys, rows,
    tables::{Tables, unavailable},
};
use crate::{
    fnv::Fnv,
    model::UserId,
    store::{
        Keys, STORE_DEADLINE, StoreError, StoreFuture, StoreResult,
        keys::{MOST_KEY, Month},
    },
};

const SLOT: usize = 128;
const SUM: usize = SLOT - 8;

/// The file. Only the writer thread changes it; anybody may read.
pub(super) struct Secrets {
    file: File,
    /// The slot that the next key gets.
    next: AtomicU64,
}

impl Secrets {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let next = file.metadata()?.len().div_ceil(SLOT as u64);
        Ok(Self { file, next: AtomicU64::new(next) })
    }

    /// There never was a key in it.
    pub(super) fn is_empty(&self) -> bool {
        self.next.load(Ordering::Acquire) == 0
    }

    /// The key in a slot; none where it was destroyed, or never came to the disk as a whole.
    pub(super) fn read(&self, slot: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = [0; SLOT];
        match self.file.read_exact_at(&mut bytes, slot * SLOT as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let (content, sum) = bytes.split_at(SUM);
        let is_whole = content[0] > 0 && sum == Fnv::new().with(content).sum().to_be_bytes();
        Ok(is_whole.then(|| content[1..].get(..content[0].into()).unwrap_or_default().to_vec()))
    }

    /// Puts a key into a slot of its own; on the disk after [`Self::sync`].
    pub(super) fn put(&self, key: &[u8]) -> io::Result<u64> {
        let len = u8::try_from(key.len()).ok().filter(|_| (1..=MOST_KEY).contains(&key.len()));
        let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a key is too long, or empty"))?;
        let mut bytes = [0; SLOT];
        bytes[0] = len;
        bytes[1..=key.len()].copy_from_slice(key);
        let sum = Fnv::new().with(&bytes[..SUM]).sum().to_be_bytes();
        bytes[SUM..].copy_from_slice(&sum);
        // A slot that could not be written is not tried again: what follows has the next one.
        let slot = self.next.fetch_add(1, Ordering::AcqRel);
        self.file.write_all_at(&bytes, slot * SLOT as u64)?;
        Ok(slot)
    }

    /// Writes over it; on the disk after [`Self::sync`].
    fn wipe(&self, slot: u64) -> io::Result<()> {
        self.file.write_all_at(&[0; SLOT], slot * SLOT as u64)
    }

    /// Everything is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Keys for EmbeddedStore {
    fn key<'a>(&'a self, user: &'a UserId, month: Month) -> StoreFuture<'a, Option<Vec<u8>>> {
        let key = keys::secret(user, month);
        Box::pin(self.read(move |tables| tables.secret(&key)))
    }

    fn keep_key<'a>(&'a self, user: &'a UserId, month: Month, key: Vec<u8>) -> StoreFuture<'a, Vec<u8>> {
        let at = keys::secret(user, month);
        Box::pin(self.request(STORE_DEADLINE, move |reply| Command::KeepKey { at, key, reply }))
    }

    fn destroy_keys<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, u64> {
        let user = user.clone();
        Box::pin(self.request(STORE_DEADLINE, move |reply| Command::DestroyKeys { user, reply }))
    }
}

impl Tables {
    /// The key that a row of the table leads to.
    fn secret(&self, at: &Slice) -> StoreResult<Option<Vec<u8>>> {
        let slot = self.keys.get(at).map_err(unavailable)?;
        slot.map_or(Ok(None), |slot| self.secret_in(&slot))
    }

    /// The key in the slot that a row names.
    pub(super) fn secret_in(&self, slot: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        self.secrets.read(rows::decode_seq(slot)?).map_err(StoreError::unavailable)
    }
}

impl Commit<'_> {
    /// Keeps a key where there is none; returns the one that stands.
    pub(super) fn keep_key(&mut self, at: Slice, key: Vec<u8>) -> StoreResult<Vec<u8>> {
        let known = match self.secrets.get(&at) {
            Some(slot) => slot.map(|slot| self.tables.secrets.read(slot)).transpose().map(Option::flatten),
            None => return self.keep_new_key(at, key),
        };
        match known.map_err(StoreError::unavailable)? {
            Some(stands) => Ok(stands),
            None => self.put_key(at, key),
        }
    }

    fn keep_new_key(&mut self, at: Slice, key: Vec<u8>) -> StoreResult<Vec<u8>> {
        match self.tables.secret(&at)? {
            Some(stands) => Ok(stands),
            None => self.put_key(at, key),
        }
    }

    fn put_key(&mut self, at: Slice, key: Vec<u8>) -> StoreResult<Vec<u8>> {
        let slot = self.tables.secrets.put(&key).map_err(StoreError::unavailable)?;
        self.secrets.insert(at, Some(slot));
        Ok(key)
    }

    /// Writes over all keys of a user. Returns how many.
    pub(super) fn destroy_keys(&mut self, user: &UserId) -> StoreResult<u64> {
        let range = keys::secrets(user);
        let mut slots = Vec::new();
        for item in self.tables.db.snapshot().range(&self.tables.keys, range.clone()) {
            let (at, slot) = item.into_inner().map_err(unavailable)?;
            slots.push((at, Some(rows::decode_seq(&slot)?)));
        }
        // Those of this commit are in no table yet.
        slots.extend(self.secrets.range(range).map(|(at, slot)| (at.clone(), *slot)));
        let mut destroyed = 0;
        for (at, slot) in slots {
            if let Some(slot) = slot {
                self.tables.secrets.wipe(slot).map_err(StoreError::unavailable)?;
                destroyed += u64::from(self.secrets.insert(at, None) != Some(None));
            }
        }
        Ok(destroyed)
    }

    /// Puts what was collected into the batch, behind the slots themselves.
    pub(super) fn write_secrets(&mut self) -> io::Result<()> {
        if self.secrets.is_empty() {
            return Ok(());
        }
        self.tables.secrets.sync()?;
        for (at, slot) in std::mem::take(&mut self.secrets) {
            match slot {
                Some(slot) => self.batch.insert(&self.tables.keys, at, rows::encode_seq(slot)),
                None => self.batch.remove(&self.tables.keys, at),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_a_key_until_it_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("KEYS");
        let secrets = Secrets::open(&path).unwrap();
        let slots: Vec<_> = [&[7; 33][..], &[8; MOST_KEY]].iter().map(|key| secrets.put(key).unwrap()).collect();
        assert_eq!(slots, [0, 1]);
        assert!(secrets.put(&[]).is_err() && secrets.put(&[1; MOST_KEY + 1]).is_err());
        secrets.sync().unwrap();
        drop(secrets);
        let secrets = Secrets::open(&path).unwrap();
        assert_eq!(secrets.read(0).unwrap(), Some(vec![7; 33]));
        assert_eq!(secrets.read(1).unwrap(), Some(vec![8; MOST_KEY]));
        assert_eq!(secrets.read(9).unwrap(), None);
        secrets.wipe(0).unwrap();
        assert_eq!(secrets.read(0).unwrap(), None);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|part| part == [7; 8]), "it is still there");
        // What did not come to the disk as a whole is no key.
        std::fs::write(&path, &bytes[..SLOT + 60]).unwrap();
        let secrets = Secrets::open(&path).unwrap();
        assert_eq!(secrets.read(1).unwrap(), None);
        assert_eq!(secrets.put(&[9; 33]).unwrap(), 2, "behind what is broken");
        assert_eq!(secrets.read(2).unwrap(), Some(vec![9; 33]));
    }
}
