//! `docs/rules.md` holds the rules that the sources cite, and names the tests that check them. Both directions are
//! checked here: every cited rule has its section there, and every test named there exists.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::known_tests::all;
use crate::harness::listing::{files, root};

const PAGE: &str = "docs/rules.md";

/// Where rules are cited.
const CITING: [&str; 8] = ["src", "tests", "schema", "deploy", "nats", "docs", "README.md", "ARCHITECTURE.md"];

/// What begins the paragraph of a section that names its tests.
const TESTS: &str = "**Tests.**";

/// An invariant, a rule or a scenario: a heading of the third level with the text below it.
#[derive(Debug, PartialEq)]
struct Section {
    /// `I1`, `R5`, `Scenario 3`.
    id: String,
    /// What is named after [`TESTS`], until the section ends.
    tests: Vec<String>,
}

fn sections(page: &str) -> Vec<Section> {
    let mut found = Vec::new();
    for part in page.split("\n### ").skip(1) {
        let part = part.split("\n## ").next().unwrap_or_default();
        let (id, _) = part.split_once(':').unwrap_or_else(|| panic!("a heading without a name: {part:.60}"));
        let tests = part.split_once(TESTS).map_or("", |(_, tests)| tests);
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        found.push(Section { id: id.to_owned(), tests });
    }
    found
}

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

/// The rules and invariants that a text names: `F`, `R` or `I` and a number, as a word by itself.
fn cited(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(['F', 'R', 'I']) {
        let number: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let before = text[..at].chars().next_back();
        let after = text[at + 1 + number.len()..].chars().next();
        // `Marker::I16` is a type, not an invariant.
        let alone = !before.is_some_and(|c| is_word(c) || c == ':') && !after.is_some_and(is_word);
        if alone && !number.is_empty() {
            found.insert(format!("{}{number}", &text[at..=at]));
        }
    }
    found
}

fn citing_files() -> Vec<PathBuf> {
    let under = |path: &str| {
        let path = root().join(path);
        if path.is_dir() { files(&path) } else { vec![path] }
    };
    CITING.into_iter().flat_map(under).collect()
}

#[test]
fn sections_and_citations_are_read() {
    let page =
        format!("# Page\n\n### {}: a rule\n\nNot `a::b`.\n\n{TESTS} `x::y`: why\n`z`\n\n## Next\n`not::this`\n", "R9");
    assert_eq!(sections(&page), [Section { id: "R9".into(), tests: vec!["x::y".into(), "z".into()] }]);
    // Built from parts, or this file would cite rules that do not exist.
    let text = "(_7), _12\u{2013}_13; x_1 ::_64 _2x";
    let text = ["R", "I", "F"].map(|letter| text.replace('_', letter)).join(" ");
    let found: Vec<_> = cited(&text).into_iter().collect();
    assert_eq!(found, ["F", "I", "R"].map(|letter| [12, 13, 7].map(|n| format!("{letter}{n}"))).concat());
}

#[test]
fn every_number_has_its_heading() {
    let ids: Vec<_> = sections(&page()).into_iter().map(|section| section.id).collect();
    let all = |name: &str, last: usize| (1..=last).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
    let wanted = [all("I", 8), all("R", 29), all("F", 10), all("Scenario ", 10)].concat();
    assert_eq!(ids, wanted, "the headings of {PAGE}, in their order");
}

#[test]
fn every_rule_that_is_cited_is_on_the_page() {
    let known: BTreeSet<_> = sections(&page()).into_iter().map(|section| section.id).collect();
    let (mut count, mut missing) = (0, Vec::new());
    for file in citing_files() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for id in cited(&text) {
            count += 1;
            if !known.contains(&id) {
                missing.push(format!("{id} in {}", file.strip_prefix(root()).unwrap_or(Path::new("?")).display()));
            }
        }
    }
    assert!(count > 60, "only {count} citations were found: are they still read right?");
    assert!(missing.is_empty(), "{PAGE} has no heading for {missing:#?}");
}

#[test]
fn every_section_names_tests_and_they_exist() {
    let mut faults = Vec::new();
    for Section { id, tests } in sections(&page()) {
        if tests.is_empty() {
            faults.push(format!("{id}: names no test after {TESTS}"));
        }
        faults.extend(
            tests.iter().filter(|test| !all().contains(*test)).map(|test| format!("{id}: there is no test {test}")),
        );
    }
    assert!(faults.is_empty(), "{PAGE}: {faults:#?}");
}

#[test]
fn every_link_to_the_page_finds_its_anchor() {
    let page = page();
    let anchors: BTreeSet<_> = page.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for id in sections(&page).into_iter().map(|section| section.id.to_lowercase().replace(' ', "-")) {
        assert!(anchors.contains(&*id), "{PAGE} has no <a id=\"{id}\"></a>");
    }
    for file in citing_files().into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(&file).unwrap();
        let own = if file.ends_with(PAGE) { "](#" } else { "rules.md#" };
        for target in text.split(own).skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(anchors.contains(target), "{} links to #{target} of {PAGE}, which is not there", file.display());
        }
    }
}
