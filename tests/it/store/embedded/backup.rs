//! A backup is of one moment, whatever is written meanwhile; a damaged one makes no store.

use std::{
    fs::{self, File},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use natter::{
    model::Seq,
    store::{
        Engine as _, Inbox as _, Logs as _, Marks as _,
        embedded::{
            EmbeddedOptions,
            backup::{BackupError, check, restore},
        },
    },
};

use super::open;
use crate::{
    harness::until,
    store::contract::{append, device, dm, log, message, user},
};

fn restored(backup: &std::path::Path, dir: &std::path::Path) -> Result<u64, BackupError> {
    restore(backup, dir, EmbeddedOptions::default()).map(|contents| contents.messages)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_of_one_moment_while_everybody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stop) = (open(&dir.path().join("store")), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let (conv, phone) = (dm("alice", &format!("peer{n}")), device(&format!("peer{n}"), "phone"));
                let mut top: Seq = 0;
                while !stop.load(Ordering::Acquire) {
                    top = append(&*store, &conv, message("alice", &format!("m{top}"))).await.unwrap().seq;
                    store.raise_cursor(&phone, &conv, top).await.unwrap();
                }
                top
            })
        })
        .collect();
    let written = async |messages: u64| until("enough is written", async || store.written().messages >= messages).await;
    written(200).await;
    let before = store.written().messages;
    let backup = dir.path().join("backup");
    let made = {
        let (store, backup) = (store.clone(), backup.clone());
        tokio::task::spawn_blocking(move || store.back_up(File::create(backup).unwrap()).unwrap()).await.unwrap()
    };
    written(made.messages + 1).await;
    stop.store(true, Ordering::Release);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(made.messages >= before, "what was answered before it began is in it");
    assert_eq!(check(&backup).unwrap(), made);
    let copy = dir.path().join("copy");
    assert_eq!(restored(&backup, &copy).unwrap(), made.messages);
    let copy = open(&copy);
    let mut found = 0;
    for n in 0..4 {
        let (name, conv) = (format!("peer{n}"), dm("alice", &format!("peer{n}")));
        let rows = log(&*copy, &conv).await.len() as u64;
        assert_eq!(copy.top(&conv).await.unwrap(), rows, "the log is dense to its end");
        let inbox = copy.conversations(&user(&name), None, 10).await.unwrap();
        assert_eq!(inbox.items[0].head, rows, "the head is that of the same moment");
        assert!(copy.cursor(&device(&name, "phone"), &conv).await.unwrap() <= rows, "no cursor is above the log");
        let again = append(&*copy, &conv, message("alice", "m0")).await.unwrap();
        assert_eq!((again.seq, again.fresh), (1, false), "cids are known");
        found += rows;
    }
    assert_eq!(found, made.messages);
}

#[tokio::test]
async fn a_damaged_backup_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, conv) = (open(&dir.path().join("store")), dm("alice", "bob"));
    append(&*store, &conv, message("alice", "m")).await.unwrap();
    let whole = dir.path().join("whole");
    store.back_up(File::create(&whole).unwrap()).unwrap();
    let bytes = fs::read(&whole).unwrap();
    let (bad, new) = (dir.path().join("bad"), dir.path().join("new"));
    for len in 0..bytes.len() {
        fs::write(&bad, &bytes[..len]).unwrap();
        assert!(matches!(restored(&bad, &new), Err(BackupError::Damaged(_))), "cut at {len}");
        let mut flipped = bytes.clone();
        flipped[len] ^= 0x10;
        fs::write(&bad, &flipped).unwrap();
        assert!(restored(&bad, &new).is_err(), "changed at {len}");
    }
    assert!(!new.exists(), "a damaged backup must not leave anything behind");
    assert_eq!(restored(&whole, &new).unwrap(), 1);
    assert!(matches!(restored(&whole, &new), Err(BackupError::Exists(_))), "no store may be overwritten");
    assert_eq!(log(&*open(&new), &conv).await.len(), 1);
}

#[tokio::test]
async fn a_backup_of_a_closed_store_says_why_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    store.close().await.unwrap();
    let file = dir.path().join("backup");
    assert!(matches!(store.back_up(File::create(&file).unwrap()), Err(BackupError::Store(_))));
    let told = check(&file).unwrap_err();
    assert!(matches!(&told, BackupError::GivenUp(words) if words.contains("closed")), "{told}");
}
