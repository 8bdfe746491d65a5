//! The same where there is so much that the engine has tables and more than one journal.

use std::{fs, path::Path, time::Duration};

use natter::{
    model::{Body, NewMessage, Seq},
    store::{Engine as _, Logs as _, StoreError, embedded::EmbeddedStore},
};
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::{ALL, CONVS, ROUNDS, accepting, check_rescued, conv_of, fill, journal, overwrite, refused, written};
use crate::store::{
    contract::{WHOLE, append, dm, message},
    embedded::{child, open, report_of},
};

/// 200 KB that the engine cannot compress much, the same for the same numbers.
fn large(n: usize, round: usize) -> NewMessage {
    let mut noise = StdRng::seed_from_u64((n * 1_000 + round) as u64);
    let mut bytes = vec![0; 200_000];
    noise.fill_bytes(&mut bytes);
    let text: String = bytes.into_iter().map(|byte| char::from(b'0' + byte % 64)).collect();
    NewMessage { body: Body::text(&text), ..message("alice", &format!("m{n}-{round}")) }
}

/// A store with so much in it that there are tables and more than one journal, closed.
async fn large_store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 4, large).await;
    assert!(journal(dir.path(), 1).exists(), "there is one journal only");
    dir
}

/// Tables, and a journal that is not the last one. One test for all, because so much takes a while to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_tables_and_older_journals() {
    let dir = large_store().await;
    let dir = dir.path();
    an_older_journal_that_was_cut(dir);
    let tables = dir.join("data/keyspaces/1/tables");
    let table = fs::read_dir(&tables).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    a_table_that_was_removed_or_cut(dir, &table);
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    overwrite(&table, middle, &bytes[middle..=middle]);
    one_flipped_byte(dir).await;
}

fn an_older_journal_that_was_cut(dir: &Path) {
    let journal = journal(dir, 0);
    let (bytes, end) = (fs::read(&journal).unwrap(), written(&journal));
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(end as u64 - 2_000_000).unwrap();
    assert!(refused(dir).contains("commits are missing"));
    overwrite(&journal, 0, &bytes);
}

/// A file of tables that is gone or cut is named by the list that the last close left.
fn a_table_that_was_removed_or_cut(dir: &Path, table: &Path) {
    let bytes = fs::read(table).unwrap();
    fs::remove_file(table).unwrap();
    assert!(refused(dir).contains("is missing"));
    fs::write(table, &bytes[..bytes.len() - 100]).unwrap();
    assert!(refused(dir).contains("bytes instead of"));
    fs::write(table, &bytes).unwrap();
}

/// The engine lets journals go all the time: after a kill at any moment nobody may take one of those for lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_that_were_let_go_are_not_missed_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::start("damage::large::writes_until_it_is_killed", dir.path());
    child.line_after("let go").await;
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..400_000))).await;
    child.kill9();
    for _ in 0..2 {
        let store = open(dir.path());
        let conv = dm("alice", "peer0");
        let top = store.top(&conv).await.unwrap();
        assert_eq!(append(&*store, &conv, message("alice", &format!("after{top}"))).await.unwrap().seq, top + 1);
        store.close().await.unwrap();
    }
    let report = report_of(dir.path());
    assert_eq!(report.problems, [""; 0]);
}

#[test]
#[ignore = "a child process of journals_that_were_let_go_are_not_missed_after_a_kill"]
fn writes_until_it_is_killed() {
    let Some(dir) = child::dir() else { return };
    let store = open(&dir);
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (body, first) = (large(0, 0).body, journal(&dir, 0));
        let mut told = false;
        for round in 0.. {
            let message = |n| NewMessage { body: body.clone(), ..message("alice", &format!("r{round}n{n}")) };
            for answer in store.append(&conv_of(round % CONVS), (0..8).map(message).collect()).await {
                answer.unwrap();
            }
            if !told && !first.exists() {
                println!("let go");
                told = true;
            }
        }
    });
}

async fn one_flipped_byte(dir: &Path) {
    let report = report_of(dir);
    assert!(
        report.rows_checked && report.problems.iter().any(|words| words.contains("keyspaces/1/tables")),
        "{report:?}"
    );
    // Nobody reads all of a large store at the start: the first reader notices.
    let store = open(dir);
    store.health().await.unwrap();
    let mut damaged = 0;
    for n in 0..CONVS {
        let mut after = 0;
        while after < ROUNDS as Seq {
            match store.read_after(&conv_of(n), after, WHOLE).await {
                Ok(rows) => after = rows.last().unwrap().seq,
                Err(StoreError::Damaged(_)) => {
                    damaged += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(damaged, 1, "one log has a row that cannot be read");
    let error = store.health().await.expect_err("a damaged store is not ready");
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    store.close().await.unwrap();
    drop(store);
    let left = accepted_in_tables(dir).await;
    assert!(left < ALL && left > ALL - 40, "{left}");
}

/// As [`accepted`]; the start before it moved rows from journals to tables.
async fn accepted_in_tables(dir: &Path) -> usize {
    let store = EmbeddedStore::open(dir, accepting()).unwrap();
    let left = check_rescued(&store).await;
    store.close().await.unwrap();
    drop(store);
    let report = report_of(dir);
    assert_eq!(report.problems, [""; 0]);
    assert!(report.accepted_holes > 0);
    left
}
