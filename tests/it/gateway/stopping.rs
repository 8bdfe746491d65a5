//! A node that was told to stop, before it drains.

use std::time::{Duration, Instant};

use natter::protocol::Encoding;

use crate::{
    harness::{http, until},
    mesh::{Peer, TestMesh},
};

/// Long enough for a login on a busy machine.
const NOTICE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_to_stop_is_not_ready_at_once_and_serves_until_balancers_have_noticed() {
    let mut mesh = TestMesh::tuned(1, |config| config.timing.drain_min_secs = NOTICE.as_secs()).await;
    let alice = mesh.json(0, "alice", "d").await;
    let node = mesh.nodes.remove(0);
    let (addr, url) = (node.addr, node.url());
    let told = Instant::now();
    let draining = tokio::spawn(node.drain());
    until("it is not ready", async || http::get(addr, "/readyz").await.is_some_and(|answer| answer.status == 503))
        .await;
    // A balancer that has not asked yet sends this one here.
    let bob = Peer::join(&url, "bob", "d", Encoding::Json).await;
    alice.send("@bob", "c1", "still served").await;
    bob.message("dm:alice:bob", 1).await;
    assert_eq!(alice.closed_now(), None);
    for peer in [&alice, &bob] {
        assert_eq!(peer.closed().await.0, 4000);
    }
    assert!(told.elapsed() >= NOTICE, "drained after {:?}", told.elapsed());
    assert!(draining.await.unwrap(), "everything ended within the drain time");
}
