//! The open database and its tables. Made by [`super::EmbeddedStore::open`], and again by the writer after a failure
//! that passed; shared by the writer thread and the readers.

use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot};

use super::{
    EmbeddedOptions,
    fault::Fault,
    folder::{Folder, OpenError},
    keys,
    rows::{self, InboxValue},
};
use crate::{
    descriptors,
    model::{ConvId, Seq, UserId},
    store::{StoreError, StoreResult},
};

const MIB: u64 = 1024 * 1024;
/// Roughly the most that the journals take on the disk before tables are written out: two files of 64 MiB.
const JOURNAL_BYTES: u64 = 128 * MIB;

/// All tables; [`super::keys`] says what is in them.
pub(super) struct Tables {
    pub(super) db: Database,
    pub(super) messages: Keyspace,
    pub(super) cids: Keyspace,
    pub(super) inbox: Keyspace,
    pub(super) cursors: Keyspace,
    pub(super) devices: Keyspace,
    /// The last field, so that the folder is released only after the database is closed.
    _folder: Arc<Folder>,
}

impl Tables {
    /// Opens the database in a claimed folder, creating the tables that do not exist, and records that it is complete.
    pub(super) fn open(folder: Arc<Folder>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let tables = Self::make(folder.clone(), options)?;
        folder.mark_created()?;
        Ok(tables)
    }

    /// The same, to be filled before it counts as created.
    pub(super) fn make(folder: Arc<Folder>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let failed = |cause: fjall::Error| OpenError::Engine { dir: folder.dir().into(), cause };
        let db = Database::builder(folder.data())
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(2)
            .max_cached_files(Some(descriptors::store_files(descriptors::allowed())))
            .open()
            .map_err(failed)?;
        // Inbox rows and cursors are written again and again under one key, and a scan steps over every version
        // that is still in memory: their tables are kept small.
        let table = |name, mib| db.keyspace(name, || table_options(mib * MIB)).map_err(failed);
        let (messages, cids) = (table("messages", 32)?, table("cids", 16)?);
        let (inbox, cursors) = (table("inbox", 16)?, table("cursors", 16)?);
        let devices = table("devices", 4)?;
        Ok(Self { messages, cids, inbox, cursors, devices, db, _folder: folder })
    }

    /// Opens the database again after a failure that may have passed, and sees a write become durable before anybody
    /// else may use it.
    pub(super) fn reopen(folder: &Arc<Folder>, options: EmbeddedOptions) -> Result<Self, Fault> {
        folder.mend()?;
        let tables = Self::open(folder.clone(), options)?;
        let mut check = tables.db.batch().durability(Some(PersistMode::SyncData));
        check.insert(&tables.cursors, keys::check(), rows::encode_seq(0));
        check.commit()?;
        Ok(tables)
    }

    /// The cursor under `key`; 0 where there is none.
    pub(super) fn cursor(&self, key: &Slice) -> StoreResult<Seq> {
        self.cursors.get(key).map_err(unavailable)?.map_or(Ok(0), |value| rows::decode_seq(&value))
    }

    /// A user's row for a conversation; all zero where there is none.
    pub(super) fn inbox_row(&self, user: &UserId, conv: &ConvId) -> StoreResult<InboxValue> {
        let found = self.inbox.get(keys::inbox(user, conv)).map_err(unavailable)?;
        found.map_or(Ok(InboxValue::default()), |value| InboxValue::decode(&value))
    }

    /// The highest seq whose row exists; 0 in an empty log.
    pub(super) fn top(&self, view: &Snapshot, conv: &ConvId) -> StoreResult<Seq> {
        let Some(last) = view.range(&self.messages, keys::messages(conv, 0, Seq::MAX)).next_back() else {
            return Ok(0);
        };
        keys::seq_of(&last.key().map_err(unavailable)?).ok_or_else(rows::unreadable)
    }
}

fn table_options(memory: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memory)
}

/// An error of the engine as the store reports it.
pub(super) fn unavailable(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => StoreError::unavailable(error),
        error => StoreError::unavailable(error),
    }
}
