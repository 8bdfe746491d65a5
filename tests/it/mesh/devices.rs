//! More devices of a user than are kept: the one that logged in longest ago is forgotten, and hears of it.

use natter::{
    model::UserId,
    protocol::{CloseReason, Encoding},
    store::Store,
};

use super::{Peer, TestMesh};
use crate::harness::until;

/// Whether a login is told that its device is new.
async fn is_new(mesh: &TestMesh, device: &str) -> bool {
    let peer = Peer::join(&mesh.nodes[0].url(), "bob", device, Encoding::Json).await;
    peer.caught_up().await;
    peer.welcome.as_ref().unwrap().new
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_retired_is_told_that_it_is_new_and_starts_at_the_read_marks() {
    let mesh = TestMesh::tuned(1, |config| config.limits.devices_per_user = 2).await;
    let alice = mesh.json(0, "alice", "d").await;
    let phone = mesh.json(0, "bob", "phone").await;
    assert!(phone.welcome.as_ref().unwrap().new, "the first time");
    let (conv, _) = alice.send("@bob", "c1", "hi").await;
    alice.send("@bob", "c2", "hi").await;
    phone.message(conv.as_str(), 2).await;
    phone.round_trip().await;
    let since = super::resumed::told(&mesh.nodes[0].url(), "bob", "phone").await;
    drop(phone);
    assert!(!is_new(&mesh, "phone").await);
    assert!(is_new(&mesh, "laptop").await);
    assert!(!is_new(&mesh, "phone").await, "two are kept");
    assert!(is_new(&mesh, "tablet").await);
    assert!(!is_new(&mesh, "phone").await, "it came later than the laptop");
    for device in ["watch", "tablet", "watch"] {
        is_new(&mesh, device).await;
    }
    // Nothing was read, so it has everything before it, whatever it says that it had.
    let phone = Peer::resume(&mesh.nodes[0].url(), "bob", "phone", Encoding::Json, Some(&since)).await;
    assert!(phone.welcome.as_ref().unwrap().new);
    phone.message(conv.as_str(), 2).await;
    assert_eq!(phone.seqs(conv.as_str()), [1, 2]);
}

/// Or the one that is online for weeks would be the one that logged in longest ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_stays_online_is_noted_as_in_use() {
    let mesh = TestMesh::tuned(1, |config| {
        config.timing.reconcile_secs = 1;
        config.timing.full_reconcile_secs = 1;
    })
    .await;
    let _phone = mesh.json(0, "bob", "phone").await;
    let marks = Store::of(mesh.store.clone()).marks;
    let seen = async || marks.devices(&UserId::new("bob").unwrap()).await.unwrap()[0].seen;
    let first = seen().await;
    until("it is seen again", async || seen().await > first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_device_is_retired_is_closed_when_it_looks() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.devices_per_user = 2;
        config.timing.reconcile_secs = 1;
    })
    .await;
    let first = mesh.json(0, "bob", "phone").await;
    let _others = [mesh.json(0, "bob", "laptop").await, mesh.json(0, "bob", "tablet").await];
    let (code, words) = first.closed().await;
    assert_eq!((code, words.as_str()), (4006, CloseReason::Retired.text()));
}
