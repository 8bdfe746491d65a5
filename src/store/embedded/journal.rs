//! Reads the engine's journals without changing them: which commits they hold, and where they are damaged. Called by
//! [`super::inspect`] before the engine touches a folder, by [`super::keeper`], and by [`super::rescue`].
//!
//! The engine itself cuts a journal at the first byte that it does not understand, also in the middle, and says nothing
//! (fjall issue 311). Its format: a batch is `1, items (4), seqno (8)`, then for each item `2, type, compression, table
//! (8), length of key (2), of the value (4), of the stored value (4), key, stored value`, then `3, xxh3 of the items (8),
//! "FJL" 3`; little-endian. A file is made with 64 MiB of zeros to write into.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use super::rows::CommitRow;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";
/// The key of the row that each commit writes about itself. No other key is without a zero byte.
pub(super) const COMMIT_KEY: &[u8] = b"commit";

/// A batch that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Where it stands in the file.
    pub(super) at: Range<usize>,
    /// What it says about itself.
    pub(super) commit: Option<CommitRow>,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Its number, which is its name.
    pub(super) id: u64,
    /// All batches that are whole, in order.
    pub(super) batches: Vec<Batch>,
    /// Bytes between, or after them, that are neither a batch nor zeros up to the end.
    pub(super) unreadable: Vec<Range<usize>>,
}

impl Journal {
    /// Its file's name.
    pub(super) fn name(&self) -> String {
        name_of(self.id)
    }

    /// Where the engine would stop to read.
    pub(super) fn first_end(&self) -> usize {
        let stop = self.unreadable.first().map_or(usize::MAX, |bytes| bytes.start);
        self.batches.iter().rfind(|batch| batch.at.end <= stop).map_or(0, |batch| batch.at.end)
    }

    /// The commits, in order.
    pub(super) fn commits(&self) -> impl Iterator<Item = CommitRow> {
        self.batches.iter().filter_map(|batch| batch.commit)
    }
}

fn name_of(id: u64) -> String {
    format!("{id}.jnl")
}

/// The path of a journal.
pub(super) fn path_of(folder: &Path, id: u64) -> PathBuf {
    folder.join(name_of(id))
}

/// The journals in a folder by their numbers; none where there is no folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a whole journal. Behind a damaged place only batches count that carry the store's own secret `id`: the bytes
/// of a message that somebody sent could look like a batch.
pub(super) fn read(folder: &Path, number: u64, id: Option<u64>) -> io::Result<(Journal, Vec<u8>)> {
    let data = written_part(&path_of(folder, number))?;
    let mut journal = Journal { id: number, ..Journal::default() };
    let mut at = 0;
    while at < data.len() {
        if let Some(batch) = batch_at(&data, at) {
            at = batch.at.end;
            journal.batches.push(batch);
            continue;
        }
        if data[at..].iter().all(|byte| *byte == 0) {
            break;
        }
        let id = id.or_else(|| journal.commits().next().map(|commit| commit.store));
        let next = (at + 1..data.len()).find(|at| {
            data[*at] == START && batch_at(&data, *at).is_some_and(|batch| batch.commit.map(|row| row.store) == id)
        });
        let next = next.unwrap_or(data.len());
        journal.unreadable.push(at..next);
        at = next;
    }
    Ok((journal, data))
}

/// The first commit of a journal, `None` where nothing was written yet; reads little of it.
pub(super) fn first_commit(path: &Path) -> io::Result<Option<u64>> {
    /// More than the first commit of a journal takes, nearly always; a larger one is read again with more.
    const HEAD: u64 = 64 * 1024;
    let mut head = HEAD;
    loop {
        let mut data = Vec::new();
        File::open(path)?.take(head).read_to_end(&mut data)?;
        match batch_at(&data, 0) {
            Some(batch) => return Ok(batch.commit.map(|row| row.number)),
            None if data.iter().all(|byte| *byte == 0) => return Ok(None),
            // Longer than this, or half written.
            None if data.len() as u64 == head => head *= 8,
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The file up to where it was ever written: a fresh journal is mostly a hole.
fn written_part(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let end = written_end(&file, len);
    let mut data = Vec::with_capacity(usize::try_from(end).unwrap_or(0));
    file.take(end).read_to_end(&mut data)?;
    Ok(data)
}

/// Where the last hole of a file begins; its length where the file system does not tell.
fn written_end(file: &File, len: u64) -> u64 {
    let seek = |from: u64, what| -> io::Result<u64> {
        // SAFETY: lseek only moves the position of this open file.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from.try_into().unwrap_or(libc::off_t::MAX), what) };
        found.try_into().map_err(|_| io::Error::last_os_error())
    };
    let mut end = 0;
    while end < len {
        let hole = match seek(end, libc::SEEK_DATA) {
            // Nothing but a hole from here on.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
            other => other.and_then(|data| seek(data, libc::SEEK_HOLE)),
        };
        end = hole.ok().filter(|hole| *hole > end).unwrap_or(len);
    }
    // Back to the start, to be read from there.
    if seek(0, libc::SEEK_SET).is_ok() { end.min(len) } else { len }
}

/// The batch that begins at a place, if it is whole.
fn batch_at(data: &[u8], at: usize) -> Option<Batch> {
    let mut rest = Bytes(data.get(at..)?);
    let [START] = rest.take()? else { return None };
    let items = u32::from_le_bytes(rest.take()?);
    let _seqno: [u8; 8] = rest.take()?;
    let body = rest.0;
    let mut commit = None;
    for _ in 0..items {
        let (key, value) = rest.item()?;
        if key == COMMIT_KEY {
            commit = CommitRow::decode(value);
        }
    }
    let sum = xxh3_64(&body[..body.len() - rest.0.len()]);
    let [END] = rest.take()? else { return None };
    if u64::from_le_bytes(rest.take()?) != sum || rest.take::<4>()? != *TRAILER {
        return None;
    }
    Some(Batch { at: at..data.len() - rest.0.len(), commit })
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take_some(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Key and stored value, which may be compressed.
    fn item(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let [ITEM, _type, _compression] = self.take()? else { return None };
        let _table: [u8; 8] = self.take()?;
        let key = u16::from_le_bytes(self.take()?);
        let _value: [u8; 4] = self.take()?;
        let stored = u32::from_le_bytes(self.take()?);
        Some((self.take_some(key.into())?, self.take_some(stored.try_into().ok()?)?))
    }
}
