//! The data folder: which process holds it, which format it has, and whether it is a natter store at all. Called
//! when a store is opened, before the engine touches a file.
//!
//! ```text
//! <dir>/CREATING   there while a store is being created, and no longer
//! <dir>/FORMAT     written last, when the store was created completely
//! <dir>/WATERMARK  how far the store had come ([`super::watermark`])
//! <dir>/MANIFEST   the files that a clean close left ([`super::manifest`])
//! <dir>/LOCK       locked by the process that has the store open; holds its pid, for people
//! <dir>/KEYS       what bodies are sealed with ([`super::secrets`])
//! <dir>/ROOM       there for a moment, to see whether the disk takes a write
//! <dir>/JOURNAL    there for a moment, while a journal is written anew
//! <dir>/BACKUP     a socket: whoever connects is sent a backup (`natter backup`)
//! <dir>/data/      the engine's own files
//! <dir>/journals/  second names of the engine's journals ([`super::keeper`])
//! <dir>/salvage/, rescue/, rescued/   there while a damaged store is rescued ([`super::rescue`])
//! <dir>/damaged-<seconds>/            what was damaged, as it was: nothing of natter reads or removes it
//! ```
//!
//! Nothing that may hold a message is ever removed, here or by the engine: a folder that is not whole is refused first.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{open_error::OpenError, rescue};

/// The version of keys and rows that this build reads and writes.
pub const FORMAT: u32 = 7;
/// Those before, which differ in nothing but what they lack: their stores are of this format once they are opened.
const BEFORE: [u32; 3] = [4, 5, 6];

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const FORMAT_WORDS: &str = "natter embedded store, format ";
const LOCK_FILE: &str = "LOCK";
const CREATING_FILE: &str = "CREATING";
const WATERMARK_FILE: &str = "WATERMARK";
const KEYS_FILE: &str = "KEYS";
const MANIFEST_FILE: &str = "MANIFEST";
const MANIFEST_NEW: &str = "MANIFEST.new";
const KEPT: &str = "journals";
/// The engine's own folder.
pub(super) const DATA: &str = "data";
/// Written and removed to see whether the disk has room: so many bytes.
const ROOM_FILE: &str = "ROOM";
const ROOM: usize = 2 * 1024 * 1024;
/// Where the process that has the store open gives backups, below the data folder.
pub const BACKUP_SOCKET: &str = "BACKUP";
/// The next form of a journal, until it takes its place.
const JOURNAL_FILE: &str = "JOURNAL";

/// What a folder holds, found without changing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderState {
    /// There is no store yet: one is made when it is opened.
    None,
    /// A store of this build's format that nobody has open.
    Free,
    /// The same, open in a process: its pid, or `unknown`.
    Held(String),
}

/// Looks at a folder for `natter doctor`. Creates nothing and does not wait for a lock.
///
/// # Errors
/// What [`super::EmbeddedStore::open`] would refuse, but not that the folder is in use.
pub fn look(dir: &Path) -> Result<FolderState, OpenError> {
    let failed = |what| move |source| OpenError::Io { dir: dir.into(), what, source };
    if !dir.try_exists().map_err(failed("look for the folder"))? {
        return Ok(FolderState::None);
    }
    if !dir.join(FORMAT_FILE).try_exists().map_err(failed("look for the format"))? {
        refuse_foreign(dir)?;
        return if holds_data(dir) { Err(OpenError::NoFormat { dir: dir.into() }) } else { Ok(FolderState::None) };
    }
    check_format(dir)?;
    let path = dir.join(LOCK_FILE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FolderState::Free),
        other => other.map_err(failed("look for the lock"))?,
    };
    // WriterState, and released at once: a process that opens the store in this instant may be refused, and tries again.
    match file.try_lock_shared() {
        Ok(()) => Ok(FolderState::Free),
        Err(TryLockError::WouldBlock) => Ok(FolderState::Held(holder(file))),
        Err(TryLockError::Error(source)) => Err(failed("look at the lock")(source)),
    }
}

/// The pid in the lock file, written by the process that holds it.
fn holder(file: File) -> String {
    let mut pid = String::new();
    let read = file.take(20).read_to_string(&mut pid);
    let known = read.is_ok() && !pid.trim().is_empty();
    if known { pid.trim().to_owned() } else { "unknown".to_owned() }
}

/// A data folder that this process holds until the value is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// There is a store in it that was created completely.
    created: AtomicBool,
    lock: File,
}

impl Drop for Folder {
    /// Not by closing the file alone: a child that is being started has it open too, until it has become its program.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Claims `dir`, creating it where it does not exist. What an interrupted creation left behind is removed: no
    /// message can have been answered before the format was written. Any other data without a format is refused, or
    /// taken for a store of this format where a loss is accepted.
    pub(super) fn claim(dir: &Path, accept_loss: bool) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::Io { dir: dir.into(), what, source };
        let has_format = || dir.join(FORMAT_FILE).try_exists().map_err(failed("look for the format"));
        fs::create_dir_all(dir).map_err(failed("create the folder"))?;
        if !has_format()? {
            refuse_foreign(dir)?;
        }
        let lock = lock(dir)?;
        // Asked again: another process may have created the store before this one had the lock.
        let mut created = has_format()?;
        if created {
            check_format(dir)?;
        } else if dir.join(CREATING_FILE).exists() {
            remove_unfinished(dir).map_err(failed("remove an unfinished store"))?;
        } else if holds_data(dir) {
            if !accept_loss {
                return Err(OpenError::NoFormat { dir: dir.into() });
            }
            created = true;
        }
        // Only now: what is not natter's is left as it is.
        keep_private(dir);
        let folder = Self { dir: dir.into(), created: AtomicBool::new(created), lock };
        folder.check_room()?;
        if created {
            rescue::finish(&folder).map_err(failed("put the rescued store in its place"))?;
        } else {
            write_durably(dir, CREATING_FILE, "").map_err(failed("begin a store"))?;
        }
        fs::create_dir_all(folder.kept_journals()).map_err(failed("create the folder of journals"))?;
        Ok(folder)
    }

    /// A store that opens on a full disk would say that it is ready, and fail at the first message.
    fn check_room(&self) -> Result<(), OpenError> {
        let room = self.dir.join(ROOM_FILE);
        let written = write_and_sync(&room);
        let _ = fs::remove_file(&room);
        written.map_err(|source| OpenError::Io { dir: self.dir.clone(), what: "write to the disk", source })
    }

    /// Makes the folder of a store that failed fit to be opened again, with the lock held all the time. Each journal is
    /// written anew: after a failed fsync the kernel may hold what is not on the disk and count it as written, so that
    /// what is read back now would be gone after a power failure, and with it all that was appended behind.
    pub(super) fn mend(&self) -> Result<(), OpenError> {
        self.check_room()?;
        let next = self.dir.join(JOURNAL_FILE);
        let mend = || -> io::Result<()> {
            for entry in fs::read_dir(self.data())? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "jnl") {
                    copy_and_sync(&path, &next)?;
                    fs::rename(&next, &path)?;
                }
            }
            File::open(self.data())?.sync_all()
        };
        let mended = mend();
        let _ = fs::remove_file(&next);
        mended.map_err(|source| OpenError::Io { dir: self.dir.clone(), what: "write the journal anew", source })
    }

    /// Where the engine keeps its files.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    /// The folder, for messages.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the watermark is.
    pub(super) fn watermark_path(&self) -> PathBuf {
        self.dir.join(WATERMARK_FILE)
    }

    /// Where the keys are.
    pub(super) fn keys_path(&self) -> PathBuf {
        self.dir.join(KEYS_FILE)
    }

    /// Where the list of files of a clean close is.
    pub(super) fn manifest_path(&self) -> PathBuf {
        self.dir.join(MANIFEST_FILE)
    }

    /// Where journals have their second names.
    pub(super) fn kept_journals(&self) -> PathBuf {
        self.dir.join(KEPT)
    }

    /// Whether there is a complete store in it.
    pub(super) fn is_created(&self) -> bool {
        self.created.load(Ordering::Acquire)
    }

    /// Records that the store was created completely: atomically and durably, by a rename.
    pub(super) fn mark_created(&self) -> Result<(), OpenError> {
        let write = || -> io::Result<()> {
            let ours = format!("{FORMAT_WORDS}{FORMAT}\n");
            if fs::read(self.dir.join(FORMAT_FILE)).ok().as_deref() != Some(ours.as_bytes()) {
                write_durably(&self.dir, FORMAT_FILE, &ours)?;
            }
            match fs::remove_file(self.dir.join(CREATING_FILE)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.and_then(|()| File::open(&self.dir)?.sync_all()),
            }
        };
        write().map_err(|source| OpenError::Io { dir: self.dir.clone(), what: "write the format", source })?;
        self.created.store(true, Ordering::Release);
        Ok(())
    }
}

/// A small file that is there as a whole, or not.
fn write_durably(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let next = dir.join(FORMAT_NEW);
    let mut file = File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Whether there is anything that a message could be in.
fn holds_data(dir: &Path) -> bool {
    !dir.join(CREATING_FILE).exists() && [DATA, WATERMARK_FILE, KEPT].iter().any(|name| dir.join(name).exists())
}

fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for name in [DATA, KEPT] {
        remove_if_there(&dir.join(name))?;
    }
    for name in [WATERMARK_FILE, KEYS_FILE] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The folder holds people's messages: only its owner may read them, also where the folder was there before. A file
/// system that knows no owners is no reason not to start.
fn keep_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let is_dir = path.is_dir();
    if let Err(error) = set(path, if is_dir { 0o700 } else { 0o600 }) {
        tracing::warn!(path = %path.display(), %error, "others may be able to read the store");
    }
    let inside = if is_dir { fs::read_dir(path).ok() } else { None };
    for entry in inside.into_iter().flatten().flatten() {
        // A link leads to what is not the store's.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            keep_private(&entry.path());
        }
    }
}

fn write_and_sync(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Not zeros: some file systems store those in no space at all.
    file.write_all(&vec![0x5a; ROOM])?;
    file.sync_all()
}

/// By hand: the kernel's own copy may share the blocks of the two files instead of writing any.
pub(super) fn copy_and_sync(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match from.read(&mut chunk)? {
            0 => return to.sync_all(),
            read => to.write_all(&chunk[..read])?,
        }
    }
}

fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { dir: dir.into(), what: "list the files", source };
    let files = [LOCK_FILE, FORMAT_FILE, FORMAT_NEW, ROOM_FILE, JOURNAL_FILE, BACKUP_SOCKET, CREATING_FILE];
    let later = [WATERMARK_FILE, KEYS_FILE, MANIFEST_FILE, MANIFEST_NEW, KEPT];
    let ours = |name: &str| files.contains(&name) || later.contains(&name) || rescue::is_its(name);
    let mut foreign = None;
    let (mut locked, mut data) = (false, false);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        locked |= name == LOCK_FILE;
        data |= name == DATA;
        if !ours(&name) && name != DATA {
            foreign = Some(name);
        }
    }
    // A folder `data` is ours only next to our lock file, which is always created first.
    if data && !locked {
        foreign = Some(DATA.into());
    }
    match foreign {
        Some(example) => Err(OpenError::Foreign { dir: dir.into(), example }),
        None => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.into(), what: "lock the store", source };
    let path = dir.join(LOCK_FILE);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { dir: dir.into(), holder: holder(file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn check_format(dir: &Path) -> Result<(), OpenError> {
    let text = fs::read(dir.join(FORMAT_FILE)).map_err(|source| OpenError::Io {
        dir: dir.into(),
        what: "read the format",
        source,
    })?;
    let text = String::from_utf8_lossy(&text);
    let found = text.trim();
    let version = found.strip_prefix(FORMAT_WORDS).unwrap_or(found);
    if BEFORE.iter().chain([&FORMAT]).any(|known| version == known.to_string()) {
        return Ok(());
    }
    let found = if version.is_empty() { "unknown".to_owned() } else { version.chars().take(40).collect() };
    Err(OpenError::Version { dir: dir.into(), found, expected: FORMAT })
}

/// A folder and all that is in it.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_when_it_is_given_back_whoever_else_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(dir.path(), false).unwrap();
        // As a process has it that this one forked.
        let of_child = folder.lock.try_clone().unwrap();
        assert!(matches!(Folder::claim(dir.path(), false), Err(OpenError::InUse { .. })));
        drop(folder);
        Folder::claim(dir.path(), false).unwrap();
        drop(of_child);
    }
}
