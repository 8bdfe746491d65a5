//! More logins than the store keeps up with: they wait in line for their `welcome`, and beyond the line they are told when
//! to come back.

use std::sync::Arc;

use natter::{
    protocol::CloseReason,
    store::{Marks, Store},
};

use super::raw::RawSocket;
use crate::{
    harness::until,
    mesh::{TestMesh, held_marks::HeldMarks, token},
};

const WAITING: &str = "natter_work_waiting{class=\"login\"";

/// A node that takes one login at a time, whose store answers none until it is released.
async fn crowded(waiting: u32, wait_ms: u64) -> (TestMesh, Arc<HeldMarks>) {
    let mut mesh = TestMesh::bare(|config| {
        config.limits.logins_at_once = 1;
        config.limits.logins_waiting = waiting;
        config.timing.login_wait_ms = wait_ms;
        config.timing.hello_timeout_ms = 60_000;
    })
    .await;
    let marks: Arc<dyn Marks> = mesh.store.clone();
    let held = HeldMarks::before(marks);
    let (nats, store) = (mesh.nats.client_url(), held.of(Store::of(mesh.store.clone())));
    mesh.add_node_on(nats, store).await;
    (mesh, held)
}

async fn says_hello(mesh: &TestMesh, user: &str) -> RawSocket {
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&format!(r#"{{"op":"hello","token":"{}","device":"d"}}"#, token(user))).await;
    raw
}

/// Closed with 4002, after a `goodbye` that says when to come back.
async fn is_sent_away(mut raw: RawSocket) {
    let (texts, code, _) = raw.closed().await;
    assert_eq!(code, CloseReason::Overloaded.code());
    let goodbye: serde_json::Value = serde_json::from_str(texts.last().expect("a goodbye")).unwrap();
    assert_eq!((&goodbye["op"], &goodbye["reason"]), (&"goodbye".into(), &"overloaded".into()));
    assert!(goodbye["reconnect_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "{goodbye}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_wait_in_line_and_beyond_it_are_told_when_to_come_back() {
    let (mesh, held) = crowded(2, 60_000).await;
    let node = &mesh.nodes[0];
    let mut first = says_hello(&mesh, "u0").await;
    until("the first is under way", async || node.metric("natter_work_granted_total{class=\"login\"").await == 1.0)
        .await;
    let mut line = Vec::new();
    for n in 1..=2 {
        line.push(says_hello(&mesh, &format!("u{n}")).await);
        until("it waits", async || node.metric(WAITING).await == f64::from(n)).await;
    }
    is_sent_away(says_hello(&mesh, "u3").await).await;
    assert_eq!(node.metric("natter_work_refused_total{class=\"login\"").await, 1.0);
    held.release();
    line.insert(0, first);
    for raw in &mut line {
        let (_, welcome) = raw.next().await.unwrap();
        assert!(String::from_utf8_lossy(&welcome).contains("\"welcome\""), "{}", String::from_utf8_lossy(&welcome));
    }
    // The first comparisons of the three stand in the same line.
    until("nobody waits", async || node.metric(WAITING).await == 0.0).await;
    first = says_hello(&mesh, "u3").await;
    let (_, welcome) = first.next().await.unwrap();
    assert!(String::from_utf8_lossy(&welcome).contains("\"welcome\""), "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_longer_than_the_limit_or_keeps_a_place_that_he_has_left() {
    let (mesh, held) = crowded(2, 300).await;
    let node = &mesh.nodes[0];
    let _first = says_hello(&mesh, "u0").await;
    until("the first is under way", async || node.metric("natter_work_granted_total{class=\"login\"").await == 1.0)
        .await;
    is_sent_away(says_hello(&mesh, "u1").await).await;
    assert_eq!(node.metric(WAITING).await, 0.0);
    // Gone while it waits: the store is never asked for it.
    drop(says_hello(&mesh, "u2").await);
    until("its place is free", async || node.metric("natter_work_refused_total{class=\"login\"").await == 2.0).await;
    held.release();
    until("the first is a session", async || node.sessions() == 1).await;
}

/// A node that drains sends those in line elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_the_line() {
    let (mut mesh, held) = crowded(2, 60_000).await;
    let _first = says_hello(&mesh, "u0").await;
    let mut waits = says_hello(&mesh, "u1").await;
    until("it waits", async || mesh.nodes[0].metric(WAITING).await == 1.0).await;
    let draining = tokio::spawn(mesh.nodes.remove(0).drain());
    assert_eq!(waits.closed().await.1, CloseReason::Drain.code());
    held.release();
    assert!(draining.await.unwrap());
}
