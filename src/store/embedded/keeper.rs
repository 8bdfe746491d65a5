//! The keeper: a thread beside the writer that puts the watermark on the disk once a second, and holds on to journals
//! until it is recorded that they are not needed any more. Started by [`super::tables`] with the tables, ended before
//! them; it sleeps while nothing is written.
//!
//! The engine removes a journal once all of its rows are in tables, and tells nobody. So that a journal that is gone can
//! be told from one that was let go, each has a second name below `journals/`, until the watermark says on the disk
//! that its commits are *settled*.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{folder::Folder, journal, thread::Thread, watermark::Watermark};

/// Between two looks at the journals while commits are made. In this time no journal is filled, written out to tables
/// and removed again.
const PAUSE: Duration = Duration::from_millis(100);
/// How far the watermark on the disk may be behind: what a power failure may take of it.
const SYNC: Duration = Duration::from_secs(1);

/// The running thread; dropping it ends it.
pub(super) struct Keeper {
    watermark: Arc<Watermark>,
    _thread: Thread,
}

impl Keeper {
    /// Starts to keep.
    pub(super) fn start(folder: Arc<Folder>, watermark: Arc<Watermark>) -> io::Result<Self> {
        watermark.end(false);
        let kept = watermark.clone();
        let thread = Thread::start(move || keep(&folder, &kept))?;
        Ok(Self { watermark, _thread: thread })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.watermark.end(true);
    }
}

fn keep(folder: &Folder, watermark: &Watermark) {
    let mut firsts = HashMap::new();
    let (mut synced, mut at) = (0, Instant::now());
    let mut failing = false;
    loop {
        let number = watermark.mark().number;
        let looked = look(folder, watermark, &mut firsts).and_then(|settled| {
            if settled || number > synced && at.elapsed() >= SYNC {
                watermark.sync()?;
                (synced, at) = (number, Instant::now());
            }
            if settled { let_go(folder) } else { Ok(()) }
        });
        if let Err(error) = &looked
            && !failing
        {
            tracing::warn!(%error, "the store's watermark cannot be kept: damage may go unnoticed; check the disk");
        }
        failing = looked.is_err();
        // What is not on the disk yet is put there before it sleeps.
        let seen = if synced >= number { number } else { u64::MAX };
        if !watermark.wait(seen, PAUSE) {
            return;
        }
    }
}

/// Gives new journals their second name, and records what is settled. True when that grew.
fn look(folder: &Folder, watermark: &Watermark, firsts: &mut HashMap<u64, u64>) -> io::Result<bool> {
    // Before the journals are looked at: whatever number this is, its commit is in one of them or settled.
    let mark = watermark.mark();
    let (data, kept) = (folder.data(), folder.kept_journals());
    let ids = journal::list(&data)?;
    for id in &ids {
        link(&journal::path_of(&data, *id), &journal::path_of(&kept, *id))?;
        if !firsts.contains_key(id)
            && let Some(first) = unless_gone(journal::first_commit(&journal::path_of(&data, *id)))?.flatten()
        {
            firsts.insert(*id, first);
        }
    }
    firsts.retain(|id, _| ids.contains(id));
    let Some(first) = ids.first() else { return Ok(false) };
    let let_go = journal::list(&kept)?.first().is_some_and(|oldest| oldest < first);
    let settled = match firsts.get(first) {
        Some(commit) => commit.saturating_sub(1),
        // All that was ever written is in journals that are gone, with their second names still there.
        None if let_go && firsts.is_empty() => mark.number,
        None => mark.settled,
    };
    if settled > mark.settled {
        watermark.write(|mark| mark.settled = settled)?;
    }
    Ok(settled > mark.settled)
}

/// Takes the second names from journals that the engine removed.
fn let_go(folder: &Folder) -> io::Result<()> {
    let (data, kept) = (folder.data(), folder.kept_journals());
    let Some(first) = journal::list(&data)?.first().copied() else { return Ok(()) };
    for id in journal::list(&kept)?.into_iter().filter(|id| *id < first) {
        unless_gone(fs::remove_file(journal::path_of(&kept, id)))?;
    }
    Ok(())
}

/// Gives a file a second name. Where the file system has no such thing there is none.
fn link(file: &Path, name: &Path) -> io::Result<()> {
    let Some(found) = unless_gone(fs::metadata(file))? else { return Ok(()) };
    match unless_gone(fs::metadata(name))? {
        Some(named) if (named.dev(), named.ino()) == (found.dev(), found.ino()) => return Ok(()),
        // Of a file that was written anew.
        Some(_) => fs::remove_file(name)?,
        None => {}
    }
    match unless_gone(fs::hard_link(file, name)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => Ok(()),
        other => other.map(drop),
    }
}

/// Puts journals back that are only there by their second name. Called before a folder is inspected.
pub(super) fn put_back(folder: &Folder) -> io::Result<()> {
    let (data, kept) = (folder.data(), folder.kept_journals());
    if !data.is_dir() {
        return Ok(());
    }
    let there = journal::list(&data)?;
    for id in journal::list(&kept)?.into_iter().filter(|id| !there.contains(id)) {
        fs::hard_link(journal::path_of(&kept, id), journal::path_of(&data, id))?;
    }
    Ok(())
}

/// The engine may remove a file between two looks at it.
fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
