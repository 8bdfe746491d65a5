//! Runs an ignored test of this same binary in a separate process, for what must not happen to this one: to be killed,
//! or to run out of disk.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::process::Process;

const DIR: &str = "NATTER_TEST_STORE_DIR";

/// The folder to work on, in a child; `None` if someone ran the ignored test by hand.
pub fn dir() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// Starts the ignored test `name`, its path below `store::embedded`, on `dir`.
pub fn start(name: &str, dir: &Path) -> Process {
    start_with(name, dir, &[])
}

/// The same with more in its environment.
pub fn start_with(name: &str, dir: &Path, variables: &[(&'static str, String)]) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([&format!("store::embedded::{name}"), "--exact", "--ignored", "--nocapture"]).env(DIR, dir);
    command.envs(variables.iter().cloned());
    Process::reading(command)
}
