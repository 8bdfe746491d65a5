//! Damage on the disk is noticed before anything is answered, nothing is deleted, and a loss that somebody accepts leaves
//! a store that works and gives no seq a second time.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use natter::{
    model::{Body, ConvId, NewMessage, Row, Seq},
    store::{
        Engine as _, Logs as _, Marks as _,
        embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
    },
};
use tempfile::TempDir;

use super::{child, open, report_of};
use crate::store::contract::{WHOLE, append, device, dm, entered, head, message, register, user};

mod large;

const CONVS: usize = 10;
const ROUNDS: usize = 40;

fn conv_of(n: usize) -> ConvId {
    dm("alice", &format!("peer{n}"))
}

/// A store with 400 answered messages, closed.
async fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1, |n, round| message("alice", &format!("m{n}-{round}"))).await;
    dir
}

async fn fill(dir: &Path, together: usize, message: impl Fn(usize, usize) -> NewMessage) {
    let store = open(dir);
    let phone = entered(&*store, "peer0", "phone").await;
    for round in (0..ROUNDS).step_by(together) {
        for n in 0..CONVS {
            let batch = (round..round + together).map(|round| message(n, round)).collect();
            let last = store.append(&conv_of(n), batch).await.pop().unwrap();
            assert_eq!(last.unwrap().seq as usize, round + together);
        }
        store.raise_cursor(&phone, &conv_of(0), round as Seq + 1).await.unwrap();
    }
    store.close().await.unwrap();
}

/// What stands in each file of a folder, but not in those that any start writes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if name != "LOCK" && name != "lock" {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn accepting() -> EmbeddedOptions {
    EmbeddedOptions { accept_loss: true, ..EmbeddedOptions::default() }
}

/// The refusal, which must leave all as it was.
fn refused(dir: &Path) -> String {
    let before = contents(dir);
    let error = EmbeddedStore::open(dir, EmbeddedOptions::default()).expect_err("damage must be noticed");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(contents(dir) == before, "a refusal must change nothing");
    let report = report_of(dir);
    assert!(!report.rows_checked && report.problems_found > 0, "{report:?}");
    let text = error.to_string();
    assert!(text.contains("--accept-loss") && text.contains("natter restore"), "{text}");
    text
}

/// Accepts the loss. What is left must fit together, and a seq that was given out is given out no more. Returns how many
/// messages are left.
async fn accepted(dir: &Path) -> usize {
    let damaged = contents(&dir.join("data"));
    let store = EmbeddedStore::open(dir, accepting()).unwrap();
    let kept = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> =
        kept.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("damaged-")).collect();
    assert_eq!(kept.len(), 1, "the damaged files are kept");
    let kept: BTreeMap<_, _> =
        contents(&kept[0].join("data")).into_iter().map(|(path, bytes)| (last(&path), bytes)).collect();
    assert!(damaged.into_iter().all(|(path, bytes)| kept.get(&last(&path)) == Some(&bytes)), "as they were");
    let left = check_rescued(&store).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(dir);
    assert_eq!(check_rescued(&store).await, left + 2 * CONVS, "the new store is sound, also after a restart");
    store.close().await.unwrap();
    drop(store);
    let report = report_of(dir);
    assert_eq!((report.problems.as_slice(), report.messages), (&[] as &[String], (left + 4 * CONVS) as u64));
    left
}

/// The place of a file below the engine's folder.
fn last(path: &Path) -> String {
    path.to_str().unwrap().rsplit_once("/data/").unwrap().1.to_owned()
}

/// Reads every log, over its holes, and appends to it.
async fn check_rescued(store: &EmbeddedStore) -> usize {
    let mut left = 0;
    store.health().await.unwrap();
    for n in 0..CONVS {
        let conv = conv_of(n);
        let rows = all_rows(store, &conv).await;
        left += rows.len();
        let top = rows.last().map_or(0, |row| row.seq);
        assert_eq!(store.top(&conv).await, Ok(top));
        for name in ["alice".to_owned(), format!("peer{n}")] {
            assert_eq!(head(store, &user(&name), &conv).await, top, "heads fit the log");
        }
        for row in rows.iter().step_by(7) {
            let again = NewMessage::of_user(row.sender.clone(), row.cid.clone(), 1, row.body.clone());
            let again = append(store, &conv, again).await.unwrap();
            assert_eq!((again.seq, again.fresh), (row.seq, false), "what is left is known by its cid");
        }
        // A lost message that is sent again, and a new one: above all that was ever given out.
        let old = NewMessage { body: Body::text("anew"), ..message("alice", &format!("new{n}-{top}")) };
        for message in [old, message("alice", &format!("newer{n}-{top}"))] {
            let seq = append(store, &conv, message).await.unwrap().seq;
            assert!(seq > ROUNDS as Seq && seq > top, "{seq} was given out before");
        }
    }
    let is_new = register(store, &mut device("peer0", "phone")).await.unwrap();
    assert_eq!(is_new, left == 0, "devices are known");
    left
}

/// Every row of a log, over its holes, as the sessions and `history` read it.
async fn all_rows(store: &EmbeddedStore, conv: &ConvId) -> Vec<Row> {
    let (mut rows, mut before) = (Vec::new(), Seq::MAX);
    loop {
        let mut page = store.read_before(conv, before, WHOLE).await.unwrap();
        let Some(first) = page.first() else { return rows };
        before = first.seq;
        page.append(&mut rows);
        rows = page;
    }
}

fn journal(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("data/{id}.jnl"))
}

/// Where the written part of the journal ends.
fn written(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    // The longest zeros first: they are compared fast.
    let mut end = bytes.len();
    for chunk in bytes.rchunks(1 << 16).take_while(|chunk| **chunk == vec![0; chunk.len()]) {
        end -= chunk.len();
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).unwrap() + 1
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at as u64).unwrap();
}

const ALL: usize = CONVS * ROUNDS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_closed_is_opened_again() {
    let dir = filled().await;
    let store = open(dir.path());
    let rows = all_rows(&store, &conv_of(3)).await;
    assert_eq!(rows.len(), ROUNDS);
    assert_eq!(append(&*store, &conv_of(3), message("alice", "next")).await.unwrap().seq, ROUNDS as Seq + 1);
    store.close().await.unwrap();
    drop(store);
    let report = report_of(dir.path());
    assert_eq!((report.problems.as_slice(), report.messages), (&[] as &[String], ALL as u64 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zeroed_page_in_the_middle_of_the_journal() {
    let dir = filled().await;
    let journal = journal(dir.path(), 0);
    let middle = written(&journal) / 2 / 4096 * 4096;
    overwrite(&journal, middle, &[0; 4096]);
    let text = refused(dir.path());
    assert!(text.contains("commits are missing") && text.contains("data/0.jnl"), "{text}");
    let left = accepted(dir.path()).await;
    assert!(left < ALL && left > ALL - 40, "{left}: what is behind the page is not lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_tag_in_the_journal() {
    let dir = filled().await;
    let journal = journal(dir.path(), 0);
    let bytes = fs::read(&journal).unwrap();
    // The start of the batch behind a trailer.
    let middle = written(&journal) / 3;
    let at = middle + bytes[middle..].windows(4).position(|window| window == b"FJL\x03").unwrap() + 4;
    assert_eq!(bytes[at], 1);
    overwrite(&journal, at, &[9]);
    let text = refused(dir.path());
    assert!(text.contains("1 commits are missing") && text.contains("data/0.jnl"), "{text}");
    assert!(accepted(dir.path()).await >= ALL - 1, "one commit is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_emptied() {
    let dir = filled().await;
    fs::OpenOptions::new().write(true).truncate(true).open(journal(dir.path(), 0)).unwrap();
    assert!(refused(dir.path()).contains("commits are missing"));
    assert_eq!(accepted(dir.path()).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_removed() {
    let dir = filled().await;
    fs::remove_file(journal(dir.path(), 0)).unwrap();
    // Its second name is still there.
    let store = open(dir.path());
    assert_eq!(all_rows(&store, &conv_of(3)).await.len(), ROUNDS);
    store.close().await.unwrap();
    drop(store);
    fs::remove_file(journal(dir.path(), 0)).unwrap();
    fs::remove_dir_all(dir.path().join("journals")).unwrap();
    assert!(refused_but_for_journals(dir.path()).contains("commits are missing"));
}

/// As [`refused`], where the folder of journals is gone, which any start makes.
fn refused_but_for_journals(dir: &Path) -> String {
    fs::create_dir(dir.join("journals")).unwrap();
    refused(dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_journal_was_cut() {
    let dir = filled().await;
    let journal = journal(dir.path(), 0);
    let end = written(&journal);
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(end as u64 * 3 / 4).unwrap();
    let text = refused(dir.path());
    assert!(text.contains("commits are missing"), "{text}");
    let left = accepted(dir.path()).await;
    assert!(left > ALL / 2 && left < ALL, "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_engine_that_are_gone() {
    for file in ["keyspaces/1/current", "keyspaces/0/current", "keyspaces/6/current", "version"] {
        let dir = filled().await;
        fs::remove_file(dir.path().join("data").join(file)).unwrap();
        let text = refused(dir.path());
        assert!(text.contains(&format!("data/{file} is missing")), "{text}");
        assert_eq!(accepted(dir.path()).await, ALL, "{file}: nothing is lost");
    }
    let dir = filled().await;
    fs::remove_dir_all(dir.path().join("data/keyspaces/1")).unwrap();
    assert!(refused(dir.path()).contains("keyspaces/1"));
    let dir = filled().await;
    fs::rename(dir.path().join("data"), dir.path().join("journals/elsewhere")).unwrap();
    assert!(refused(dir.path()).contains("the folder data is missing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_format_that_is_gone() {
    let dir = filled().await;
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let before = contents(dir.path());
    let error = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).expect_err("a store without a format");
    assert!(matches!(error, OpenError::NoFormat { .. }), "{error}");
    assert!(contents(dir.path()) == before, "a refusal must change nothing");
    let store = EmbeddedStore::open(dir.path(), accepting()).unwrap();
    assert_eq!(all_rows(&store, &conv_of(3)).await.len(), ROUNDS, "all of it is there");
    let next = append(&*store, &conv_of(3), message("alice", "next")).await.unwrap().seq;
    assert_eq!(next, ROUNDS as Seq + 1, "nothing was lost, so nothing is skipped");
    store.close().await.unwrap();
    drop(store);
    open(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watermark_that_is_gone() {
    let dir = filled().await;
    fs::remove_file(dir.path().join("WATERMARK")).unwrap();
    assert!(refused(dir.path()).contains("WATERMARK"));
    assert_eq!(accepted(dir.path()).await, ALL);
}

/// After kill −9 the watermark is as far as the last answer, so that damage is told from a write that was cut short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_left_is_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::start("damage::appends_and_waits", dir.path());
    child.line_after("done").await;
    child.kill9();
    let journal = journal(dir.path(), 0);
    let end = written(&journal);
    // A write that was cut short, as a power failure leaves it: nobody was answered.
    let bytes = fs::read(&journal).unwrap();
    let begin = bytes[..end - 4].windows(4).rposition(|window| window == b"FJL\x03").unwrap() + 4;
    for torn in [bytes[begin..end - 9].to_vec(), vec![0x5a; 100]] {
        overwrite(&journal, end, &torn);
        let store = open(dir.path());
        assert_eq!(all_rows(&store, &dm("alice", "bob")).await.len(), 200, "nothing that was answered is lost");
        drop(store);
    }
    let end = written(&journal);
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(end as u64 - 1).unwrap();
    assert!(refused(dir.path()).contains("1 commits are missing"));
}

#[test]
#[ignore = "a child process of what_a_killed_process_left_is_checked_too"]
fn appends_and_waits() {
    let Some(dir) = child::dir() else { return };
    let store = open(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for n in 0..200 {
            append(&*store, &dm("alice", "bob"), message("alice", &format!("m{n}"))).await.unwrap();
        }
    });
    println!("\ndone");
    loop {
        std::thread::park();
    }
}
