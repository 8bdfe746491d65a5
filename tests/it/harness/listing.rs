//! Which tests exist, and what the sources name: for tests that check a table against both.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The tests of this binary, each by its full path, as the binary itself lists them.
pub fn tests() -> BTreeSet<String> {
    let listed = Command::new(env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The folder of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder, except what a build leaves behind.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The sources of natter that contain this word, except their tests and the tables of codes.
pub fn says(word: &str) -> Vec<PathBuf> {
    let tables = ["protocol/close.rs", "protocol/error.rs"];
    let is_test = |path: &Path| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let mut found = files(&root().join("src"));
    found.retain(|path| {
        let counts = path.extension().is_some_and(|kind| kind == "rs");
        counts && !is_test(path) && !tables.iter().any(|table| path.ends_with(table)) && contains(path, word)
    });
    found
}

/// Whether a file has the word, not as the beginning of a longer one.
fn contains(path: &Path, word: &str) -> bool {
    let text = fs::read_to_string(path).unwrap();
    let whole = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| whole(&text[at + word.len()..]))
}
