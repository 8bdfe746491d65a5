//! The secret that signs the tokens of `natter dev`: made once and kept in the data folder, so that tokens survive
//! restarts.
//! Called by `natter dev` and `natter token`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rand::Rng as _;

use super::{KeyError, Secret, read_secret};

/// The file's name in the data folder.
pub const DEV_SECRET_FILE: &str = "auth.secret";

/// The file with a data folder's secret; it can be used as `auth.hs256_secret_file`.
pub fn dev_secret_path(data_dir: &Path) -> PathBuf {
    data_dir.join(DEV_SECRET_FILE)
}

/// Reads the secret of a data folder, creating folder and secret if missing: 32 random bytes as hex, in a file that
/// only its owner may read. If several processes create it at the same time, one wins and all use its secret.
///
/// # Errors
/// When the folder or the file cannot be written or read.
pub fn dev_secret(data_dir: &Path) -> Result<Secret, KeyError> {
    let path = dev_secret_path(data_dir);
    match read_secret(&path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    create(data_dir, &path).map_err(|source| KeyError::File { verb: "write", path: path.clone(), source })?;
    read_secret(&path)
}

/// The file is complete as soon as it exists: it is written and synced under another name (mode 0600), then linked.
fn create(data_dir: &Path, path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    writeln!(file, "{}", random_hex())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => std::fs::File::open(data_dir)?.sync_all(),
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(other) => Err(other.error),
    }
}

fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn it_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("deep").join("data");
        let first = dev_secret(&data).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert_eq!(dev_secret(&data).unwrap(), first);
        let mode = std::fs::metadata(dev_secret_path(&data)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(dev_secret(other.path()).unwrap(), first);
    }

    #[test]
    fn many_at_once_agree_on_one() {
        let folder = tempfile::tempdir().unwrap();
        let secrets: BTreeSet<String> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..16).map(|_| scope.spawn(|| dev_secret(folder.path()).unwrap())).collect();
            tasks.into_iter().map(|task| task.join().unwrap().expose().to_owned()).collect()
        });
        assert_eq!(secrets.len(), 1);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "temporary files were left behind");
    }

    #[test]
    fn a_file_that_was_cut_short_is_a_fault_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(dev_secret_path(folder.path()), "short\n").unwrap();
        assert!(matches!(dev_secret(folder.path()), Err(KeyError::Short { len: 5, .. })));
        assert_eq!(std::fs::read_to_string(dev_secret_path(folder.path())).unwrap(), "short\n");
    }
}
