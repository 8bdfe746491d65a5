//! What shares a commit, and what waits for the disk.

use futures_util::future::join_all;
use natter::store::{Marks as _, embedded::Written};

use super::open;
use crate::store::contract::{append, device, dm, entered, log, mark_at, message, register, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..10 {
        append(&*store, &dm("alice", "bob"), message("alice", &format!("alone{n}"))).await.unwrap();
    }
    let Written { messages, syncs, lookups, rows } = store.written();
    assert_eq!((messages, syncs), (10, 10), "each was answered after a sync of its own");
    assert_eq!(rows, 40, "a message, its cid and two heads");
    assert_eq!(lookups, 2 + 10, "the end of a log is looked up once, in two rows, and each cid");
    let convs: Vec<_> = (0..500).map(|n| dm("alice", &format!("peer{n}"))).collect();
    for answer in join_all(convs.iter().map(|conv| append(&*store, conv, message("alice", "together")))).await {
        answer.unwrap();
    }
    let Written { messages, syncs, .. } = store.written();
    assert_eq!(messages, 510);
    assert!(syncs - 10 < 100, "500 appends at once took {} syncs", syncs - 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_and_devices_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (conv, bob) = (dm("alice", "bob"), user("bob"));
    let phone = entered(&*store, "bob", "phone").await;
    assert_eq!(store.written().syncs, 1, "a device must be known for good before its first welcome");
    append(&*store, &conv, message("alice", "m")).await.unwrap();
    assert_eq!(store.written().syncs, 2);
    store.raise_cursor(&phone, &conv, 1).await.unwrap();
    store.raise_read_mark(&bob, &conv, mark_at(1)).await.unwrap();
    entered(&*store, "bob", "phone").await;
    append(&*store, &conv, message("alice", "m")).await.unwrap();
    let Written { messages, syncs, .. } = store.written();
    assert_eq!((messages, syncs), (1, 2), "marks, a known device and a retry need no sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_marks_and_messages_may_meet_in_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let users: Vec<_> = (0..200).map(|n| user(&format!("user{n}"))).collect();
    let conv_of = |n: usize| dm(&format!("user{n}"), "zed");
    // All at once: a device starts at its user's mark as it was before or after the others, never anywhere else.
    let work = users.iter().enumerate().map(|(n, user)| {
        let (store, mut phone) = (&store, device(user.as_str(), "phone"));
        async move {
            let (conv, sent) = (conv_of(n), message(user.as_str(), "m"));
            let all = tokio::join!(
                append(&**store, &conv, sent),
                store.raise_read_mark(user, &conv, mark_at(2)),
                register(&**store, &mut phone)
            );
            assert!(all.0.is_ok() && all.1.is_ok() && all.2 == Ok(true), "{all:?}");
        }
    });
    join_all(work).await;
    for (n, user) in users.iter().enumerate() {
        let (phone, mut laptop) = (entered(&*store, user.as_str(), "phone").await, device(user.as_str(), "laptop"));
        let cursor = store.cursor(&phone, &conv_of(n)).await.unwrap();
        assert!(cursor <= 2, "user {n} starts at {cursor}");
        assert_eq!(store.delivered(user, &conv_of(n)).await, Ok(cursor));
        assert_eq!(store.read_mark(user, &conv_of(n)).await, Ok(2));
        assert_eq!(register(&*store, &mut laptop).await, Ok(true));
        assert_eq!(store.cursor(&laptop, &conv_of(n)).await, Ok(2));
        assert_eq!(log(&*store, &conv_of(n)).await.len(), 1);
    }
}
