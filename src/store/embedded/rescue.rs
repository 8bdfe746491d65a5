//! Makes a sound store of what can be read of a damaged one, where somebody accepted the loss. Called when a store is
//! opened that [`super::inspect`] found damaged.
//!
//! The damaged files are left as they are and end up in `damaged-<seconds>/`. From them:
//!
//! 1. `salvage/`: second names of the engine's tables, and the journals without what cannot be read of them. A batch
//!    behind a damaged place is whole, so it is not lost.
//! 2. `rescue/`: a new store, with every row that can be read in `salvage/`. Heads and cids are made again from the
//!    messages, so that they fit them: no head above or below its log, no cid without its message; and rooms of the
//!    messages and of their own rows, whichever know of the later change.
//! 3. `rescued/`: the same, closed and on the disk. Now the damaged files are moved away, and it becomes `data/`.
//!
//! A crash before the last step leaves everything as it was, and one in it is made up for by the next start.
//! Each log goes on above the *floor*: the ceiling of the lost watermark, above which no seq was ever given out (I4).

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fjall::{PersistMode, Slice};

use super::{
    EmbeddedOptions,
    folder::{Folder, copy_and_sync, remove_if_there},
    inspect::Found,
    journal, keys,
    open_error::OpenError,
    people,
    room_fold::Fold,
    rows::{self, CommitRow, InboxValue, StoredMessage},
    scan,
    tables::{Opened, TABLES},
    watermark::{Mark, Watermark},
};
use crate::{
    model::{Audience, ConvId, Counts, MAX_SEQ, Millis, ReadMark, Seq},
    store::{StoreError, audience_of},
};

mod beside;
mod rooms;

const SALVAGE: &str = "salvage";
const RESCUE: &str = "rescue";
const RESCUED: &str = "rescued";
const DAMAGED: &str = "damaged-";
/// Beside the engine's files in `rescued/`, until both take their places.
const NEXT_WATERMARK: &str = "WATERMARK";
/// What a lost watermark leaves to guess: no log lost so many messages.
const FAR: Seq = 1 << 40;
/// Bytes of rows in one commit.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// The places of the tables.
const MESSAGES: usize = 0;
const CIDS: usize = 1;
const INBOX: usize = 2;
const CURSORS: usize = 3;
const DEVICES: usize = 4;
const COMMITS: usize = 5;
const ROOMS: usize = 6;
const MEMBERS: usize = 7;
const ROOMS_OF: usize = 8;
const LAST_SEEN: usize = 9;
const SECRETS: usize = 14;
const BLOCKS: usize = 10;
const FOLDS: usize = 11;
const MENTIONS: usize = 12;
const EXPIRING: usize = 13;

/// Where a log ends: its conversation, its last seq and the time of that.
struct End {
    conv: ConvId,
    head: Seq,
    ts: Millis,
    counts: Counts,
    /// Which users have a head: a service has none of what it wrote itself.
    concerned: [bool; Audience::MAX],
    /// Of a room's log.
    fold: Fold,
}

impl End {
    fn begin(conv: ConvId) -> Self {
        Self {
            conv,
            head: 0,
            ts: 0,
            counts: Counts::default(),
            concerned: [false; Audience::MAX],
            fold: Fold::default(),
        }
    }
}
/// Between two words about how far it is.
const SAY: Duration = Duration::from_secs(5);

/// Whether a name in the data folder is of this module.
pub(super) fn is_its(name: &str) -> bool {
    [SALVAGE, RESCUE, RESCUED].contains(&name) || name.starts_with(DAMAGED)
}

/// Puts a rescued store in its place, where a crash came between.
pub(super) fn finish(folder: &Folder) -> io::Result<()> {
    let rescued = folder.dir().join(RESCUED);
    if folder.data().exists() || !rescued.exists() {
        return Ok(());
    }
    match fs::rename(rescued.join(NEXT_WATERMARK), folder.watermark_path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&rescued, folder.data())?;
    fs::File::open(folder.dir())?.sync_all()
}

/// Rescues what can be read. The folder's store is sound afterwards, and its logs have holes.
pub(super) fn rescue(folder: &Folder, options: EmbeddedOptions, found: &Found) -> Result<(), OpenError> {
    tracing::warn!(problems = ?found.problems, "the store is damaged and its loss is accepted; what can be read is rescued");
    let dir = folder.dir();
    let failed = |what| move |source| OpenError::Io { dir: dir.into(), what, source };
    let [salvage, rescue, rescued] = [SALVAGE, RESCUE, RESCUED].map(|name| dir.join(name));
    // Of a rescue that was cut short: copies.
    for copy in [&salvage, &rescue, &rescued] {
        remove_if_there(copy).map_err(failed("remove an unfinished rescue"))?;
    }
    lay_out(&folder.data(), &salvage, found.mark).map_err(failed("lay out what can be read"))?;
    let copied = Copy::begin(&salvage, &rescue, options).and_then(|copy| copy.all(found));
    let mark = copied.map_err(|error| OpenError::Lost { dir: dir.into(), cause: error.to_string() })?;
    let swap = || -> io::Result<()> {
        // It is closed: what is in no journal is in tables.
        let first = journal::list(&rescue)?.first().map(|id| journal::first_commit(&journal::path_of(&rescue, *id)));
        let first = first.transpose()?.flatten();
        let mark = Mark { settled: first.map_or(mark.number, |first| first - 1), ..mark };
        Watermark::start(&rescue.join(NEXT_WATERMARK), mark)?;
        fs::rename(&rescue, &rescued)?;
        fs::File::open(dir)?.sync_all()?;
        move_away(folder)?;
        finish(folder)?;
        remove_if_there(&salvage)?;
        fs::create_dir_all(folder.kept_journals())
    };
    swap().map_err(failed("put the rescued store in its place"))
}

/// Moves the damaged files out of the way, the engine's folder last.
fn move_away(folder: &Folder) -> io::Result<()> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // A name that is free: somebody may have rescued a moment ago.
    let free = (seconds..).map(|seconds| folder.dir().join(format!("{DAMAGED}{seconds}"))).find(|path| !path.exists());
    let Some(damaged) = free else { return Err(io::ErrorKind::AlreadyExists.into()) };
    fs::create_dir(&damaged)?;
    for file in [folder.watermark_path(), folder.manifest_path()] {
        if let (Some(name), true) = (file.file_name(), file.exists()) {
            copy_and_sync(&file, &damaged.join(name))?;
        }
    }
    for part in [folder.kept_journals(), folder.data()] {
        if let (Some(name), true) = (part.file_name(), part.exists()) {
            fs::rename(&part, damaged.join(name))?;
        }
    }
    fs::File::open(&damaged)?.sync_all()?;
    tracing::warn!(path = %damaged.display(), "the damaged files are kept; remove them when nobody needs them any more");
    fs::File::open(folder.dir())?.sync_all()
}

/// A folder that the engine can open, made of what can be read. Its files are the damaged store's own, by second names,
/// except those that the engine would change.
fn lay_out(data: &Path, salvage: &Path, mark: Option<Mark>) -> io::Result<()> {
    fs::create_dir_all(salvage.join("keyspaces"))?;
    for table in 0..=TABLES {
        let (from, to) = (data.join(format!("keyspaces/{table}")), salvage.join(format!("keyspaces/{table}")));
        if from.is_dir() && table_version(&from)?.is_some() {
            lay_out_table(&from, &to)?;
        }
    }
    fs::write(salvage.join("version"), b"FJL\x03")?;
    fs::write(salvage.join("lock"), [])?;
    for id in journal::list(data)? {
        let (journal, bytes) = journal::read(data, id, mark.map(|mark| mark.store))?;
        let whole: Vec<u8> = journal.batches.into_iter().flat_map(|batch| bytes[batch.at].iter().copied()).collect();
        fs::write(journal::path_of(salvage, id), whole)?;
    }
    Ok(())
}

/// The newest list of a table's files: what `current` names, or the highest there is.
fn table_version(folder: &Path) -> io::Result<Option<u64>> {
    let current = fs::read(folder.join("current")).ok();
    let current = current.and_then(|bytes| bytes.first_chunk().map(|version| u64::from_le_bytes(*version)));
    if let Some(version) = current.filter(|version| folder.join(format!("v{version}")).is_file()) {
        return Ok(Some(version));
    }
    let mut highest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        highest = highest.max(name.to_str().and_then(|name| name.strip_prefix('v')?.parse().ok()));
    }
    Ok(highest)
}

fn lay_out_table(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.join("tables"))?;
    let Some(version) = table_version(from)? else { return Ok(()) };
    // Its number, then a checksum that the engine does not look at.
    let mut current = version.to_le_bytes().to_vec();
    current.extend([0; 17]);
    fs::write(to.join("current"), current)?;
    let list = format!("v{version}");
    copy_and_sync(&from.join(&list), &to.join(&list))?;
    for entry in fs::read_dir(from.join("tables"))? {
        let entry = entry?;
        let name = to.join("tables").join(entry.file_name());
        fs::hard_link(entry.path(), &name).or_else(|_| copy_and_sync(&entry.path(), &name))?;
    }
    Ok(())
}

/// Copies all rows from one store to another.
struct Copy {
    from: Opened,
    to: Opened,
    batch: fjall::OwnedWriteBatch,
    bytes: usize,
    number: u64,
    store: u64,
    highest: Seq,
    said: Instant,
    rows: u64,
    /// The keys of folds in the batch.
    pending: HashSet<Slice>,
}

impl Copy {
    fn begin(from: &Path, to: &Path, options: EmbeddedOptions) -> Result<Self, StoreError> {
        let open = |path| Opened::open(path, options).map_err(StoreError::unavailable);
        let (from, to) = (open(from)?, open(to)?);
        let batch = to.db.batch();
        let (bytes, number, highest, rows) = (0, 0, 0, 0);
        let (store, said, pending) = (rand::random(), Instant::now(), HashSet::new());
        Ok(Self { from, to, batch, bytes, number, store, highest, said, rows, pending })
    }

    /// Returns the watermark of the new store, which is on the disk and closed then.
    fn all(mut self, found: &Found) -> Result<Mark, StoreError> {
        let tables = self.from.tables.clone();
        let [
            messages,
            _,
            inbox,
            cursors,
            devices,
            _,
            rooms,
            members,
            rooms_of,
            last_seen,
            blocks,
            beside @ ..,
            secrets,
        ] = &tables;
        let mut log = None;
        let mut lost = vec![scan::each_row(messages, |key, value| self.message(key, value, &mut log))?];
        self.end_of(log)?;
        self.write()?;
        lost.push(scan::each_row(inbox, |key, value| self.inbox(key, &value))?);
        lost.push(scan::each_row(cursors, |key, value| {
            // It may be all that is left of a seq that was given out.
            self.highest = self.highest.max(rows::decode_seq(&value)?);
            self.put(CURSORS, key, value)
        })?);
        lost.push(scan::each_row(devices, |key, value| self.put(DEVICES, key, value))?);
        lost.extend(self.all_rooms(rooms, members, rooms_of)?);
        lost.push(scan::each_row(last_seen, |key, value| self.put(LAST_SEEN, key, value))?);
        lost.push(scan::each_row(blocks, |key, value| self.tie(key, &value))?);
        lost.extend(self.all_beside(beside.each_ref())?);
        lost.push(scan::each_row(secrets, |key, value| self.put(SECRETS, key, value))?);
        self.write()?;
        for file in lost.iter().flat_map(|lost| &lost.files) {
            tracing::warn!(%file, "a file of the store cannot be read in places");
        }
        let blocks: u64 = lost.iter().map(|lost| lost.blocks).sum();
        self.to.db.persist(PersistMode::SyncAll).map_err(StoreError::unavailable)?;
        let floor = found.mark.map_or(self.highest.saturating_add(FAR), |mark| mark.ceiling.max(self.highest));
        if floor > MAX_SEQ / 2 {
            return Err(StoreError::unavailable("its seqs are near the end of all numbers"));
        }
        let (rows, lost) = (self.rows, blocks);
        tracing::warn!(
            rows,
            blocks_lost = lost,
            floor,
            "what could be read is rescued; each log goes on above the floor"
        );
        Ok(Mark { store: self.store, ..Mark::after_loss(floor, self.number) })
    }

    /// A message, and the row of its cid. `log` is the end of the log so far: a log's rows follow each other.
    fn message(&mut self, key: Slice, value: Slice, log: &mut Option<End>) -> Result<(), StoreError> {
        let (Some((conv, seq)), Ok(message)) = (keys::message_of(&key), StoredMessage::split(&value)) else {
            return Ok(());
        };
        self.highest = self.highest.max(seq);
        if let Some(cid) = message.cid_key(&conv) {
            self.put(CIDS, cid, rows::encode_seq(seq))?;
        }
        if log.as_ref().is_some_and(|log| log.conv != conv) {
            self.end_of(log.take())?;
        }
        let end = log.get_or_insert_with(|| End::begin(conv));
        (end.head, end.ts, end.counts) = (seq, message.ts, message.counts);
        let row = (end.conv.is_room() || message.refers()).then(|| message.to_row(seq)).and_then(Result::ok);
        if let Some(row) = row.as_ref().filter(|_| end.conv.is_room()) {
            // Behind a hole it may be a change that does not follow: then its room's own rows tell, or nothing does.
            let _ = end.fold.take(row);
        }
        if let Some(audience) = Audience::of(&end.conv) {
            for (user, concerned) in audience.users().zip(&mut end.concerned) {
                *concerned |= !message.is_of_service(user) || audience.others(user).next().is_none();
            }
        }
        if let Some((row, end)) = row.zip(log.as_ref()) {
            self.beside(&row, &value, end)?;
        }
        self.put(MESSAGES, key, value)
    }

    /// A log has no more rows: its heads.
    fn end_of(&mut self, log: Option<End>) -> Result<(), StoreError> {
        let Some(End { conv, head, ts, counts, concerned, fold }) = log else { return Ok(()) };
        if let Some(room) = conv.as_room() {
            return self.folded(&room, fold);
        }
        for (user, _) in audience_of(&conv)?.users().zip(concerned).filter(|(_, concerned)| *concerned) {
            let row = InboxValue { head, ts, counts, read: ReadMark::default() };
            self.put(INBOX, keys::inbox(user, &conv), row.encode())?;
        }
        Ok(())
    }

    /// A read mark; the head is there already, where there is a message.
    fn inbox(&mut self, key: Slice, value: &[u8]) -> Result<(), StoreError> {
        let InboxValue { head, read, .. } = InboxValue::decode(value)?;
        self.highest = self.highest.max(head).max(read.seq);
        if read.seq == 0 {
            return Ok(());
        }
        let known = self.to.tables[INBOX].get(&key).map_err(StoreError::unavailable)?;
        let known = known.map_or(Ok(InboxValue::default()), |value| InboxValue::decode(&value))?;
        self.put(INBOX, key, InboxValue { read, ..known }.encode())
    }

    /// A block, with the other user's side of it: either copy may be all that is left. A loss may bring back a block that
    /// was taken off, never the other way round.
    fn tie(&mut self, key: Slice, value: &[u8]) -> Result<(), StoreError> {
        let (Some((user, other)), Ok(sides)) = (keys::tie_pair(&key), people::decode(value)) else { return Ok(()) };
        let mirror = keys::tie(&other, &user);
        let known = self.from.tables[BLOCKS].get(&mirror).ok().flatten();
        let known = known.and_then(|value| people::decode(&value).ok()).map_or(0, people::mirrored);
        let sides = sides | known;
        self.put(BLOCKS, mirror, Slice::from([people::mirrored(sides)]))?;
        self.put(BLOCKS, key, Slice::from([sides]))
    }

    fn put(&mut self, place: usize, key: Slice, value: Slice) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        self.rows += 1;
        self.batch.insert(&self.to.tables[place], key, value);
        if self.said.elapsed() >= SAY {
            self.said = Instant::now();
            tracing::info!(rows = self.rows, "rescuing");
        }
        if self.bytes >= COMMIT_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.pending.clear();
        self.number += 1;
        let row = CommitRow { store: self.store, number: self.number, durable: 0 };
        let mut batch = std::mem::replace(&mut self.batch, self.to.db.batch());
        batch.insert(&self.to.tables[COMMITS], journal::COMMIT_KEY, row.encode());
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(StoreError::unavailable)
    }
}
