//! The pages say what is so: tests that they name exist, and so do the files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// What stands between backticks in a page.
fn quoted(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn functions() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
            if let Some(rest) = line.strip_prefix("fn ") {
                names.insert(rest.split(['(', '<']).next().unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn every_test_that_is_named_exists() {
    let known = functions();
    let is_test_name = |text: &String| {
        text.split("::").count() == 2
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':')
            && text.split("::").nth(1).is_some_and(|name| name.matches('_').count() >= 2)
    };
    let named: Vec<String> = quoted("ARCHITECTURE.md").into_iter().filter(is_test_name).collect();
    assert!(named.len() > 30, "the page names its tests: {named:?}");
    let missing: Vec<&String> = named.iter().filter(|text| !known.contains(text.split("::").nth(1).unwrap())).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that there are not: {missing:?}");
}

#[test]
fn every_file_that_is_named_exists() {
    for page in ["README.md", "ARCHITECTURE.md"] {
        for text in quoted(page) {
            let is_file = [".rs", ".mjs", ".toml", ".yml", ".md", ".conf"].iter().any(|kind| text.ends_with(kind));
            let is_source = text.contains('/') && is_file && !text.contains(' ');
            let found = [root().to_owned(), root().join("src")].iter().any(|folder| folder.join(&text).exists());
            assert!(!is_source || found, "{page} names {text}");
        }
    }
}
