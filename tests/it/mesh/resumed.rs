//! Logins that read what changed: one row where nothing did.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use natter::{
    model::{Body, Cid, ConvId, Device, DeviceId, NewMessage, UserId},
    protocol::Encoding,
    store::Store,
};

use crate::{
    harness::wait::until_within,
    mesh::{Peer, TestMesh},
};
const CONVS: usize = 5_000;
const BEHIND: usize = 3;
const ROWS: &str = "natter_reconcile_rows_total";

/// A device of a user.
pub fn device(user: &str, device: &str) -> Device {
    Device::new(UserId::new(user).unwrap(), DeviceId::new(device).unwrap())
}

/// A device that is known and has everything but the messages of `behind` conversations, of `convs` with one message each:
/// from `peer0`, `peer1` …
pub async fn fill(store: &Store, device: &Device, convs: usize, behind: usize) {
    let device = &Device { life: store.marks.enter(device, 32).await.unwrap().life, ..device.clone() };
    let one = |i: usize| async move {
        let sender = UserId::new(&format!("peer{i}")).unwrap();
        let conv = ConvId::direct(&sender, &device.user);
        let (cid, body) = (Cid::new("c").unwrap(), Body::text("hi"));
        let message = NewMessage::of_user(sender, cid, 1, body);
        let appended = store.logs.append(&conv, vec![message]).await;
        assert_eq!(appended[0].as_ref().unwrap().seq, 1);
        if i >= behind {
            store.marks.raise_cursor(device, &conv, 1).await.unwrap();
        }
    };
    stream::iter((0..convs).map(one)).buffer_unordered(64).collect::<()>().await;
}

/// Logs in until the device is told that it has everything, which is when all its cursors are stored.
pub async fn told(url: &str, user: &str, device: &str) -> String {
    let mut told = None;
    // The store may have thousands of cursors to write before.
    until_within(Duration::from_secs(90), "a login that has everything is told so", async || {
        let peer = Peer::join(url, user, device, Encoding::Json).await;
        told = peer.since().await;
        told.is_some()
    })
    .await;
    told.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_resumes_reads_one_row() {
    let mesh = TestMesh::start(1).await;
    fill(&Store::of(mesh.store.clone()), &device("bob", "d"), CONVS, BEHIND).await;
    let url = mesh.nodes[0].url();
    let rows = async || mesh.nodes[0].metric(ROWS).await;

    let bob = mesh.json(0, "bob", "d").await;
    assert_eq!(bob.since().await, None, "what it was handed is not acknowledged yet");
    assert_eq!(bob.messages().len(), BEHIND);
    assert_eq!(rows().await, (1 + 2 * CONVS - BEHIND) as f64, "stamps, heads and cursors");
    drop(bob);
    let since = told(&url, "bob", "d").await;

    let before = rows().await;
    let bob = Peer::resume(&url, "bob", "d", Encoding::MsgPack, Some(&since)).await;
    assert_eq!(bob.since().await.as_deref(), Some(since.as_str()));
    assert_eq!(rows().await - before, 1.0, "nothing has changed");
    assert_eq!(mesh.nodes[0].metric("natter_reconciles_skipped_total{cause=\"login\"}").await, 1.0);

    // R5: the session knows no position, and a live message comes once all the same, in its place.
    let peer = mesh.json(0, "peer7", "d").await;
    let (conv, seq) = peer.send("@bob", "live", "hi").await;
    bob.message(conv.as_str(), seq).await;
    bob.round_trip().await;
    assert_eq!(bob.seqs(conv.as_str()), [2]);
    drop(bob);

    // Something came: the heads are compared, and what the device has not is found.
    peer.send("@bob", "missed", "hi").await;
    let before = rows().await;
    let bob = Peer::resume(&url, "bob", "d", Encoding::Json, Some(&since)).await;
    bob.message(conv.as_str(), 3).await;
    assert!(rows().await - before > CONVS as f64);
    drop(bob);

    // Of no use to anybody else: not to another device, which has less, and not to another user.
    let since = told(&url, "bob", "d").await;
    fill(&Store::of(mesh.store.clone()), &device("carol", "d"), 1, 1).await;
    Store::of(mesh.store.clone()).marks.enter(&device("bob", "tablet"), 32).await.unwrap();
    let tablet = Peer::resume(&url, "bob", "tablet", Encoding::Json, Some(&since)).await;
    tablet.message("dm:bob:peer0", 1).await;
    let carol = Peer::resume(&url, "carol", "d", Encoding::Json, Some(&since)).await;
    carol.message("dm:carol:peer0", 1).await;
}
