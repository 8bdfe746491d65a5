//! The embedded store's folder and disk, inspected from outside: nothing is opened and nothing left behind.

use std::{
    ffi::CString,
    fs,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::finding::{Finding, millis};
use crate::{
    config::Embedded,
    store::embedded::{FORMAT, FolderState, OpenError, look},
};

const PART: &str = "store";
/// Journals and rewritten tables need room besides the messages.
const FEW_BYTES: u64 = 1 << 30;
/// A message that is appended alone waits for one fsync.
const SLOW_FSYNC: Duration = Duration::from_millis(50);
const FSYNCS: usize = 5;

pub(super) async fn examine(embedded: &Embedded) -> Vec<Finding> {
    let dir = embedded.store_dir();
    let looked = tokio::task::spawn_blocking(move || examine_blocking(&dir)).await;
    looked.unwrap_or_else(|e| {
        vec![Finding::fail(PART, "folder", e.to_string(), "run it again; report it if that fails too")]
    })
}

fn examine_blocking(dir: &Path) -> Vec<Finding> {
    let mut findings = vec![folder(dir)];
    match existing(dir) {
        Some(place) => findings.extend([room(&place), sync(&place)]),
        None => findings.push(Finding::fail(
            PART,
            "disk",
            format!("cannot access any folder above {}", dir.display()),
            "correct store.embedded.data_dir",
        )),
    }
    findings
}

fn folder(dir: &Path) -> Finding {
    let shown = dir.display();
    match look(dir) {
        Ok(FolderState::None) => Finding::ok(PART, "folder", format!("{shown} will be created on the first start")),
        Ok(FolderState::Free) => Finding::ok(PART, "folder", format!("{shown} has format {FORMAT} and is not in use")),
        Ok(FolderState::Held(pid)) => {
            Finding::ok(PART, "folder", format!("{shown} has format {FORMAT} and is in use by process {pid}"))
        }
        Err(error) => Finding::fail(PART, "folder", error.to_string(), cure(&error)),
    }
}

fn cure(error: &OpenError) -> &'static str {
    match error {
        OpenError::Version { .. } => {
            "run the natter version that wrote it, or set store.embedded.data_dir to a new folder"
        }
        OpenError::NoFormat { .. } => "put the file FORMAT back from a copy, or run natter serve --accept-loss once",
        OpenError::Foreign { .. } => "set store.embedded.data_dir to a folder of its own",
        _ => "let natter's user read and write the folder",
    }
}

/// The nearest folder that exists: a store that has not been created yet will be on its disk. Not the store's own
/// folder, where a file of ours would look foreign.
fn existing(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    absolute.ancestors().skip(1).find(|place| place.is_dir()).map(Path::to_owned)
}

fn room(place: &Path) -> Finding {
    match free_bytes(place) {
        Ok(free) => {
            let says = format!("{} MiB free at {}", free >> 20, place.display());
            if free < FEW_BYTES {
                Finding::warn(PART, "disk", says, "make room: on a full disk the store refuses all writes")
            } else {
                Finding::ok(PART, "disk", says)
            }
        }
        Err(e) => Finding::warn(PART, "disk", format!("cannot read its free space: {e}"), "check with df"),
    }
}

fn free_bytes(place: &Path) -> io::Result<u64> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is valid, the path ends with a zero byte, and statvfs writes only there.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync(place: &Path) -> Finding {
    match fsync_time(place) {
        Ok(took) => {
            let says = format!("{} for an fsync at {}", millis(took), place.display());
            if took > SLOW_FSYNC {
                Finding::warn(
                    PART,
                    "fsync",
                    says,
                    "each message waits for one: put store.embedded.data_dir on a faster disk",
                )
            } else {
                Finding::ok(PART, "fsync", says)
            }
        }
        Err(e) => {
            let says = format!("cannot write at {}: {e}", place.display());
            Finding::fail(PART, "fsync", says, "let natter's user write there, or set store.embedded.data_dir")
        }
    }
}

/// The median of several fsyncs, on an unnamed file: it is gone whatever happens here.
fn fsync_time(place: &Path) -> io::Result<Duration> {
    let mut file: fs::File = tempfile::tempfile_in(place)?;
    let mut took = Vec::new();
    for _ in 0..FSYNCS {
        file.write_all(&[0; 300])?;
        let begin = Instant::now();
        file.sync_data()?;
        took.push(begin.elapsed());
    }
    took.sort();
    Ok(took[FSYNCS / 2])
}
