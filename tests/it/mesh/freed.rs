//! A node that ends frees everything: no cycle of references keeps its bus, its store or its sessions alive.

use std::sync::Arc;

use super::TestMesh;
use crate::harness::until;

#[tokio::test]
async fn a_node_that_ends_frees_everything() {
    let mut mesh = TestMesh::start(2).await;
    let others = Arc::strong_count(&mesh.store);
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    alice.send("@bob", "c", "hi").await;
    bob.message("dm:alice:bob", 1).await;
    let node = mesh.nodes.remove(0);
    let bus = node.weak_bus();
    assert!(bus.upgrade().is_some());
    assert!(node.drain().await);
    until("the node's bus is gone", async || bus.upgrade().is_none()).await;
    until("the node's share of the store is gone", async || Arc::strong_count(&mesh.store) < others).await;
}

/// The same when it does not end in an orderly way: it is cut off in the middle, and its connections end by themselves.
#[tokio::test]
async fn a_node_that_is_cut_off_frees_everything() {
    let mut mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    let node = mesh.nodes.remove(0);
    let bus = node.weak_bus();
    drop(node);
    drop((alice, mesh));
    until("the node's bus is gone", async || bus.upgrade().is_none()).await;
}
