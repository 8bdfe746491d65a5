//! What a process tells the operating system, seen and changed from outside: a small library that is loaded before the C
//! library. Compiled with `cc` when it is first asked for.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Variables of a process's environment.
pub type Variables = Vec<(&'static str, String)>;

/// Has a process note in `log`, a line each, the files that it synced; `None` where there is no C compiler.
pub fn noting_syncs(log: &Path) -> Option<Variables> {
    with(("NATTER_PRELOAD_SYNCS", log.to_str().unwrap().to_owned()))
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
    std::fs::write(&source, include_str!("preload.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let status = compiler.status().ok()?;
    assert!(status.success(), "preload.c does not compile");
    Some(library)
}
