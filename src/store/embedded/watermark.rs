//! How far the store had come, kept beside the data in a file of its own: what is found in a folder is compared with
//! it when the store is opened ([`super::inspect`]). Written by the writer, the keeper and whoever closes the store.
//!
//! The file `WATERMARK` has two places of 64 bytes, 4 KiB apart, written in turn, so that a torn write leaves the other
//! one. Numbers big-endian: `natterW1`, then the fields of [`Mark`] in their order (8 bytes each), FNV-1a of all that.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{fnv::fnv1a, model::Seq};

const HEAD: [u8; 8] = *b"natterW1";
const PLACES: u64 = 4096;
const FIELDS: usize = 7;
const LEN: usize = 8 + FIELDS * 8 + 8;
/// The ceiling is raised by so much at once, with one fsync.
const CEILING_STEP: Seq = 1 << 20;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts the writes of this file, to tell which place is the later one.
    pub(super) turn: u64,
    /// The store's own secret, in each of its commits.
    pub(super) store: u64,
    /// The last commit that is known to be on the disk.
    pub(super) number: u64,
    /// Commits up to this one are in tables: no journal has to hold them.
    pub(super) settled: u64,
    /// No seq above it was ever given out.
    pub(super) ceiling: Seq,
    /// Each log goes on above it: the ceiling of the time when a loss was accepted; 0 where none was.
    pub(super) floor: Seq,
    /// How often the store was opened: the list of files of a clean close holds for one of them.
    pub(super) opens: u64,
}

impl Mark {
    /// Of a new store.
    pub(super) fn new() -> Self {
        let store = rand::random();
        Self { turn: 0, store, number: 0, settled: 0, ceiling: CEILING_STEP, floor: 0, opens: 0 }
    }

    /// Of a store that lost something: what is given out from now on lies above everything that was.
    pub(super) fn after_loss(floor: Seq, number: u64) -> Self {
        Self { number, ceiling: floor + CEILING_STEP, floor, ..Self::new() }
    }

    fn encode(&self) -> [u8; LEN] {
        let Self { turn, store, number, settled, ceiling, floor, opens } = *self;
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&HEAD);
        for (place, field) in [turn, store, number, settled, ceiling, floor, opens].into_iter().enumerate() {
            bytes[8 + place * 8..][..8].copy_from_slice(&field.to_be_bytes());
        }
        let sum = fnv1a(&bytes[..LEN - 8]).to_be_bytes();
        bytes[LEN - 8..].copy_from_slice(&sum);
        bytes
    }

    fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let field = |place: usize| bytes[8 + place * 8..][..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        if bytes[..8] != HEAD || field(FIELDS) != fnv1a(&bytes[..LEN - 8]) {
            return None;
        }
        let [turn, store, number, settled, ceiling, floor, opens] = std::array::from_fn(field);
        Some(Self { turn, store, number, settled, ceiling, floor, opens })
    }
}

/// The file, open.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    inner: Mutex<Inner>,
    /// Wakes the keeper.
    moved: Condvar,
}

#[derive(Debug)]
struct Inner {
    mark: Mark,
    /// The keeper waits for a commit.
    waiting: bool,
    /// The keeper is to end.
    ended: bool,
}

/// Reads the file; `None` where it is not there, or neither of its places is whole.
pub(super) fn read(path: &Path) -> io::Result<Option<Mark>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let place = |at| -> Option<Mark> {
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, at).ok()?;
        Mark::decode(&bytes)
    };
    Ok([place(0), place(PLACES)].into_iter().flatten().max_by_key(|mark| mark.turn))
}

impl Watermark {
    /// Opens the file for writing, making it where there is none, and writes `mark` durably.
    pub(super) fn start(path: &Path, mark: Mark) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let inner = Inner { mark, waiting: false, ended: false };
        let watermark = Self { file, inner: Mutex::new(inner), moved: Condvar::new() };
        // Both places: one of them may hold what another store left.
        watermark.write(|_| ())?;
        watermark.write(|_| ())?;
        watermark.file.sync_all()?;
        Ok(watermark)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands there now.
    pub(super) fn mark(&self) -> Mark {
        self.inner().mark
    }

    /// Changes it. The operating system has it when this returns, so it survives the process, not yet a power failure.
    pub(super) fn write(&self, change: impl FnOnce(&mut Mark)) -> io::Result<()> {
        let mut inner = self.inner();
        change(&mut inner.mark);
        inner.mark.turn += 1;
        let place = inner.mark.turn % 2 * PLACES;
        self.file.write_all_at(&inner.mark.encode(), place)?;
        if inner.waiting {
            inner.waiting = false;
            self.moved.notify_all();
        }
        Ok(())
    }

    /// Puts on the disk what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Before a seq above the ceiling is given out: rare, and the one write here that somebody waits for.
    pub(super) fn raise_ceiling(&self, seq: Seq) -> io::Result<()> {
        if seq <= self.mark().ceiling {
            return Ok(());
        }
        self.write(|mark| mark.ceiling = seq.saturating_add(CEILING_STEP))?;
        self.sync()
    }

    /// Waits until something is written, then for `pause`. False when it is time to end.
    pub(super) fn wait(&self, seen: u64, pause: Duration) -> bool {
        let mut inner = self.inner();
        while inner.mark.number == seen && !inner.ended {
            inner.waiting = true;
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let paused = self.moved.wait_timeout_while(inner, pause, |inner| !inner.ended);
        let (inner, _) = paused.unwrap_or_else(PoisonError::into_inner);
        !inner.ended
    }

    /// Ends the keeper, or lets the next one begin.
    pub(super) fn end(&self, ended: bool) {
        self.inner().ended = ended;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("WATERMARK");
        let watermark = Watermark::start(&path, Mark::new()).unwrap();
        watermark.write(|mark| mark.number = 7).unwrap();
        let before = watermark.mark();
        watermark.write(|mark| mark.number = 8).unwrap();
        assert_eq!(read(&path).unwrap(), Some(watermark.mark()));
        let place = watermark.mark().turn % 2 * PLACES;
        watermark.file.write_all_at(&[0; 16], place + 20).unwrap();
        assert_eq!(read(&path).unwrap(), Some(before));
        watermark.file.write_all_at(&[0; 16], (PLACES - place) + 20).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn the_ceiling_is_never_below_what_is_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("WATERMARK");
        let watermark = Watermark::start(&path, Mark::new()).unwrap();
        for seq in [1, CEILING_STEP, CEILING_STEP + 1, 3 * CEILING_STEP] {
            watermark.raise_ceiling(seq).unwrap();
            assert!(read(&path).unwrap().unwrap().ceiling >= seq);
        }
    }
}
