//! Several nodes share the parts of the queue, and take them over from each other.

use futures_util::{StreamExt as _, stream};
use natter::bus::queue::PARTS;

use super::{Billing, Inside, cids, queued};
use crate::{harness::until, mesh::TestMesh};

async fn parts(mesh: &TestMesh, node: usize) -> u16 {
    mesh.nodes[node].metric("natter_queue_parts").await as u16
}

/// `count` messages to each of `users`, from place `from` on, with many publishes under way at once and those of one user
/// one after the other.
async fn publish(billing: &Billing, users: usize, from: usize, count: usize) {
    let each = (0..users).map(|user| async move {
        for n in from..from + count {
            billing.say(&format!("u{user}"), &format!("c{n}")).await;
        }
    });
    stream::iter(each).buffer_unordered(users).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_the_parts_and_take_over_from_one_that_is_gone_and_one_that_leaves() {
    const USERS: usize = 40;
    let mut mesh = TestMesh::tuned(1, queued).await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    until("one node has all parts", async || parts(&mesh, 0).await == PARTS).await;
    mesh.add_node(mesh.nats.client_url()).await;
    let are_shared = async || parts(&mesh, 0).await.abs_diff(parts(&mesh, 1).await) == 1;
    until("two have half of them each", async || {
        are_shared().await && parts(&mesh, 0).await + parts(&mesh, 1).await == PARTS
    })
    .await;
    publish(&billing, USERS, 0, 3).await;
    inside.is_empty().await;
    for node in &mesh.nodes {
        let stored = node.metric("natter_queue_messages_total{outcome=\"stored\"").await;
        assert!(stored > 0.0, "a node took no part");
    }
    // Cut off as by a crash, with messages on their way: it tells nobody.
    let (gone, ()) = (mesh.nodes.remove(1), publish(&billing, USERS, 3, 1).await);
    drop(gone);
    publish(&billing, USERS, 4, 2).await;
    until("the other has all parts", async || parts(&mesh, 0).await == PARTS).await;
    inside.is_empty().await;
    // One that leaves in order gives its parts back.
    mesh.add_node(mesh.nats.client_url()).await;
    until("a third shares them", async || parts(&mesh, 1).await >= PARTS / 2).await;
    let leaving = mesh.nodes.remove(0);
    assert!(leaving.drain().await);
    publish(&billing, USERS, 6, 2).await;
    inside.is_empty().await;
    let all: Vec<_> = (0..8).map(|n| format!("c{n}")).collect();
    for user in 0..USERS {
        assert_eq!(cids(&*mesh.store, &format!("dm:billing:u{user}")).await, all, "u{user}");
    }
    assert_eq!(inside.dead().await, []);
}
