//! Node, and packages from npm that are kept between runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The oldest version with a WebSocket, behind a flag.
const OLDEST: u32 = 20;

/// A command that runs Node with a WebSocket; `Err` says why there is none.
pub fn node() -> Result<Command, String> {
    let output = Command::new("node").arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("node: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Err(format!("node is {version}, {OLDEST} or newer is needed"));
    }
    let mut command = Command::new("node");
    command.arg("--experimental-websocket").stdin(Stdio::null());
    Ok(command)
}

/// The folder of a package of npm, named with its version as in `axe-core@4`; `Err` says why there is none.
pub fn npm_package(package: &str) -> Result<PathBuf, String> {
    // Tests run at the same time, and it is fetched once.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _one = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("npm-{}", package.replace('@', "-")));
    let name = package.rsplit_once('@').map_or(package, |(name, _)| name);
    let folder = root.join("node_modules").join(name);
    if folder.join("package.json").is_file() {
        return Ok(folder);
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .arg(&root)
        .arg(package);
    let output = npm.stdin(Stdio::null()).output().map_err(|error| format!("npm: {error}"))?;
    if folder.join("package.json").is_file() {
        return Ok(folder);
    }
    Err(format!("npm install {package}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
