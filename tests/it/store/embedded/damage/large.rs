//! The same where there is so much that the engine has tables and more than one journal.

use std::{fs, path::Path};

use natter::{
    model::{Body, NewMessage, Seq},
    store::{
        Engine as _, Logs as _, StoreError,
        embedded::{EmbeddedOptions, EmbeddedStore, verify::verify},
    },
};
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::{ALL, CONVS, ROUNDS, accepting, check_rescued, conv_of, fill, journal, overwrite, refused, written};
use crate::store::{
    contract::{WHOLE, message},
    embedded::open,
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

async fn one_flipped_byte(dir: &Path) {
    let report = verify(dir, EmbeddedOptions::default(), |_| ()).unwrap();
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
    let report = verify(dir, EmbeddedOptions::default(), |_| ()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert!(report.accepted_holes > 0);
    left
}
