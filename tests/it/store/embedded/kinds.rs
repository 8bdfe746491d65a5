//! Kinds of messages on this engine: what is kept beside the logs is in the commit of the row, in backups, checked by `natter
//! verify`, and made again by a rescue.

use std::{fs, io::Write as _, path::Path, time::Duration};

use natter::{
    model::{ConvId, Kind, NewMessage, Reacting, Refs, Row, Seq, Target},
    store::{
        Engine as _, Store,
        embedded::{EmbeddedOptions, EmbeddedStore, backup::restore},
    },
};
use rand::RngExt as _;

use super::{child, open, rooms::verified};
use crate::store::contract::{kinds, kinds::*, rooms::*, *};

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const MENTIONED: [&str; 4] = ["alice", "bob", "carol", "eve"];

fn hall() -> RoomId {
    room("hall")
}

/// A row that somebody might write behind these.
fn asked(dice: &mut impl rand::Rng, rows: &[Row]) -> NewMessage {
    let (sender, cid) = (PEOPLE[dice.random_range(0..3)], format!("{:x}", dice.random::<u64>()));
    let target = rows.get(dice.random_range(0..rows.len().max(1))).and_then(|row| Target::of(row, None, NOW));
    match (dice.random_range(0..8), target) {
        (0, Some(target)) => about(Kind::Edit, target_author(rows, &target), &cid, &target),
        (1, Some(target)) => about(Kind::Delete, target_author(rows, &target), &cid, &target),
        (2..6, Some(target)) => reaction(sender, &cid, &target, ["+1", "-1"][dice.random_range(0..2)], dice.random()),
        (6, Some(target)) => {
            let refs = Refs { reply_to: Some(target.seq()), ..Refs::default() }.boxed();
            NewMessage { refs, ..message(sender, &cid) }
        }
        _ => {
            let mentions = MENTIONED.iter().filter(|_| dice.random()).map(|name| user(name)).collect();
            let expires = dice.random_bool(0.3).then_some(NOW);
            NewMessage { refs: Refs { mentions, expires, ..Refs::default() }.boxed(), ..message(sender, &cid) }
        }
    }
}

fn target_author<'a>(rows: &'a [Row], target: &Target) -> &'a str {
    rows[target.seq() as usize - 1].sender.as_str()
}

/// A room and a direct conversation full of all kinds.
async fn lived_in(store: &Store, rounds: usize) {
    if row(store, &hall()).await.is_none() {
        change(store, &hall(), "alice", &created(true)).await.unwrap();
        for name in ["bob", "carol"] {
            change(store, &hall(), name, &Change::Joined).await.unwrap();
        }
    }
    for conv in [ConvId::room(&hall()), dm("alice", "bob")] {
        for _ in 0..rounds {
            let rows = log(&*store.logs, &conv).await;
            let batch = (0..8).map(|_| asked(&mut rand::rng(), &rows)).collect();
            for answer in store.logs.append(&conv, batch).await {
                assert!(matches!(answer, Ok(_) | Err(StoreError::Denied(_))), "{answer:?}");
            }
        }
    }
}

/// All of it, as it is read.
async fn seen(store: &Store) -> Vec<(Vec<Row>, BTreeMap<Seq, natter::model::Folded>, Vec<natter::store::Behind>)> {
    let mut all = Vec::new();
    for conv in [ConvId::room(&hall()), dm("alice", "bob")] {
        let rows = log(&*store.logs, &conv).await;
        let made = folds(store, &conv).await;
        assert_eq!(made, by_hand(&rows), "{conv}");
        let mut behind = Vec::new();
        for name in MENTIONED {
            behind.push(store.folds.behind(&user(name), &conv, 0, NOW).await.unwrap());
        }
        all.push((rows, made, behind));
    }
    all
}

async fn close(open: std::sync::Arc<EmbeddedStore>, store: Store) {
    drop(store);
    open.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_verified_and_in_backups() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let opened = open(&first);
    let store = Store::of(opened.clone());
    lived_in(&store, 12).await;
    let was = seen(&store).await;
    let file = dir.path().join("backup");
    opened.back_up(fs::File::create(&file).unwrap()).unwrap();
    close(opened, store).await;
    assert_eq!(verified(&first), [""; 0]);
    restore(&file, &second, EmbeddedOptions::default()).unwrap();
    let copy = open(&second);
    assert_eq!(seen(&Store::of(copy.clone())).await, was);
    copy.close().await.unwrap();
}

/// The engine numbers the tables in the order in which they were made.
const TABLES_BESIDE: [usize; 3] = [12, 13, 14];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_beside_is_made_again_of_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let store = Store::of(opened.clone());
    lived_in(&store, 12).await;
    let was = seen(&store).await;
    close(opened, store).await;
    // This writes out what is in the journal.
    assert_eq!(verified(dir.path()), [""; 0]);
    for table in TABLES_BESIDE {
        for file in fs::read_dir(dir.path().join(format!("data/keyspaces/{table}/tables"))).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 0x10;
            fs::write(&path, bytes).unwrap();
        }
    }
    assert!(!verified(dir.path()).is_empty(), "damage is reported");
    let accepting = EmbeddedOptions { accept_loss: true, ..EmbeddedOptions::default() };
    let opened = EmbeddedStore::open(dir.path(), accepting).unwrap();
    let store = Store::of(opened.clone());
    assert_eq!(seen(&store).await, was);
    close(opened, store).await;
    assert_eq!(verified(dir.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_row_costs_beside_itself() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let (store, conv) = (Store::of(opened.clone()), dm("alice", "bob"));
    put(&store, &conv, message("alice", "warm")).await.unwrap();
    let target = kinds::target(&store, &conv, 1).await;
    let cost = async |message: NewMessage| {
        let before = opened.written();
        put(&store, &conv, message).await.unwrap();
        let after = opened.written();
        (after.rows - before.rows, after.lookups - before.lookups, after.syncs - before.syncs)
    };
    assert_eq!(cost(message("alice", "plain")).await, (4, 1, 1), "itself, its cid, two heads");
    assert_eq!(cost(reaction("alice", "r", &target, "+1", true)).await, (5, 1, 1), "and what it makes");
    assert_eq!(cost(about(Kind::Edit, "alice", "e", &target)).await, (5, 1, 1));
    let refs = Refs { reply_to: Some(1), mentions: vec![user("bob"), user("eve")], expires: Some(NOW), re: None };
    let all = NewMessage { refs: refs.boxed(), ..message("alice", "all") };
    assert_eq!(cost(all).await, (6, 2, 1), "one who is there is mentioned, it expires, and the other one is looked up");
}

/// A store of the format before has no kinds, and is one of this format once it was opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_format_before_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    put(&Store::of(opened.clone()), &dm("alice", "bob"), message("alice", "m")).await.unwrap();
    opened.close().await.unwrap();
    drop(opened);
    let format = dir.path().join("FORMAT");
    let ours = fs::read_to_string(&format).unwrap();
    fs::write(&format, ours.replace('6', "4")).unwrap();
    let opened = open(dir.path());
    assert_eq!(
        fs::read_to_string(&format).unwrap(),
        ours,
        "the one before could not read what is written from here on"
    );
    let store = Store::of(opened.clone());
    assert_eq!(log(&*store.logs, &dm("alice", "bob")).await.len(), 1);
    lived_in(&store, 2).await;
    seen(&store).await;
    close(opened, store).await;
    assert_eq!(verified(dir.path()), [""; 0]);
}

const ROUNDS: usize = 4;

/// There is no moment between a row and what it makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_whole_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for _ in 0..ROUNDS {
        let mut child = child::start("kinds::lives_until_it_is_killed", dir.path());
        child.line_after("answered").await;
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..400_000))).await;
        child.kill9();
        while let Some(line) = child.line().await {
            answered += usize::from(line.starts_with("answered"));
        }
        check(dir.path()).await;
    }
    assert!(answered > ROUNDS, "only {answered} rounds: nothing was tested");
}

async fn check(dir: &Path) {
    let opened = open(dir);
    let store = Store::of(opened.clone());
    let all = seen(&store).await;
    for (rows, _, _) in all {
        for row in rows.iter().filter(|row| row.kind == Kind::Reaction) {
            assert!(Reacting::of_row(row.kind, &row.body).is_some());
        }
    }
    close(opened, store).await;
    assert_eq!(verified(dir), [""; 0]);
}

#[test]
#[ignore = "a child process of kinds_are_whole_after_kill_9"]
fn lives_until_it_is_killed() {
    let Some(dir) = child::dir() else { return };
    let opened = open(&dir);
    // The test harness has begun a line already.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::of(opened);
        loop {
            lived_in(&store, 1).await;
            std::io::stdout().write_all(b"answered\n").unwrap();
        }
    });
}
