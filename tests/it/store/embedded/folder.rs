//! What the store does with its data folder: one owner, one format, nobody else's files.

use std::fs;

use natter::store::{
    Engine as _,
    embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
};

use super::{child, open};
use crate::store::contract::{append, dm, log, message};

fn refusal(dir: &std::path::Path) -> OpenError {
    EmbeddedStore::open(dir, EmbeddedOptions::default()).expect_err("must be refused")
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_holds_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::start("folder::holds_the_folder", dir.path());
    child.line_after("open").await;
    let error = refusal(dir.path());
    assert!(matches!(&error, OpenError::InUse { holder, .. } if *holder == child.pid().to_string()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", child.pid())), "{error}");
    child.kill9();
    open(dir.path());
}

#[test]
#[ignore = "a child process of a_second_process_is_refused_and_told_who_holds_the_folder"]
fn holds_the_folder() {
    let Some(dir) = child::dir() else { return };
    let _store = open(&dir);
    println!("\nopen");
    // Until it is killed: nothing unparks this thread.
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_second_store_of_this_process_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert!(matches!(refusal(dir.path()), OpenError::InUse { .. }));
    first.close().await.unwrap();
    // Closing is enough: a node may still hold the closed store.
    let second = open(dir.path());
    append(&*second, &dm("alice", "bob"), message("alice", "m")).await.unwrap();
    drop(second);
    open(dir.path());
}

#[tokio::test]
async fn another_format_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    append(&*open(dir.path()), &dm("alice", "bob"), message("alice", "m")).await.unwrap();
    let format = dir.path().join("FORMAT");
    let ours = fs::read_to_string(&format).unwrap();
    for (text, named) in
        [(ours.replace('7', "1"), "1"), ("something else".into(), "something else"), ("".into(), "unknown")]
    {
        fs::write(&format, &text).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, OpenError::Version { found, expected: 7, .. } if found == named), "{error}");
    }
    fs::write(&format, ours).unwrap();
    assert_eq!(log(&*open(dir.path()), &dm("alice", "bob")).await.len(), 1, "a refusal must not touch the data");
}

#[tokio::test]
async fn a_folder_with_other_files_is_left_alone() {
    for foreign in ["notes.txt", "data"] {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join(foreign);
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("precious"), "1").unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, OpenError::Foreign { example, .. } if example == foreign), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing may be written there");
        assert!(inside.join("precious").exists());
    }
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // As a kill leaves it between the first file and the last: no format, and half of the engine's files.
    fs::rename(dir.path().join("FORMAT"), dir.path().join("CREATING")).unwrap();
    fs::remove_file(dir.path().join("data/version")).unwrap();
    append(&*open(dir.path()), &dm("alice", "bob"), message("alice", "m")).await.unwrap();
    assert_eq!(log(&*open(dir.path()), &dm("alice", "bob")).await.len(), 1);
}

#[tokio::test]
async fn nobody_else_may_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    drop(open(dir.path()));
    // As somebody made it beforehand, or an earlier version left it.
    let open_to_all = |path: &str, mode| {
        fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to_all("", 0o755);
    open_to_all("data", 0o755);
    open_to_all("FORMAT", 0o644);
    open_to_all("data/version", 0o644);
    let _store = open(dir.path());
    assert_eq!((mode(""), mode("data")), (0o700, 0o700));
    assert_eq!((mode("FORMAT"), mode("data/version"), mode("LOCK")), (0o600, 0o600, 0o600));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refusal(&file.join("below"));
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("below"), "{error}");
}
