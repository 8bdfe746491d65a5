//! What a unit of systemd, a pod or a container gives the node: time to stop, files with secrets that are for it alone, and
//! files that a reload reads anew.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::finding::Finding;
use crate::{
    config::{Config, Loaded, Source},
    node::longest_stop,
};

const PART: &str = "host";
/// The rights of everybody who is neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// `file` is that of the configuration.
pub(super) fn examine(loaded: &Loaded, file: Option<&Path>) -> Vec<Finding> {
    // Where there is none, as on macOS, no file is mounted alone.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    vec![stop(&loaded.config), secrets(loaded, file), reload(loaded, file, &mounts, credentials.as_deref())]
}

fn stop(config: &Config) -> Finding {
    let (whole, killed) = (longest_stop(&config.timing).as_secs(), config.node.killed_after_secs);
    let drain = config.timing.drain_min_secs + config.timing.drain_secs;
    let says = match killed {
        0 => format!("takes up to {whole} s; node.killed_after_secs does not say what the node is given"),
        _ => format!("takes up to {whole} s, and the node is killed after {killed} s"),
    };
    let fix = format!(
        "shorten timing.drain_secs, or give it {whole} s: TimeoutStopSec= in the unit, terminationGracePeriodSeconds of the \
         pod, stop_grace_period of compose, and node.killed_after_secs with them"
    );
    match killed {
        0 => Finding::ok(PART, "stop", says),
        _ if killed < drain => Finding::fail(PART, "stop", says, fix),
        _ if killed < whole => Finding::warn(PART, "stop", says, fix),
        _ => Finding::ok(PART, "stop", says),
    }
}

/// Files that hold secrets, and the configuration itself where it does.
fn secrets(loaded: &Loaded, file: Option<&Path>) -> Finding {
    let mut files = loaded.config.secret_files();
    let in_file = |key: &String| {
        let by_file = matches!(loaded.origins.get(key), Some(Source::File(..)));
        by_file && !loaded.origins.contains_key(&format!("{key}_file"))
    };
    if let (Some(key), Some(file)) = (loaded.config.secret_keys().into_iter().find(in_file), file) {
        files.push((key, file.to_owned()));
    }
    let mut open = Vec::new();
    for (key, path) in &files {
        match rights(path) {
            Ok(mode) if mode & OTHERS == 0 => {}
            Ok(mode) => open.push(format!("{} ({key}) has mode {:04o}", path.display(), mode & 0o7777)),
            Err(error) => {
                let says = format!("{} ({key}): {error}", path.display());
                let fix =
                    "let the node's user or group read it: chgrp natter, chmod 640; in a pod fsGroup and defaultMode";
                return Finding::fail(PART, "secret files", says, fix);
            }
        }
    }
    match (open.is_empty(), files.len()) {
        (true, 0) => Finding::ok(PART, "secret files", "no secret is in a file"),
        (true, 1) => Finding::ok(PART, "secret files", "1 can be read, and not by everybody"),
        (true, several) => Finding::ok(PART, "secret files", format!("{several} can be read, and not by everybody")),
        (false, _) => {
            let says = format!("{}: others on this machine may read or write it", open.join(", "));
            Finding::warn(PART, "secret files", says, "take the rights of others away: chmod o-rwx")
        }
    }
}

/// The mode of a file that this process can read.
fn rights(path: &Path) -> io::Result<u32> {
    Ok(fs::File::open(path)?.metadata()?.permissions().mode())
}

/// Whether SIGHUP finds what was changed: keys, services, the log filter.
fn reload(loaded: &Loaded, file: Option<&Path>, mounts: &str, credentials: Option<&Path>) -> Finding {
    let auth = &loaded.config.auth;
    let single = [&auth.hs256_secret_file, &auth.hs256_previous_secret_file, &auth.jwks_file];
    let keys = single.into_iter().flatten().chain(&auth.public_key_files).map(PathBuf::as_path);
    let files: Vec<&Path> = keys.chain(file).collect();
    let of_start = |path: &&&Path| credentials.is_some_and(|folder| path.starts_with(folder));
    if let Some(copy) = files.iter().find(of_start) {
        let says =
            format!("{} is a copy that systemd made at the start: SIGHUP reads it again as it was", copy.display());
        let fix = "name the file itself instead of LoadCredential=, readable to the node's group (deploy/systemd)";
        return Finding::warn(PART, "reload", says, fix);
    }
    if let Some(alone) = files.iter().find(|path| is_mount(path, mounts)) {
        let says = format!("{} is mounted by itself: a file that replaces it is not seen here", alone.display());
        return Finding::warn(PART, "reload", says, "mount its folder instead (no subPath), or restart for new keys");
    }
    let secrets =
        [("auth.hs256_secret", &auth.hs256_secret), ("auth.hs256_previous_secret", &auth.hs256_previous_secret)];
    let set = secrets.into_iter().filter(|(_, secret)| secret.is_some());
    let mut origins = set.filter_map(|(key, _)| Some((key, loaded.origins.get(key)?)));
    let variable = origins.find(|(_, source)| matches!(source, Source::Variable(_)));
    match (variable, files.len()) {
        (Some((key, source)), _) => {
            Finding::ok(PART, "reload", format!("{key} comes from {source}: another one needs a restart"))
        }
        (None, 0) => Finding::ok(PART, "reload", "there is no file that SIGHUP would read again"),
        (None, 1) => Finding::ok(PART, "reload", format!("SIGHUP reads {} again", files[0].display())),
        (None, more) => Finding::ok(PART, "reload", format!("SIGHUP reads {more} files again")),
    }
}

/// Whether a path is where something is mounted, by the text of `/proc/self/mountinfo`.
fn is_mount(path: &Path, mounts: &str) -> bool {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|place| Path::new(place) == real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_file_that_is_mounted_alone_is_not_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let secret = folder.join("auth-secret");
        fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
        let variable = ("NATTER_AUTH__HS256_SECRET_FILE".to_owned(), secret.display().to_string());
        let loaded = Config::load_with_origins(&Sources { variables: vec![variable], ..Sources::default() }).unwrap();
        let mount =
            |place: &Path| format!("36 35 8:1 /a {} rw,relatime shared:1 - ext4 /dev/sda1 rw\n", place.display());
        let said = |mounts: &str| reload(&loaded, None, mounts, None);
        let alone = said(&mount(&secret));
        assert!(alone.says.contains("is mounted by itself") && alone.fix.is_some(), "{alone:?}");
        let whole = said(&mount(&folder));
        assert!(whole.says.starts_with("SIGHUP reads /") && whole.fix.is_none(), "{whole:?}");
    }
}
