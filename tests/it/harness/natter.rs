//! The `natter` command, as a shell runs it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The program itself.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_natter"))
}

/// The command in `folder`, in an empty environment: nothing from the machine may leak into a test.
pub fn natter(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}
