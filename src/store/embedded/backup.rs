//! A copy of the whole store in one file, made while the store is open, and a new store made of such a file. Called by
//! `natter backup`, by the node that it asks, and by `natter restore`.
//!
//! The copy is one snapshot: every row with its heads, every cursor at or below a head, as if all had stopped in one
//! moment. Its file, numbers big-endian:
//!
//! ```text
//! natter backup, format 1\n
//! for each row   table (1 byte: 1 messages, 2 cids, 3 inbox, 4 cursors, 5 devices, 6 rooms, 7 members, 8 rooms_of,
//!                  9 last_seen, 10 blocks, 11 folds, 12 mentions, 13 expiring, 14 keys: with the key
//!                  itself, whatever slot it was in)
//!                length of the key (2), length of the value (4), key, value
//! at the end     0, number of rows (8), FNV-1a of everything before it (8)
//! or             255, length (4), why there is no end
//! ```

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
    sync::Arc,
};

use fjall::{Keyspace, PersistMode, Readable as _};

use super::{
    EmbeddedOptions, EmbeddedStore, OpenError,
    folder::Folder,
    rows,
    tables::{Tables, unavailable},
};
use crate::{
    fnv::Fnv,
    store::{StoreError, StoreResult},
};

const HEAD: &[u8; 24] = b"natter backup, format 1\n";
const END: u8 = 0;
/// The table of keys, whose values are slots.
const KEYS: u8 = 14;
const FAILED: u8 = 255;
/// Larger values are not in any store: a damaged length must not take all memory.
const LARGEST_VALUE: usize = 64 * 1024 * 1024;
/// Rows between two looks whether the store is being closed.
const LOOK: u64 = 1_000;
/// Bytes of rows in one commit of a restore.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Why there is no backup, or no store made of one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file, or the way to it, fails.
    #[error("{0}; check that there is room and that the file may be read and written")]
    Io(#[from] io::Error),
    /// It is no backup, or not all of one.
    #[error("this is not a whole backup: {0}; use another one")]
    Damaged(&'static str),
    /// The node gave up in the middle.
    #[error("the node could not finish the backup: {0}")]
    GivenUp(String),
    /// The store to restore into cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a store already.
    #[error("{0} holds a store already; move it away first, or choose a new folder with --data")]
    Exists(std::path::PathBuf),
}

/// What is in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents {
    /// Rows of all tables.
    pub rows: u64,
    /// Messages among them.
    pub messages: u64,
}

fn tables_of(tables: &Tables) -> impl Iterator<Item = (u8, &Keyspace)> {
    (1..).zip(tables.all())
}

impl EmbeddedStore {
    /// Writes a backup of this moment to `out` and flushes it. Blocks; writers and readers go on meanwhile. A store that
    /// is closed, or fails, in the middle ends the backup with the reason.
    ///
    /// # Errors
    /// When the store cannot be read, or `out` not be written.
    pub fn back_up(&self, out: impl Write) -> Result<Contents, BackupError> {
        let mut out = Sink { out: BufWriter::new(out), sum: Fnv::new() };
        out.write_all(HEAD)?;
        match self.shared.tables().map_err(BackupError::from).and_then(|tables| self.copy(tables, &mut out)) {
            Ok(contents) => {
                out.write_all(&[END])?;
                out.write_all(&contents.rows.to_be_bytes())?;
                let sum = out.sum.sum().to_be_bytes();
                out.write_all(&sum)?;
                out.flush()?;
                Ok(contents)
            }
            Err(error) => {
                let words = error.to_string();
                out.write_all(&[FAILED])?;
                out.write_all(&u32::try_from(words.len()).unwrap_or(0).to_be_bytes())?;
                out.write_all(words.as_bytes())?;
                out.flush()?;
                Err(error)
            }
        }
    }

    fn copy(&self, tables: Arc<Tables>, out: &mut impl Write) -> Result<Contents, BackupError> {
        let view = tables.db.snapshot();
        let mut contents = Contents::default();
        for (number, table) in tables_of(&tables) {
            for item in view.iter(table) {
                // Whoever closes or reopens the store waits for the tables.
                if contents.rows % LOOK == 0 {
                    self.shared.tables()?;
                }
                let (key, mut value) = item.into_inner().map_err(unavailable)?;
                if number == KEYS {
                    let Some(secret) = tables.secret_in(&value)? else { continue };
                    value = secret.into();
                }
                let lengths = (u16::try_from(key.len()), u32::try_from(value.len()));
                let (Ok(key_len), Ok(value_len)) = lengths else { return Err(too_large().into()) };
                out.write_all(&[number])?;
                out.write_all(&key_len.to_be_bytes())?;
                out.write_all(&value_len.to_be_bytes())?;
                out.write_all(&key)?;
                out.write_all(&value)?;
                contents.rows += 1;
                contents.messages += u64::from(number == 1);
            }
        }
        Ok(contents)
    }
}

fn too_large() -> StoreError {
    StoreError::unavailable("a stored row is too large to be one; check the disk")
}

/// Reads a backup to its end and checks that it is whole.
///
/// # Errors
/// [`BackupError::Damaged`] or [`BackupError::GivenUp`]; or it cannot be read.
pub fn check(backup: &Path) -> Result<Contents, BackupError> {
    read(File::open(backup)?, |_, _, _| Ok(()))
}

/// Makes a new store in `dir` of a backup. Whatever happens, no half of a store is ever opened: a restore that was cut
/// short is begun again.
///
/// # Errors
/// When there is a store already, the backup is not whole, or the folder cannot be written.
pub fn restore(backup: &Path, dir: &Path, options: EmbeddedOptions) -> Result<Contents, BackupError> {
    check(backup)?;
    let folder = Arc::new(Folder::claim(dir, false)?);
    if folder.is_created() {
        return Err(BackupError::Exists(dir.into()));
    }
    let tables = Tables::make(&folder, options)?;
    let (mut batch, mut bytes) = (tables.db.batch(), 0);
    let contents = read(File::open(backup)?, |number, key, value| {
        let found = tables_of(&tables).find(|(known, _)| *known == number);
        let (_, table) = found.ok_or(BackupError::Damaged("it has a table that this version does not know"))?;
        bytes += key.len() + value.len();
        let value = if number == KEYS { rows::encode_seq(tables.secrets.put(&value)?) } else { value.into() };
        batch.insert(table, key, value);
        if bytes >= COMMIT_BYTES {
            bytes = 0;
            let full = std::mem::replace(&mut batch, tables.db.batch());
            tables.fill(full).map_err(StoreError::unavailable)?;
        }
        Ok(())
    })?;
    finish(&tables, batch)?;
    folder.mark_created()?;
    Ok(contents)
}

fn finish(tables: &Tables, batch: fjall::OwnedWriteBatch) -> StoreResult<()> {
    tables.secrets.sync().map_err(StoreError::unavailable)?;
    tables.commit(batch, PersistMode::SyncAll).map_err(StoreError::unavailable)?;
    tables.db.persist(PersistMode::SyncAll).map_err(unavailable)?;
    tables.closed_clean();
    Ok(())
}

/// Reads a backup; `row` gets each table's number, key and value.
fn read(
    input: impl Read,
    mut row: impl FnMut(u8, Vec<u8>, Vec<u8>) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    let mut input = Source { input: BufReader::new(input), sum: Fnv::new() };
    if input.take()? != *HEAD {
        return Err(BackupError::Damaged("it does not begin like one of this version"));
    }
    let mut contents = Contents::default();
    loop {
        let number = match input.take()? {
            [END] => break,
            [FAILED] => {
                let len = u32::from_be_bytes(input.take()?) as usize;
                let words = input.take_some(len.min(4096))?;
                return Err(BackupError::GivenUp(String::from_utf8_lossy(&words).into_owned()));
            }
            [number] => number,
        };
        let key_len = u16::from_be_bytes(input.take()?);
        let value_len = u32::from_be_bytes(input.take()?) as usize;
        if value_len > LARGEST_VALUE {
            return Err(BackupError::Damaged("a length is wrong"));
        }
        let (key, value) = (input.take_some(key_len.into())?, input.take_some(value_len)?);
        contents.rows += 1;
        contents.messages += u64::from(number == 1);
        row(number, key, value)?;
    }
    let rows = u64::from_be_bytes(input.take()?);
    let sum = input.sum.sum();
    if rows != contents.rows || u64::from_be_bytes(input.take()?) != sum {
        return Err(BackupError::Damaged("its checksum is wrong"));
    }
    Ok(contents)
}

struct Sink<W: Write> {
    out: BufWriter<W>,
    /// Of all bytes so far: against damage, not against forgery.
    sum: Fnv,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum = self.sum.with(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Source<R> {
    input: BufReader<R>,
    /// Of all bytes so far: against damage, not against forgery.
    sum: Fnv,
}

impl<R: Read> Source<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn take_some(&mut self, len: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        match self.input.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(BackupError::Damaged("its end is missing"));
            }
            other => other?,
        }
        self.sum = self.sum.with(bytes);
        Ok(())
    }
}
