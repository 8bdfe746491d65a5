//! The `natter` command, as a shell runs it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The command in `folder`, in an empty environment: nothing from the machine may leak into a test.
pub fn natter(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natter"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}
