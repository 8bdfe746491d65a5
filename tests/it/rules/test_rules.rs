//! What the tests themselves must keep, so that `tests/run` can leave out what a machine lacks, and so that no second
//! helper grows beside the one there is.

use std::{fs, path::Path};

/// Texts and the folders or files, below `tests/it`, that may hold them; in halves, or this file would hold them too.
const WALLS: [([&str; 2], &[&str]); 5] = [
    // `tests/run --quick` leaves out the tests that have these words in their path.
    (["Cassandra", "::"], &["harness/cassandra/", "scylla"]),
    (["Browser", "::"], &["browser/"]),
    (["CARGO_BIN", "_EXE"], &["harness/natter.rs"]),
    (["PR_SET", "_PDEATHSIG"], &["harness/process.rs"]),
    (["TcpStream::", "connect(target"], &["harness/proxy.rs"]),
];

fn walk(folder: &Path, see: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, see);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_need_and_each_helper_stays_in_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut inside = [0; WALLS.len()];
    walk(&root, &mut |path, text| {
        let place = path.strip_prefix(&root).unwrap().to_str().unwrap();
        for ((words, places), inside) in WALLS.iter().zip(&mut inside) {
            if text.contains(&words.concat()) {
                assert!(
                    places.iter().any(|wall| place.contains(wall)),
                    "{place}: {} belongs to {places:?}",
                    words.concat()
                );
                *inside += 1;
            }
        }
    });
    assert!(!inside.contains(&0), "a rule finds nothing any more: {inside:?} of {WALLS:?}");
}
