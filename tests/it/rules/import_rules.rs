//! Who may import what. Reviewers forget; this does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The arrows of lib.rs: a module may import those with a smaller number, so no module imports itself through others.
/// Every module has a number.
const RANKS: [(&str, u8); 30] = [
    ("cli", 12),
    ("node", 11),
    ("http", 10),
    ("operators", 10),
    ("gateway", 9),
    ("services", 9),
    ("ops", 8),
    ("presence", 7),
    ("routing", 6),
    ("blocks", 5),
    ("events", 5),
    ("homes", 5),
    ("sealing", 5),
    ("bus", 4),
    ("client", 4),
    ("store", 4),
    ("auth", 3),
    ("descriptors", 3),
    ("metrics", 3),
    ("nats_server", 3),
    ("config", 2),
    ("overload", 2),
    ("session", 2),
    ("protocol", 1),
    ("subject", 1),
    ("backoff", 0),
    ("fnv", 0),
    ("model", 0),
    ("outgoing", 0),
    ("proc", 0),
];

struct Source {
    path: String,
    /// Without comments and tests.
    code: String,
}

impl Source {
    /// The module below the crate, `main` and `lib` as themselves.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let sources: Vec<_> = found.iter().map(|path| read(&root, path)).collect();
    assert!(sources.len() > 80, "only {} files were found", sources.len());
    sources
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
            found.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    // Tests are at the end of a file.
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<_> = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    Source { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), code: code.join("\n") }
}

/// The modules named after `crate::`, alone or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(name_of(rest))),
            Some(list) => found.extend(top_names(list)),
        }
    }
    found
}

fn name_of(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of a list in braces, not those in braces inside.
fn top_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && c.is_alphabetic() => {
                names.push(name_of(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Whether the code names an external crate: not one of natter's own modules of the same name, whether a child of this
/// file or a part of a path that starts in natter.
fn uses_crate(code: &str, name: &str) -> bool {
    if code.contains(&format!("mod {name};")) {
        return false;
    }
    let own = |statement: &&str| {
        let path = statement.trim_start().trim_start_matches("pub ").strip_prefix("use ");
        path.is_some_and(|path| ["crate", "super", "self"].iter().any(|start| path.starts_with(start)))
    };
    code.split_inclusive(';').filter(|statement| !own(statement)).any(|statement| {
        statement.match_indices(&format!("{name}::")).any(|(at, _)| {
            let before = statement[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
        })
    })
}

#[test]
fn the_reader_of_imports_reads() {
    let names = imports("use crate::{a::{b, c}, d, e::f};\nlet x = crate::g::h();\nuse crate::i;");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g", "i"]);
    assert!(uses_crate("use fjall::Db;", "fjall") && uses_crate("x(fjall::y)", "fjall"));
    assert!(!uses_crate("use crate::store::scylla::X;", "scylla") && !uses_crate("my_fjall::x", "fjall"));
    assert!(uses_crate("use crate::a;\nuse fjall::{A, B};", "fjall"));
    assert!(!uses_crate("use crate::{\n a, store::{scylla::X},\n};\nmod b;", "scylla"));
    assert!(!uses_crate("mod scylla;\nscylla::examine()", "scylla"));
}

#[test]
fn each_library_stays_behind_its_wall() {
    let walls = [("async_nats", "bus/"), ("scylla", "store/scylla"), ("fjall", "store/embedded")];
    for (library, wall) in walls {
        let users: Vec<_> = sources().into_iter().filter(|source| uses_crate(&source.code, library)).collect();
        assert!(!users.is_empty(), "nobody uses {library}: is this rule still read right?");
        let outside: Vec<_> = users.iter().map(|s| s.path.as_str()).filter(|path| !path.starts_with(wall)).collect();
        assert!(outside.is_empty(), "{library} outside of {wall}: {outside:?}");
    }
}

#[test]
fn the_session_knows_only_protocol_and_model() {
    for source in sources().iter().filter(|source| source.module() == "session") {
        for name in imports(&source.code) {
            assert!(["session", "protocol", "model"].contains(&name.as_str()), "{} imports {name}", source.path);
        }
        for outside in ["tokio", "std::net", "std::fs", "std::time"] {
            assert!(!source.code.contains(&format!("{outside}::")), "{} uses {outside}", source.path);
        }
    }
}

#[test]
fn the_model_imports_nothing_of_natter() {
    for source in sources().iter().filter(|source| source.module() == "model") {
        let others: Vec<_> = imports(&source.code).into_iter().filter(|name| name != "model").collect();
        assert!(others.is_empty(), "{} imports {others:?}", source.path);
    }
}

#[test]
fn every_module_has_a_rank() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: BTreeSet<_> =
        lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")).collect();
    let modules: BTreeSet<_> = modules.into_iter().filter_map(|name| name.strip_suffix(';')).collect();
    let ranked: BTreeSet<_> = RANKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(ranked.len(), RANKS.len(), "a module has two ranks");
    let without: Vec<_> = modules.difference(&ranked).collect();
    assert!(without.is_empty(), "without a rank: {without:?}");
    let gone: Vec<_> = ranked.difference(&modules).collect();
    assert!(gone.is_empty(), "ranked, but not in lib.rs: {gone:?}");
}

#[test]
fn arrows_go_down_only() {
    let rank = |module: &str| {
        let found = RANKS.iter().find(|(name, _)| *name == module);
        found.unwrap_or_else(|| panic!("{module} has no rank")).1
    };
    for source in sources().iter().filter(|source| source.path != "lib.rs" && source.path != "main.rs") {
        let module = source.module();
        for name in imports(&source.code).into_iter().filter(|name| name != module) {
            assert!(rank(module) > rank(&name), "{} imports {name}: an arrow that goes up", source.path);
        }
    }
}

#[test]
fn no_module_imports_itself_through_others() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs" && source.path != "main.rs") {
        let others = imports(&source.code).into_iter().filter(|name| name != source.module());
        graph.entry(source.module().to_owned()).or_default().extend(others);
    }
    for start in graph.keys() {
        let mut waiting: Vec<_> = graph[start].iter().cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(module) = waiting.pop() {
            assert_ne!(module, *start, "{start} imports itself through {seen:?}");
            if seen.insert(module.clone()) {
                waiting.extend(graph.get(&module).into_iter().flatten().cloned());
            }
        }
    }
}

#[test]
fn subjects_are_minted_in_one_place() {
    let verbs =
        ["user", "room", "presence", "log", "send", "queue", "signal", "do", "event", "feed", "hook", "node", "nodes"];
    let mints = |source: &Source| verbs.iter().any(|verb| source.code.contains(&format!("\"natter.{verb}")));
    let minting: Vec<_> = sources().into_iter().filter(mints).map(|source| source.path).collect();
    assert_eq!(minting, ["subject.rs"]);
}

/// R14: an unchecked body can only come from a stored row, or from under its seal.
#[test]
fn only_the_stores_row_decoders_take_bodies_unchecked() {
    let takes = |source: &Source| source.code.contains("from_stored") && source.path != "model/body.rs";
    let mut taking: Vec<_> = sources().into_iter().filter(takes).map(|source| source.path).collect();
    taking.sort();
    assert_eq!(taking, ["sealing/form.rs", "store/embedded/rows.rs", "store/scylla/pages.rs"]);
}
