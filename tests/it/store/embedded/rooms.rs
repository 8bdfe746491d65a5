//! Rooms on this engine: what a message costs, what is in one commit, and what `natter verify`, backups and a rescue know
//! of them.

use natter::{
    model::ConvId,
    store::{
        Engine as _, Marks as _, Store,
        embedded::{EmbeddedOptions, EmbeddedStore, verify::verify},
    },
};

use super::open;
use crate::store::contract::{entered, rooms::*, user};

fn verified(dir: &std::path::Path) -> Vec<String> {
    let report = verify(dir, EmbeddedOptions::default(), |_| ()).unwrap();
    assert!(report.rows_checked);
    report.problems
}

/// A room with a life of its own: closed when this returns.
async fn lived_in(dir: &std::path::Path) {
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
    drop(store);
    open.close().await.unwrap();
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
    let before = open.written();
    for n in 0..10 {
        say(&store, &lobby, "user7", &format!("m{n}")).await.unwrap();
    }
    let after = open.written();
    assert_eq!((after.messages - before.messages, after.syncs - before.syncs), (10, 10));
    assert_eq!(after.lookups - before.lookups, 10, "the cid of each, whatever the room's size");
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
