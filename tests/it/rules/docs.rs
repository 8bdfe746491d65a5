//! The pages tell the truth: the tests that they name exist, and so do the files. Whatever else `docs/rules.md` says is
//! checked by [`super::rules_page`].

use std::fs;

use super::known_tests::all;
use crate::harness::listing::root;

const PAGES: [&str; 14] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/rules.md",
    "docs/protocol.md",
    "docs/conform.md",
    "docs/tokens.md",
    "docs/operations.md",
    "docs/README.md",
    "docs/start.md",
    "docs/concepts.md",
    "docs/rust.md",
    "docs/clients.md",
    "docs/services.md",
    "docs/dev.md",
];

/// The text between backticks in a page.
fn quoted(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a text is the path of a test: names with `::` between them, the last one a sentence.
fn is_test(text: &str) -> bool {
    let names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    text.chars().all(names) && text.rsplit_once("::").is_some_and(|(_, name)| name.matches('_').count() >= 2)
}

/// A file or folder: a path, and not the path of a URL or a subject.
fn is_source(text: &str) -> bool {
    let kinds = [".rs", ".mjs", ".toml", ".yml", ".md", ".conf", ".cql", "/"];
    text.contains('/')
        && !text.starts_with('/')
        && !text.contains([' ', ':'])
        && kinds.iter().any(|kind| text.ends_with(kind))
}

#[test]
fn every_test_that_is_named_exists() {
    for page in PAGES {
        for text in quoted(page).iter().filter(|text| is_test(text)) {
            // The end of a path will do: a page need not repeat the folder that it is about.
            let exists = all().iter().any(|test| test == text || test.ends_with(&format!("::{text}")));
            assert!(exists, "{page} names the test {text}, which is not there");
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    for page in PAGES {
        for text in quoted(page).iter().filter(|text| is_source(text)) {
            let found = [root().to_owned(), root().join("src")].iter().any(|folder| folder.join(text).exists());
            assert!(found, "{page} names {text}, which is not there");
        }
    }
}
