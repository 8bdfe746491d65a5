//! Which tests exist, by the paths that `cargo test` prints. Called by the tests of the pages that name tests.
//!
//! This binary lists its own tests. Those of the library are read from its sources: they are in another binary, whose
//! location is not known here.

use std::{collections::BTreeSet, fs, mem, sync::OnceLock};

use crate::harness::listing::{self, files, root};

/// All tests, each by its full path: `offline::…` of this binary, `session::delivery::tests::…` of the library.
pub(super) fn all() -> &'static BTreeSet<String> {
    static ALL: OnceLock<BTreeSet<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let (mut all, unit) = (listing::tests(), unit());
        assert!(all.len() > 150 && unit.len() > 80, "{} and {} tests were found", all.len(), unit.len());
        all.extend(unit);
        all
    })
}

fn unit() -> BTreeSet<String> {
    let sources = root().join("src");
    let mut found = BTreeSet::new();
    for file in files(&sources) {
        let place = file.strip_prefix(&sources).unwrap().with_extension("");
        let mut module: Vec<_> = place.iter().map(|part| part.to_str().unwrap()).collect();
        if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
            module.pop();
        }
        if file.extension().is_some_and(|kind| kind == "rs") {
            found.extend(tests_in(&module, &fs::read_to_string(&file).unwrap()));
        }
    }
    found
}

/// The tests of one source file: functions after `#[test]`, in the modules that contain them. Relies on rustfmt's
/// format: a module ends with a brace indented as far as the module's first line. `#[path]` is not followed.
fn tests_in(module: &[&str], text: &str) -> Vec<String> {
    let (mut inside, mut is_test, mut found) = (Vec::new(), false, Vec::new());
    for line in text.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if let Some(name) = code.strip_suffix(" {").and_then(|code| word_after(code, "mod ")) {
            inside.push((indent, name));
        } else if code == "}" && inside.last().is_some_and(|(began, _)| *began == indent) {
            inside.pop();
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = word_after(code, "fn ")
            && mem::take(&mut is_test)
        {
            let path: Vec<_> =
                module.iter().copied().chain(inside.iter().map(|(_, name)| *name)).chain([name]).collect();
            found.push(path.join("::"));
        }
    }
    found
}

/// The name after a keyword that begins the line, skipping visibility and `async`.
fn word_after<'a>(code: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = code.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix(keyword)?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

#[test]
fn tests_are_told_from_other_functions() {
    let text = "\
fn helper() {}
mod tests {
    fn helper() {}
    #[test]
    fn one() {
    }
    mod inner {
        #[tokio::test(flavor = \"multi_thread\")]
        #[ignore = \"slow\"]
        async fn two() {}
    }
    proptest! {
        /// A comment.
        #[test]
        fn three(bytes in any::<u8>()) {}
    }
}
#[test]
fn four() {}
";
    let found = tests_in(&["a", "b"], text);
    assert_eq!(found, ["a::b::tests::one", "a::b::tests::inner::two", "a::b::tests::three", "a::b::four"]);
}
