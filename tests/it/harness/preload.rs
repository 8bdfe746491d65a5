//! What a process tells the operating system, seen and changed from outside: a small library that is loaded before the C
//! library. Compiled with `cc` when it is first asked for.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::UNIX_EPOCH,
};

/// Variables of a process's environment.
pub type Variables = Vec<(&'static str, String)>;

/// Has a process note in `log`, a line each, the files that it synced; `None` where there is no C compiler.
pub fn noting_syncs(log: &Path) -> Option<Variables> {
    with(("NATTER_PRELOAD_SYNCS", log.to_str().unwrap().to_owned()))
}

/// Has a process keep in the folder `kept` what it has synced of each file, for [`after_power_failure`], besides all that is
/// in `disk` now; `None` where there is no C compiler.
pub fn keeping_synced(disk: &Path, kept: &Path) -> Option<Variables> {
    fs::create_dir_all(kept).unwrap();
    for_files(disk, &mut |file| {
        fs::copy(file, kept_as(file, kept)).unwrap();
    });
    with(("NATTER_PRELOAD_DISK", kept.to_str().unwrap().to_owned()))
}

/// The disk after a power failure: the files of `left`, as a killed process left them, each with what it held
/// when it was last synced, and empty if it never was. Names are taken to be on the disk at once, as a file system with a
/// journal of its own may have it: also those of files whose content is not.
pub fn after_power_failure(left: &Path, kept: &Path, disk: &Path) {
    for_files(left, &mut |file| {
        let (synced, to) = (kept_as(file, kept), disk.join(file.strip_prefix(left).unwrap()));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if synced.exists() {
            fs::copy(synced, to).unwrap();
        } else {
            fs::File::create(to).unwrap();
        }
    });
}

/// A copy of the folder `from` at `to`.
pub fn copy_files(from: &Path, to: &Path) {
    for_files(from, &mut |file| {
        let to = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    });
}

/// Where preload.c keeps what was synced of a file.
fn kept_as(file: &Path, kept: &Path) -> PathBuf {
    let about = file.metadata().unwrap();
    let born = about.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    kept.join(format!("{}-{}{:09}", about.ino(), born.as_secs(), born.subsec_nanos()))
}

fn for_files(folder: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            for_files(&entry.path(), each);
        } else if kind.is_file() {
            each(&entry.path());
        }
    }
}

/// Has a process see a clock that is so many seconds ahead; `None` where there is no C compiler.
pub fn clock_ahead(seconds: i64) -> Option<Variables> {
    with(("NATTER_PRELOAD_AHEAD", seconds.to_string()))
}

fn with(variable: (&'static str, String)) -> Option<Variables> {
    let library = library()?.to_str().unwrap().to_owned();
    Some(vec![("LD_PRELOAD", library), variable])
}

fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

/// For this process alone: another one may be compiling the same at this moment.
fn build() -> Option<PathBuf> {
    let folder = tempfile::tempdir().unwrap().keep();
    let (source, library) = (folder.join("preload.c"), folder.join("preload.so"));
    fs::write(&source, include_str!("preload.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let status = compiler.status().ok()?;
    assert!(status.success(), "preload.c does not compile");
    Some(library)
}
