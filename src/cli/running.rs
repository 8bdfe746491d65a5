//! Where a running `natter dev` is. It leaves a note in the cache folder for as long as it runs, so that the commands
//! beside it need neither its folder nor its ports. Written by `dev`, read by `signing` and `identity`.
//!
//! The note is a file that its writer holds locked: the kernel lets go of it however the writer ends, so a note that can
//! be locked is one of the dead, and is thrown away.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::report::Hint;
use crate::nats_server::cache_folder;

/// One running `natter dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunningDev {
    /// Its process.
    pub(super) pid: u32,
    /// The nodes' WebSockets.
    pub(super) urls: Vec<String>,
    /// Its data folder, absolute.
    pub(super) data: PathBuf,
    /// The file with the secret that its nodes accept, absolute; none if the secret is not in a file.
    pub(super) secret: Option<PathBuf>,
    /// Its NATS server.
    #[serde(default)]
    pub(super) nats: Option<String>,
    /// The file with the password of operators there, absolute.
    #[serde(default)]
    pub(super) operator: Option<PathBuf>,
}

/// A note that is there until it is dropped.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    _locked: File,
}

impl Drop for Note {
    fn drop(&mut self) {
        // One that stays is unlocked in a moment, and whoever finds it removes it.
        let _ = fs::remove_file(&self.path);
    }
}

fn folder() -> Option<PathBuf> {
    Some(cache_folder()?.join("dev"))
}

/// Leaves a note. `None` where there is no cache folder: then nobody can find it, which costs nobody a message.
///
/// # Errors
/// When it cannot be written.
pub(super) fn leave_note(dev: &RunningDev) -> io::Result<Option<Note>> {
    let Some(folder) = folder() else { return Ok(None) };
    leave_in(&folder, dev).map(Some)
}

/// Written and locked under another name first: a note that can be seen is whole.
fn leave_in(folder: &Path, dev: &RunningDev) -> io::Result<Note> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix("new-").tempfile_in(folder)?;
    file.as_file().lock()?;
    file.write_all(serde_json::to_string(dev)?.as_bytes())?;
    let path = folder.join(format!("{}-{:08x}.json", dev.pid, rand::random::<u32>()));
    let locked = file.persist(&path).map_err(|failed| failed.error)?;
    Ok(Note { path, _locked: locked })
}

/// Which running `natter dev` a command means: the one with one of these `urls` if there are any; else the one whose
/// data folder is `data`, or the only one.
///
/// # Errors
/// Several run, and it could be any of them.
pub(super) fn find(urls: &[String], data: &Path) -> anyhow::Result<Option<RunningDev>> {
    choose(folder().map(|folder| all_in(&folder)).unwrap_or_default(), urls, data)
}

/// The running `natter dev` with this data folder.
pub(super) fn with_data(data: &Path) -> Option<RunningDev> {
    let data = fs::canonicalize(data).ok()?;
    all_in(&folder()?).into_iter().find(|dev| dev.data == data)
}

fn choose(mut all: Vec<RunningDev>, urls: &[String], data: &Path) -> anyhow::Result<Option<RunningDev>> {
    if !urls.is_empty() {
        return Ok(all.into_iter().find(|dev| dev.urls.iter().any(|url| urls.contains(url))));
    }
    let here = fs::canonicalize(data).ok();
    if let Some(at) = all.iter().position(|dev| Some(&dev.data) == here.as_ref()) {
        return Ok(Some(all.swap_remove(at)));
    }
    if all.len() > 1 {
        let folders: Vec<_> = all.iter().map(|dev| format!("--data {}", dev.data.display())).collect();
        let several = anyhow::anyhow!("{} natter dev are running, and none of them in this folder", all.len());
        return Err(Hint::on(several, format!("say which one: {}", folders.join(", or "))));
    }
    Ok(all.pop())
}

fn all_in(folder: &Path) -> Vec<RunningDev> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let notes = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let notes = notes.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    notes.filter_map(|path| read(&path)).collect()
}

/// `None` for a note of the dead, or one that a later version wrote in its own way.
fn read(path: &Path) -> Option<RunningDev> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => serde_json::from_reader(file).ok(),
        Ok(()) => {
            let _ = fs::remove_file(path);
            None
        }
        Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(pid: u32, port: u16, data: &Path) -> RunningDev {
        let urls = vec![format!("ws://127.0.0.1:{port}/v1/ws")];
        RunningDev { pid, urls, data: data.to_owned(), secret: None, nats: None, operator: None }
    }

    #[test]
    fn a_note_is_there_as_long_as_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let one = dev(1, 8080, Path::new("/one"));
        let note = leave_in(folder.path(), &one).unwrap();
        assert_eq!(all_in(folder.path()), [one]);
        let path = note.path.clone();
        drop(note);
        assert!(!path.exists());
        // As kill -9 leaves it: there, and locked by nobody.
        fs::write(&path, serde_json::to_string(&dev(1, 8080, Path::new("/one"))).unwrap()).unwrap();
        assert_eq!(all_in(folder.path()), []);
        assert!(!path.exists(), "it is thrown away");
    }

    #[test]
    fn of_several_the_one_that_is_meant_is_found() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = |folder: &tempfile::TempDir| fs::canonicalize(folder.path()).unwrap();
        let (one, other) = (dev(1, 8080, &data(&here)), dev(2, 9090, &data(&there)));
        let nowhere = Path::new("/nowhere");
        assert_eq!(choose(vec![], &[], nowhere).unwrap(), None);
        assert_eq!(choose(vec![one.clone()], &[], nowhere).unwrap().as_ref(), Some(&one));
        let both = || vec![one.clone(), other.clone()];
        assert_eq!(choose(both(), &[], there.path()).unwrap().as_ref(), Some(&other));
        assert_eq!(choose(both(), &other.urls, here.path()).unwrap().as_ref(), Some(&other));
        assert_eq!(choose(both(), &["ws://db/v1/ws".to_owned()], here.path()).unwrap(), None);
        assert!(choose(both(), &[], nowhere).unwrap_err().to_string().contains("2 natter dev are running"));
    }
}
