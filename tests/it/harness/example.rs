//! The programs under `examples/`, as somebody runs them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::natter::program;

/// One of them: made with all tests, and by itself when only some tests are asked for.
pub fn example(name: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--example", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.args(if cfg!(debug_assertions) { None } else { Some("--release") });
    assert!(build.stdin(Stdio::null()).status().unwrap().success());
    program().parent().unwrap().join("examples").join(name)
}

/// What starts it in `folder`, in an empty environment.
pub fn example_in(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(example(name));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}
