//! The open database and its tables. Made by [`super::EmbeddedStore::open`], and again by the writer after a failure
//! that passed; shared by the writer thread and the readers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot};

use super::{
    EmbeddedOptions,
    fault::Fault,
    folder::Folder,
    inspect::{self, Found},
    journal::COMMIT_KEY,
    keeper::{self, Keeper},
    keys, manifest,
    open_error::OpenError,
    rescue,
    rows::{self, CommitRow, InboxValue},
    secrets::Secrets,
    verify,
    watermark::{Mark, Watermark},
};
use crate::{
    descriptors,
    model::{ConvId, Seq, UserId, room::RoomLimits},
    store::{StoreError, StoreResult},
};

const MIB: u64 = 1024 * 1024;
/// Roughly the most that the journals take on the disk before tables are written out: two files of 64 MiB.
const JOURNAL_BYTES: u64 = 128 * MIB;
/// How many tables there are; the engine numbers them from 1, in the order in which they were made.
pub(super) const TABLES: usize = 15;
/// Their names and how much of each is kept in memory, in MiB. Inbox rows and cursors are written again and again under
/// one key, and a scan steps over every version that is still in memory: their tables are kept small.
const NAMES: [(&str, u64); TABLES] = [
    ("messages", 32),
    ("cids", 16),
    ("inbox", 16),
    ("cursors", 16),
    ("devices", 4),
    ("commits", 4),
    ("rooms", 4),
    ("members", 4),
    ("rooms_of", 4),
    ("last_seen", 4),
    ("blocks", 4),
    ("folds", 8),
    ("mentions", 4),
    ("expiring", 4),
    ("keys", 4),
];

/// The engine's files in a folder, open.
pub(super) struct Opened {
    pub(super) db: Database,
    /// In the order of [`NAMES`].
    pub(super) tables: [Keyspace; TABLES],
}

impl Opened {
    /// Opens them, making what is not there.
    pub(super) fn open(path: &Path, options: EmbeddedOptions) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(2)
            .max_cached_files(Some(descriptors::store_files(descriptors::allowed())))
            .open()?;
        let table = |(name, mib)| db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(mib * MIB));
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = NAMES.map(table);
        let tables = [a?, b?, c?, d?, e?, f?, g?, h?, i?, j?, k?, l?, m?, n?, o?];
        Ok(Self { tables, db })
    }
}

/// All tables; [`super::keys`] says what is in them.
pub(super) struct Tables {
    /// The first field: it ends before the database is closed.
    _keeper: Keeper,
    pub(super) db: Database,
    pub(super) messages: Keyspace,
    pub(super) cids: Keyspace,
    pub(super) inbox: Keyspace,
    pub(super) cursors: Keyspace,
    pub(super) devices: Keyspace,
    commits: Keyspace,
    pub(super) rooms: Keyspace,
    pub(super) members: Keyspace,
    pub(super) rooms_of: Keyspace,
    pub(super) last_seen: Keyspace,
    pub(super) blocks: Keyspace,
    pub(super) folds: Keyspace,
    pub(super) mentions: Keyspace,
    pub(super) expiring: Keyspace,
    pub(super) keys: Keyspace,
    /// What the rows of `keys` lead to.
    pub(super) secrets: Secrets,
    /// The last number given to a commit. One thread writes.
    number: AtomicU64,
    pub(super) watermark: Arc<Watermark>,
    /// Each log goes on above it.
    pub(super) floor: Seq,
    /// How large rooms may become.
    pub(super) room_limits: RoomLimits,
    /// After the database, which is closed when this is dropped.
    close: Close,
}

/// Lists the files once the database is closed, if everything was written out before. Its folder goes last.
struct Close {
    clean: AtomicBool,
    watermark: Arc<Watermark>,
    folder: Arc<Folder>,
}

impl Drop for Close {
    fn drop(&mut self) {
        if !self.clean.load(Ordering::Acquire) {
            return;
        }
        let listed = self.watermark.sync().and_then(|()| {
            manifest::write(&self.folder.data(), &self.folder.manifest_path(), self.watermark.mark().opens)
        });
        if let Err(error) = listed {
            tracing::warn!(%error, "the store was closed without a list of its files");
        }
    }
}

impl Tables {
    /// Opens the database in a claimed folder, creating the tables that do not exist, and records that it is complete.
    /// A store that is not whole is refused, or rescued where a loss is accepted.
    pub(super) fn open(folder: Arc<Folder>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let tables =
            if folder.is_created() { Self::open_sound(&folder, options)? } else { Self::make(&folder, options)? };
        folder.mark_created()?;
        Ok(tables)
    }

    /// A new store, to be filled before it counts as created.
    pub(super) fn make(folder: &Arc<Folder>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        Self::start(folder, options, Mark::new(), 0)
    }

    fn open_sound(folder: &Arc<Folder>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::Io { dir: folder.dir().into(), what, source };
        keeper::put_back(folder).map_err(failed("put journals back"))?;
        let mut found = inspect::inspect(folder).map_err(failed("look at the files"))?;
        if !found.problems.is_empty() {
            if !options.accept_loss {
                return Err(OpenError::Damaged { dir: folder.dir().into(), problems: found.problems });
            }
            rescue::rescue(folder, options, &found)?;
            found = inspect::inspect(folder).map_err(failed("look at the files"))?;
        }
        if let Some((path, end)) = &found.torn {
            cut(path, *end).map_err(failed("cut the end of a journal that was never answered"))?;
        }
        let tables = Self::start_found(folder, options, &found)?;
        // What only a read of everything shows, which a start does not wait for.
        if options.accept_loss && !verify::blocks_are_whole(&tables).unwrap_or(false) {
            tables.close_idle();
            rescue::rescue(folder, options, &found)?;
            found = inspect::inspect(folder).map_err(failed("look at the files"))?;
            return Self::start_found(folder, options, &found);
        }
        Ok(tables)
    }

    fn start_found(folder: &Arc<Folder>, options: EmbeddedOptions, found: &Found) -> Result<Self, OpenError> {
        let Some(mark) = found.mark else {
            return Err(OpenError::Damaged { dir: folder.dir().into(), problems: found.problems.clone() });
        };
        Self::start(folder, options, Mark { opens: mark.opens + 1, ..mark }, found.last)
    }

    fn start(folder: &Arc<Folder>, options: EmbeddedOptions, mark: Mark, last: u64) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::Io { dir: folder.dir().into(), what, source };
        let watermark = Watermark::start(&folder.watermark_path(), mark).map_err(failed("write the watermark"))?;
        let watermark = Arc::new(watermark);
        let opened = Opened::open(&folder.data(), options);
        let Opened { db, tables } = opened.map_err(|cause| OpenError::Engine { dir: folder.dir().into(), cause })?;
        let [messages, cids, inbox, cursors, devices, commits, rooms, members, rooms_of, last_seen, blocks, ..] =
            tables;
        let [.., folds, mentions, expiring, keys] = tables;
        let secrets = Secrets::open(&folder.keys_path()).map_err(failed("open the file of keys"))?;
        // All that was sealed would look erased.
        if secrets.is_empty() && !options.accept_loss && db.snapshot().iter(&keys).next().is_some() {
            let problems = vec!["KEYS is missing: what is sealed cannot be read without it".to_owned()];
            return Err(OpenError::Damaged { dir: folder.dir().into(), problems });
        }
        let keeper = Keeper::start(folder.clone(), watermark.clone()).map_err(failed("start a thread"))?;
        let close = Close { clean: AtomicBool::new(false), watermark: watermark.clone(), folder: folder.clone() };
        let (number, floor) = (AtomicU64::new(last), mark.floor);
        Ok(Self {
            _keeper: keeper,
            db,
            messages,
            cids,
            inbox,
            cursors,
            devices,
            commits,
            rooms,
            members,
            rooms_of,
            last_seen,
            blocks,
            folds,
            mentions,
            expiring,
            keys,
            secrets,
            number,
            watermark,
            floor,
            room_limits: options.rooms,
            close,
        })
    }

    /// Opens the database again after a failure that may have passed, and sees a write become durable before anybody
    /// else may use it.
    pub(super) fn reopen(folder: &Arc<Folder>, options: EmbeddedOptions) -> Result<Self, Fault> {
        folder.mend()?;
        // Nothing was lost that somebody accepted while this process ran.
        let tables = Self::open(folder.clone(), EmbeddedOptions { accept_loss: false, ..options })?;
        let mut check = tables.db.batch();
        check.insert(&tables.cursors, keys::check(), rows::encode_seq(0));
        tables.commit(check, PersistMode::SyncData)?;
        Ok(tables)
    }

    /// Commits a batch with a row about itself, and moves the watermark where the batch is on the disk now. One thread
    /// at a time.
    pub(super) fn commit(&self, mut batch: fjall::OwnedWriteBatch, mode: PersistMode) -> Result<(), Fault> {
        if batch.is_empty() {
            return Ok(());
        }
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        let mark = self.watermark.mark();
        let row = CommitRow { store: mark.store, number, durable: mark.number };
        batch.insert(&self.commits, COMMIT_KEY, row.encode());
        batch.durability(Some(mode)).commit()?;
        if mode != PersistMode::Buffer {
            self.watermark.write(|mark| mark.number = number).map_err(fjall::Error::Io)?;
        }
        Ok(())
    }

    /// The number that the next commit has, for the one thread that writes. A batch that turns out empty leaves it to the
    /// one after.
    pub(super) fn next_commit(&self) -> u64 {
        self.number.load(Ordering::Acquire) + 1
    }

    /// Commits a batch of a store that is being made. None of it counts before all of it is written out, so the
    /// watermark may run ahead: it wakes the keeper, who sees the journals come and go.
    pub(super) fn fill(&self, batch: fjall::OwnedWriteBatch) -> Result<(), Fault> {
        self.commit(batch, PersistMode::Buffer)?;
        let number = self.number.load(Ordering::Acquire);
        Ok(self.watermark.write(|mark| mark.number = number).map_err(fjall::Error::Io)?)
    }

    /// All of them but that of the commits.
    pub(super) fn all(&self) -> [&Keyspace; TABLES - 1] {
        let Self { messages, cids, inbox, cursors, devices, rooms, members, rooms_of, last_seen, blocks, .. } = self;
        let Self { folds, mentions, expiring, keys, .. } = self;
        [
            messages, cids, inbox, cursors, devices, rooms, members, rooms_of, last_seen, blocks, folds, mentions,
            expiring, keys,
        ]
    }

    /// Closes tables that nobody wrote to.
    pub(super) fn close_idle(self) {
        match self.db.persist(PersistMode::SyncAll) {
            Ok(()) => self.closed_clean(),
            Err(error) => tracing::warn!(%error, "the store could not be written out when it was closed"),
        }
    }

    /// All is written out: whoever drops the tables last leaves a list of the files.
    pub(super) fn closed_clean(&self) {
        let number = self.number.load(Ordering::Acquire);
        let moved = self.watermark.write(|mark| mark.number = number);
        self.close.clean.store(moved.is_ok(), Ordering::Release);
    }

    /// The cursor under `key`; 0 where there is none.
    pub(super) fn cursor(&self, key: &Slice) -> StoreResult<Seq> {
        self.seq_at(&self.cursors, key)
    }

    /// The number in a row that holds nothing else; 0 where there is none.
    pub(super) fn seq_at(&self, table: &Keyspace, key: &Slice) -> StoreResult<Seq> {
        table.get(key).map_err(unavailable)?.map_or(Ok(0), |value| rows::decode_seq(&value))
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

/// What follows was never answered. The engine would cut it, too, or refuse the whole file, as the damage is.
fn cut(path: &PathBuf, end: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}

/// An error of the engine as the store reports it.
pub(super) fn unavailable(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => StoreError::unavailable(error),
        // A checksum, or a form, that is not what was written.
        fjall::Error::Storage(error) if !matches!(error, fjall::LsmError::Io(_)) => {
            StoreError::Damaged(error.to_string().into())
        }
        error => StoreError::unavailable(error),
    }
}
