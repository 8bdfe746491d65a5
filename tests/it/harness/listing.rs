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

/// The sources of natter that contain this word, except their tests and the tables of codes.
pub fn says(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), word, &mut found);
    found
}

fn search(folder: &Path, word: &str, found: &mut Vec<PathBuf>) {
    let tables = ["protocol/close.rs", "protocol/error.rs"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") || tables.iter().any(|table| path.ends_with(table)) {
            continue;
        }
        if path.is_dir() {
            search(&path, word, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let whole = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if text.match_indices(word).any(|(at, _)| whole(&text[at + word.len()..])) {
                found.push(path);
            }
        }
    }
}
