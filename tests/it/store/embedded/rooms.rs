//! Rooms on this engine: what a message costs, what is in one commit, and what `natter verify`, backups and a rescue know
//! of them.

use std::{fs, path::Path};

use natter::{
    model::{ConvId, Seq},
    store::{
        Engine as _, Marks as _, Store,
        embedded::{EmbeddedOptions, EmbeddedStore, OpenError, backup::restore},
    },
};

use super::{open, report_of};
use crate::store::contract::{append, dm, entered, message, rooms::*, user};

pub fn verified(dir: &Path) -> Vec<String> {
    let report = report_of(dir);
    assert!(report.rows_checked);
    report.problems
}

async fn close(open: std::sync::Arc<EmbeddedStore>, store: Store) {
    drop(store);
    open.close().await.unwrap();
}

/// A room with a life of its own; closed when this returns.
async fn lived_in(dir: &Path) {
    let open = open(dir);
    let store = Store::of(open.clone());
    let lobby = lobby(&store, &["bob", "carol"]).await;
    for n in 0..20 {
        say(&store, &lobby, ["alice", "bob", "carol"][n % 3], &format!("m{n}")).await.unwrap();
    }
    change(&store, &lobby, "alice", &kicked("bob")).await.unwrap();
    change(&store, &lobby, "alice", &invited("dave")).await.unwrap();
    change(&store, &lobby, "alice", &made("carol", Role::Moderator)).await.unwrap();
    checked(&store, &lobby).await;
    close(open, store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_a_room_costs_what_a_direct_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let open = open(dir.path());
    let store = Store::of(open.clone());
    let names: Vec<_> = (0..50).map(|n| format!("user{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let lobby = lobby(&store, &names).await;
    say(&store, &lobby, "user7", "warm").await.unwrap();
    append(&*store.logs, &dm("user7", "user8"), message("user7", "warm")).await.unwrap();
    let before = open.written();
    for n in 0..10 {
        say(&store, &lobby, "user7", &format!("m{n}")).await.unwrap();
    }
    let after = open.written();
    assert_eq!((after.messages - before.messages, after.syncs - before.syncs), (10, 10));
    assert_eq!(after.lookups - before.lookups, 10, "the cid of each, whatever the room's size");
    assert_eq!(after.rows - before.rows, 30, "a message, its cid and its sender's mark");
    for n in 0..10 {
        append(&*store.logs, &dm("user7", "user8"), message("user7", &format!("m{n}"))).await.unwrap();
    }
    assert_eq!(open.written().rows - after.rows, 40);
    let before = open.written().rows;
    change(&store, &lobby, "user7", &Change::Left).await.unwrap();
    assert_eq!(open.written().rows - before, 3 + 3, "the event, and the room, the member and the user's room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_rooms_and_retired_devices_verifies() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path()).await;
    let store = open(dir.path());
    let phone = entered(&*store, "bob", "phone").await;
    store.raise_cursor(&phone, &ConvId::room(&room("lobby")), 3).await.unwrap();
    assert_eq!(store.retire(&user("bob"), &phone.device).await, Ok(true));
    store.close().await.unwrap();
    drop(store);
    assert_eq!(verified(dir.path()), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_takes_no_more_members_than_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { rooms: RoomLimits { members: 2 }, ..EmbeddedOptions::default() };
    let store = Store::of(EmbeddedStore::open(dir.path(), options).unwrap());
    let lobby = lobby(&store, &["bob"]).await;
    assert_eq!(change(&store, &lobby, "carol", &Change::Joined).await, denied(Denied::Full));
    change(&store, &lobby, "bob", &Change::Left).await.unwrap();
    change(&store, &lobby, "carol", &Change::Joined).await.unwrap();
    checked(&store, &lobby).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_rooms_and_members() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    lived_in(&first).await;
    let store = open(&first);
    let file = dir.path().join("backup");
    store.back_up(fs::File::create(&file).unwrap()).unwrap();
    restore(&file, &second, EmbeddedOptions::default()).unwrap();
    let copy = Store::of(open(&second));
    let rows = checked(&copy, &room("lobby")).await;
    assert_eq!(rows, checked(&Store::of(store), &room("lobby")).await);
    assert_eq!(say(&copy, &room("lobby"), "bob", "after").await, denied(Denied::NotMember));
}

/// Makes the commit of the message with this cid unreadable.
fn lose(dir: &Path, cid: &str) {
    let journal = dir.join("data/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(cid.len()).position(|window| window == cid.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&journal, bytes).unwrap();
}

/// Opens what is left of a damaged store.
fn rescued(dir: &Path) -> std::sync::Arc<EmbeddedStore> {
    let refused = EmbeddedStore::open(dir, EmbeddedOptions::default());
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "damage must be noticed");
    let accepting = EmbeddedOptions { accept_loss: true, ..EmbeddedOptions::default() };
    EmbeddedStore::open(dir, accepting).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_members_rows_know_outlives_the_events_that_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let open = open(dir.path());
    let store = Store::of(open.clone());
    let lobby = lobby(&store, &["carol"]).await;
    let conv = ConvId::room(&lobby);
    append(&*store.logs, &conv, event("bob", "lost-join", &Change::Joined)).await.unwrap();
    change(&store, &lobby, "alice", &made("bob", Role::Moderator)).await.unwrap();
    change(&store, &lobby, "alice", &kicked("carol")).await.unwrap();
    say(&store, &lobby, "bob", "kept").await.unwrap();
    let hall = room("hall");
    append(&*store.logs, &ConvId::room(&hall), event("alice", "lost-hall", &created(true))).await.unwrap();
    say(&store, &hall, "alice", "left alone").await.unwrap();
    let before = members(&store, &lobby, 9).await;
    close(open, store).await;
    lose(dir.path(), "lost-join");
    lose(dir.path(), "lost-hall");
    let open = rescued(dir.path());
    let store = Store::of(open.clone());
    assert_eq!(members(&store, &lobby, 9).await, before, "the log alone knows nothing of bob");
    let kept = row(&store, &lobby).await.unwrap();
    assert_eq!((kept.room.members, kept.room.owners, kept.head), (2, 1, 6));
    assert_eq!(store.rooms.rooms_of(&user("bob"), None, 9).await.unwrap().len(), 1);
    let floor: Seq = 6;
    assert!(say(&store, &lobby, "bob", "after").await.unwrap() > floor);
    assert_eq!(say(&store, &lobby, "carol", "after").await, denied(Denied::NotMember));
    assert!(change(&store, &lobby, "alice", &kicked("bob")).await.unwrap() > floor);
    // Nothing is left that knows of this one, and it may be made again.
    assert_eq!(row(&store, &hall).await, None);
    assert_eq!(say(&store, &hall, "alice", "nowhere").await, denied(Denied::NoSuchRoom));
    assert!(change(&store, &hall, "alice", &created(true)).await.unwrap() > floor);
    close(open, store).await;
    assert_eq!(verified(dir.path()), [""; 0]);
}

/// Makes all rows of a table unreadable.
fn lose_table(dir: &Path, table: usize) {
    let files = fs::read_dir(dir.join(format!("data/keyspaces/{table}/tables"))).unwrap();
    for file in files {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
}

fn rescued_tables(dir: &Path) -> std::sync::Arc<EmbeddedStore> {
    let accepting = EmbeddedOptions { accept_loss: true, ..EmbeddedOptions::default() };
    EmbeddedStore::open(dir, accepting).unwrap()
}

/// Their numbers are the engine's: see `tables.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_lost_are_made_again_of_the_log_and_of_each_other() {
    for tables in [[7, 8].as_slice(), &[8, 9], &[7, 8, 9], &[9], &[1, 7]] {
        let dir = tempfile::tempdir().unwrap();
        lived_in(dir.path()).await;
        // This writes out what is in the journal.
        assert_eq!(verified(dir.path()), [""; 0]);
        let before = Store::of(open(dir.path()));
        let was = (members(&before, &room("lobby"), 9).await, row(&before, &room("lobby")).await.unwrap());
        before.engine.close().await.unwrap();
        drop(before);
        tables.iter().for_each(|table| lose_table(dir.path(), *table));
        let open = rescued_tables(dir.path());
        let store = Store::of(open.clone());
        assert_eq!(members(&store, &room("lobby"), 9).await, was.0, "{tables:?}");
        let of_carol = store.rooms.rooms_of(&user("carol"), None, 9).await.unwrap();
        assert_eq!(of_carol.len(), 1, "{tables:?}");
        let kept = row(&store, &room("lobby")).await.unwrap();
        assert_eq!((kept.room.members, kept.room.owners), (was.1.room.members, was.1.room.owners));
        match tables {
            // Of the room itself nothing is left: it is its members' alone.
            [1, ..] => assert!(!kept.room.public && kept.head == 0),
            _ => assert_eq!(kept.room, was.1.room),
        }
        assert!(say(&store, &room("lobby"), "carol", "after").await.unwrap() > 0);
        close(open, store).await;
        assert_eq!(verified(dir.path()), [""; 0], "{tables:?}");
    }
}
