//! What a node shows at `/metrics` about its own part in a message's way, and about its connection to NATS.

use crate::{harness::until, mesh::TestMesh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_shows_what_it_did_itself() {
    let mesh = TestMesh::start(2).await;
    let [one, two] = &mesh.nodes[..] else { panic!("two nodes") };
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    alice.caught_up().await;
    bob.caught_up().await;
    let own = one.metric("natter_subscriptions ").await;
    assert_eq!((own, two.metric("natter_subscriptions ").await), (own, own), "the same for one user each");
    alice.send("@bob", "c1", "hello").await;
    bob.message("dm:alice:bob", 1).await;
    assert_eq!(one.metric("natter_appended_total ").await, 1.0);
    assert_eq!(two.metric("natter_appended_total ").await, 0.0, "the store is shared, what a node did with it is not");
    assert!(one.metric("natter_nats_published_total ").await >= 1.0);
    assert!(two.metric("natter_nats_received_total ").await >= 1.0);
    assert!(one.metric("natter_nats_fences_total ").await >= 1.0, "a login is fenced");
    alice.send("@nobody", "c2", "hello").await;
    until("node 1 heard of no responders", async || one.metric("natter_nats_no_responders_total ").await >= 1.0).await;
    until("everything is written", async || one.metric("natter_nats_queued_bytes ").await == 0.0).await;
    alice.cut();
    until("the subscription of alice is gone", async || one.metric("natter_subscriptions ").await < own).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_to_nats_is_shown_as_it_is() {
    let mut mesh = TestMesh::start(1).await;
    let node = &mesh.nodes[0];
    assert_eq!(node.metric("natter_nats_connected ").await, 1.0);
    assert_eq!(node.metric("natter_nats_reconnects_total ").await, 0.0, "the first connect is no reconnect");
    mesh.nats.kill9();
    until("the loss shows", async || node.metric("natter_nats_connected ").await == 0.0).await;
    let alice = mesh.json(0, "alice", "d").await;
    alice.send("@bob", "c1", "hello").await;
    until("the dropped notices show", async || node.metric("natter_nats_dropped_total ").await >= 1.0).await;
    mesh.nats.restart().await.unwrap();
    until("it is back", async || node.metric("natter_nats_connected ").await == 1.0).await;
    assert_eq!(node.metric("natter_nats_reconnects_total ").await, 1.0);
}
