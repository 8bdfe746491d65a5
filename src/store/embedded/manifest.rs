//! The list of the files that a folder holds after a clean close, so that a file that is gone or cut is named before the
//! engine looks for it. Written when the store is closed, compared when it is opened next.
//!
//! `MANIFEST` is text: a first line with the number of the opening it belongs to, then `<bytes> <path>` for each of the
//! engine's files but the journals, whose commits are counted instead.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

const WORDS: &str = "natter files, opening ";
const END: &str = "end";

/// Lists the files of `data` and writes the list to `path`, durably.
pub(super) fn write(data: &Path, path: &Path, opening: u64) -> io::Result<()> {
    let mut text = format!("{WORDS}{opening}\n");
    for (file, bytes) in files(data, data)? {
        let _ = writeln!(text, "{bytes} {file}");
    }
    text.push_str(END);
    let next = path.with_extension("new");
    let mut file = File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

/// What is missing, or has another size, compared with the list of that opening; nothing where there is none.
pub(super) fn compare(data: &Path, path: &Path, opening: u64) -> io::Result<Vec<String>> {
    let text = match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Ok(Vec::new());
        }
        other => other?,
    };
    let mut problems = Vec::new();
    let Some((head, list)) = text.split_once('\n') else { return Ok(problems) };
    if head != format!("{WORDS}{opening}") || !list.ends_with(END) {
        return Ok(problems);
    }
    for line in list.lines() {
        let Some((bytes, name)) = line.split_once(' ') else { continue };
        match fs::metadata(data.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => problems.push(format!("data/{name} is missing")),
            other => {
                let found = other?.len();
                if found.to_string() != bytes {
                    problems.push(format!("data/{name} has {found} bytes instead of {bytes}"));
                }
            }
        }
    }
    Ok(problems)
}

/// All files below a folder with their sizes, but no journals and no locks, which come and go.
fn files(root: &Path, folder: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(files(root, &path)?);
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if !name.ends_with(".jnl") && name != "lock" {
            found.push((name, entry.metadata()?.len()));
        }
    }
    Ok(found)
}
