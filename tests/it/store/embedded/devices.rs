//! New devices of a user with very many conversations, beside everybody else's appends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use natter::store::{Marks as _, embedded::EmbeddedStore};

use super::open;
use crate::{
    harness::until,
    store::contract::{MOST, append, device, dm, mark_at, message, register, user},
};

const CONVERSATIONS: usize = 20_000;
const APPENDS: usize = 200;
/// So often at least.
const ROUNDS: usize = 5;
/// What an append may wait of the time that a registration takes. Where the writer copies all cursors at once, an append
/// waits for a whole registration, or for several. Both times grow with the load of the machine.
const PART: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_devices_of_a_user_with_20_000_conversations_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    read_marks(&store).await;
    let alone = p99_of_appends(&store, "alone", APPENDS).await;
    let (stop, registered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (store, stop, registered) = (store.clone(), stop.clone(), registered.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    // On a slow machine an attempt may run out of time; the next one goes on where it ended.
                    while store.enter(&device("alice", &format!("phone{client}-{n}")), 1_000).await.is_err() {
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                    }
                    registered.fetch_add(1, Ordering::AcqRel);
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                }
            })
        })
        .collect();
    // For as long as it takes to register some. The median of the rounds: devices are registered all the time, so what waits for
    // them waits in each round, and a disk that others keep busy for a moment does not count.
    let mut rounds = Vec::new();
    while rounds.len() < ROUNDS || registered.load(Ordering::Acquire) < 2 {
        rounds.push(p99_of_appends(&store, &format!("beside{}", rounds.len()), APPENDS).await);
    }
    rounds.sort();
    let beside = rounds[rounds.len() / 2];
    let registration = begin.elapsed() * 4 / u32::try_from(registered.load(Ordering::Acquire)).unwrap();
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let figures = format!("p99 of appends: {alone:?} alone, {beside:?} beside new devices ({registration:?} each)");
    println!("{figures}");
    assert!(beside < registration / PART, "{figures}");
    let mut phone = device("alice", "phone0-0");
    assert_eq!(register(&*store, &mut phone).await, Ok(false));
    for n in [0, 1, CONVERSATIONS / 2, CONVERSATIONS - 1] {
        let conv = dm("alice", &format!("peer{n}"));
        assert_eq!(store.cursor(&phone, &conv).await, Ok(n as u64 % 7 + 1), "it starts at the read mark");
        assert_eq!(store.delivered(&user("alice"), &conv).await, Ok(n as u64 % 7 + 1));
    }
}

/// A read mark in each conversation, many at once.
async fn read_marks(store: &Arc<EmbeddedStore>) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..500 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in (task..CONVERSATIONS).step_by(500) {
                let conv = dm("alice", &format!("peer{n}"));
                store.raise_read_mark(&user("alice"), &conv, mark_at(n as u64 % 7 + 1)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn p99_of_appends(store: &Arc<EmbeddedStore>, name: &str, count: usize) -> Duration {
    let mut took = Vec::new();
    for n in 0..count {
        let begin = Instant::now();
        append(&**store, &dm("bob", "carol"), message("bob", &format!("{name}-{n}"))).await.unwrap();
        took.push(begin.elapsed());
    }
    took.sort();
    took[count * 99 / 100]
}

/// A registration that ended in the middle is gone on with, and the device is new until all of it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_was_given_up_leaves_a_device_that_is_still_new() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..400 {
        store.raise_read_mark(&user("alice"), &dm("alice", &format!("peer{n}")), mark_at(3)).await.unwrap();
    }
    let mut phone = device("alice", "phone");
    let before = store.written().lookups;
    let registering = tokio::spawn({
        let (store, phone) = (store.clone(), phone.clone());
        async move { store.enter(&phone, MOST).await }
    });
    until("a part of the cursors is stored", async || store.written().lookups > before).await;
    registering.abort();
    let finished = matches!(registering.await, Ok(Ok(_)));
    // Its last step may have been under way.
    let is_new = register(&*store, &mut phone).await.unwrap();
    assert!(!(finished && is_new));
    for n in 0..400 {
        assert_eq!(store.cursor(&phone, &dm("alice", &format!("peer{n}"))).await, Ok(3));
    }
}
