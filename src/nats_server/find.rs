//! Looks for a nats-server: the one that was named, then on `PATH`, then in the cache of fetched ones.
//! Called by [`super::NatsServer::start`] and by `natter doctor`.

use std::{
    env,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{OLDEST, ServerError, fetch};

/// A nats-server that is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub path: PathBuf,
    /// The version it reports.
    pub version: String,
}

/// Finds a server: `explicit` (a flag), `NATTER_NATS_SERVER`, `PATH`, the cache; if there is none, fetches one into the
/// cache. One that was named must be usable; one on `PATH` that is not is skipped with a note on stderr. Blocks, for
/// seconds when fetching.
///
/// # Errors
/// The named program is not a nats-server or too old, or none was found and fetching failed.
pub fn find(explicit: Option<&Path>) -> Result<Found, ServerError> {
    let named = env::var_os("NATTER_NATS_SERVER").filter(|value| !value.is_empty());
    if let Some(path) = explicit.map(Path::to_owned).or_else(|| named.map(PathBuf::from)) {
        return check(&path).map_err(|reason| ServerError::Unusable { path, reason });
    }
    for path in on_path("nats-server", env::var_os("PATH").as_deref()) {
        match check(&path) {
            Ok(found) => return Ok(found),
            Err(reason) => eprintln!("natter: skipping {}: {reason}", path.display()),
        }
    }
    let cached = fetch::cached_program()?;
    if let Ok(found) = check(&cached) {
        return Ok(found);
    }
    fetch::fetch(&cached)?;
    check(&cached).map_err(|reason| ServerError::Unusable { path: cached, reason })
}

fn on_path(name: &str, path: Option<&std::ffi::OsStr>) -> Vec<PathBuf> {
    let folders = path.map(env::split_paths).into_iter().flatten();
    folders.map(|folder| folder.join(name)).filter(|program| program.is_file()).collect()
}

/// Runs `--version` and parses its output.
fn check(path: &Path) -> Result<Found, String> {
    let output = version_output(path).map_err(|e| e.to_string())?;
    let version = parse_version(&output).ok_or_else(|| format!("not a nats-server: --version prints {output:?}"))?;
    let (major, minor) = OLDEST;
    if number(&version) < OLDEST {
        return Err(format!("its version is {version}, natter needs {major}.{minor} or newer"));
    }
    Ok(Found { path: path.to_owned(), version })
}

fn version_output(path: &Path) -> std::io::Result<String> {
    let mut tries = 0;
    loop {
        match Command::new(path).arg("--version").output() {
            // Just written: a child that another thread is forking may still hold the file open for writing.
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        }
    }
}

/// `nats-server: v2.15.1` → `2.15.1`
fn parse_version(output: &str) -> Option<String> {
    let version = output.strip_prefix("nats-server:")?.trim().trim_start_matches('v');
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A program that says `says`.
    fn program(folder: &Path, says: &str) -> PathBuf {
        let path = folder.join("nats-server");
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("nats-server: v2.15.1").as_deref(), Some("2.15.1"));
        assert_eq!(parse_version("nats-streaming 1"), None);
        assert!(number("2.9.25") < OLDEST && number("2.10.0") >= OLDEST && number("3.0.0-beta.1") > OLDEST);
    }

    #[test]
    fn a_named_program_must_do() {
        let folder = tempfile::tempdir().unwrap();
        let old = program(folder.path(), "nats-server: v2.9.25");
        let error = find(Some(&old)).unwrap_err().to_string();
        assert!(error.contains("2.9.25") && error.contains("2.10"), "{error}");
        let none = find(Some(Path::new("/nonexistent/nats-server"))).unwrap_err();
        assert!(matches!(none, ServerError::Unusable { .. }), "{none}");
        let new = program(folder.path(), "nats-server: v2.10.4");
        assert_eq!(find(Some(&new)).unwrap().version, "2.10.4");
    }

    #[test]
    fn the_path_is_searched_in_order() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = env::join_paths([one.path(), two.path()]).unwrap();
        let second = program(two.path(), "nats-server: v2.11.0");
        assert_eq!(on_path("nats-server", Some(&path)), std::slice::from_ref(&second));
        let first = program(one.path(), "nats-server: v2.9.0");
        assert_eq!(on_path("nats-server", Some(&path)), [first, second]);
    }
}
