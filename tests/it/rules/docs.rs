//! The pages say what is so: tests that they name exist, and so do the files. What `docs/rules.md` says beyond that is
//! held to by [`super::rules_page`].

use std::fs;

use super::known_tests::{all, root};

const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "docs/rules.md"];

/// Sources that are about to move, as the pages name them already, and where they are until then. Each line goes when
/// its source has moved.
const MOVING: [(&str, &str); 11] = [
    ("src/gateway/greet.rs", "src/gateway/greeting.rs"),
    ("src/model/", "src/model.rs"),
    ("src/model/body.rs", "src/protocol/body.rs"),
    ("src/ops/", "src/gateway/requests.rs"),
    ("src/routing/mailbox.rs", "src/gateway/mailbox.rs"),
    ("src/routing/recent.rs", "src/gateway/recent.rs"),
    ("src/routing/registry.rs", "src/gateway/registry.rs"),
    ("src/routing/router.rs", "src/gateway/router.rs"),
    ("src/routing/watch.rs", "src/gateway/watch.rs"),
    ("src/services/", "src/gateway/services.rs"),
    ("src/session/session.rs", "src/session/joined.rs"),
];

/// What stands between backticks in a page.
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
            // The end of a path will do: what a page is about need not be said again.
            let exists = all().iter().any(|test| test == text || test.ends_with(&format!("::{text}")));
            assert!(exists, "{page} names the test {text}, which is not there");
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    for page in PAGES {
        for text in quoted(page).iter().filter(|text| is_source(text)) {
            let until_then = MOVING.iter().find(|(to, _)| to == text).map_or(text.as_str(), |(_, from)| from);
            let found = [text, until_then]
                .iter()
                .any(|path| [root().to_owned(), root().join("src")].iter().any(|folder| folder.join(path).exists()));
            assert!(found, "{page} names {text}, which is not there");
        }
    }
}
