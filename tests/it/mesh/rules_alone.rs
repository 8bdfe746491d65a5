//! Rules that no scenario shows on their own: each test here fails when its one rule is broken and all others hold. The
//! periodic reconcile is off, and the recheck far away where it is not the subject.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::ConnectOptions;
use natter::{
    config::{Config, NatsLink},
    model::UserId,
    protocol::{Encoding, ErrorCode},
    subject::Subject,
};
use parking_lot::Mutex;

use crate::{
    harness::{
        nats_proxy::{Fate, NatsProxy},
        proxy::{Fault, Proxy},
        until,
    },
    mesh::{Peer, TestMesh},
};

const CONV: &str = "dm:alice:bob";

/// How long a fill waits over its first five empty pages: 20 ms, and twice as long each time.
const FIVE_WAITS: Duration = Duration::from_millis(20 + 40 + 80 + 160 + 320);

/// Tells bob's node, as a node does, that the log goes on to `seq`.
async fn tell_head(mesh: &TestMesh, seq: u64) {
    let node = ConnectOptions::with_user_and_password("node".into(), mesh.nats.passwords().node.clone())
        .custom_inbox_prefix("_INBOX_node")
        .connect(mesh.nats.client_url())
        .await
        .unwrap();
    let subject = Subject::user(&UserId::new("bob").unwrap()).to_string();
    let head = format!(r#"{{"op":"head","conv":"{CONV}","seq":{seq}}}"#);
    node.publish(subject, head.into()).await.unwrap();
    node.flush().await.unwrap();
}

/// One node, and bob, who has three messages from alice.
async fn three_messages() -> (TestMesh, Peer, Peer) {
    let mesh = TestMesh::start(1).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    bob.caught_up().await;
    for i in 1..=3 {
        alice.send("@bob", &format!("c{i}"), "x").await;
    }
    bob.message(CONV, 3).await;
    (mesh, alice, bob)
}

async fn fills(mesh: &TestMesh) -> f64 {
    mesh.nodes[0].metric("natter_fills_total").await
}

/// R1: a notice, even a false one from a node, is not a row. It does not move any top: neither the one that acks are
/// checked against nor the one that the next seq follows.
#[tokio::test]
async fn a_notice_moves_no_top() {
    let (mesh, alice, bob) = three_messages().await;
    let before = fills(&mesh).await;
    tell_head(&mesh, 1_000).await;
    until("the session has looked for it", async || fills(&mesh).await > before).await;
    bob.ack(CONV, 500);
    let words = bob.error(ErrorCode::BadAck).await;
    assert!(words.ends_with("which is 3"), "{words}");
    assert_eq!(alice.send("@bob", "c4", "x").await.1, 4);
    bob.message(CONV, 4).await;
    assert_eq!(bob.seqs(CONV), [1, 2, 3, 4]);
}

/// R5: an empty page below what was heard means "later", and later each time.
#[tokio::test]
async fn empty_pages_are_asked_for_less_and_less() {
    let (mesh, _alice, _bob) = three_messages().await;
    let (begin, before) = (Instant::now(), fills(&mesh).await);
    tell_head(&mesh, 1_000).await;
    until("six pages were read", async || fills(&mesh).await >= before + 6.0).await;
    assert!(begin.elapsed() >= FIVE_WAITS, "six pages within {:?}", begin.elapsed());
}

/// R3: the node that stored the message told nobody; the retry elsewhere tells everyone.
#[tokio::test]
async fn a_retry_is_published_again() {
    let mut mesh = TestMesh::bare(|_| ()).await;
    let link = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(link.nats_url()).await;
    for _ in 0..2 {
        mesh.add_node(mesh.nats.client_url()).await;
    }
    let (alice, elsewhere) = (mesh.json(0, "alice", "d").await, mesh.json(1, "alice", "e").await);
    let bob = mesh.json(2, "bob", "d").await;
    bob.caught_up().await;
    link.apply(Fault::Cut);
    until("the node noticed", async || !mesh.nodes[0].is_on_nats()).await;
    let first = alice.send("@bob", "c1", "x").await;
    bob.round_trip().await;
    assert!(bob.messages().is_empty(), "there was no way to bob");
    assert_eq!(elsewhere.send("@bob", "c1", "x").await, first);
    for peer in [&bob, &elsewhere] {
        peer.message(CONV, 1).await;
    }
}

/// R10: a session counts as its user from its first step, so that the end of another one does not unsubscribe the user
/// in the meantime; and it is not welcomed before its fence came back or was given up.
#[tokio::test]
async fn a_session_counts_before_its_fence_and_waits_for_it() {
    let mut mesh = TestMesh::bare(|_| ()).await;
    let link = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(link.nats_url()).await;
    mesh.add_node(mesh.nats.client_url()).await;
    let alice = mesh.json(1, "alice", "d").await;
    let first = mesh.json(0, "bob", "first").await;
    first.caught_up().await;
    let here = &mesh.nodes[0];
    link.apply_both(Fault::Hold);
    let (begin, url) = (Instant::now(), here.url());
    let second = tokio::spawn(async move { Peer::join(&url, "bob", "second", Encoding::Json).await });
    until("the second session counts", async || here.sessions() == 2).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "it counts only after {:?}", begin.elapsed());
    first.vanish();
    until("the first session is gone", async || here.sessions() == 1).await;
    let second = second.await.unwrap();
    // The fence is not answered here, and that is found out after two seconds.
    assert!(begin.elapsed() > Duration::from_millis(1_900), "welcome after {:?}", begin.elapsed());
    link.heal();
    alice.send("@bob", "c1", "x").await;
    second.message(CONV, 1).await;
}

/// R12: heads are compared once more some time after a fence, both that of a login and that of a reconnect. What NATS
/// lost right after either is found by nothing else here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_a_second_look_after_a_login_and_after_a_reconnect() {
    let mut mesh = TestMesh::bare(|config| {
        config.timing.recheck_ms = 3_000;
        config.timing.reconcile_spread_secs = 0;
    })
    .await;
    mesh.add_node(mesh.nats.client_url()).await;
    let proxy = NatsProxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    proxy.set(|notice| if notice.seq().is_some() { Fate::Lose } else { Fate::Pass });
    let alice = mesh.json(0, "alice", "d").await;
    let bob = mesh.json(1, "bob", "d").await;
    bob.caught_up().await;
    alice.send("@bob", "c1", "x").await;
    until("the notice is lost", async || proxy.touched() == 1).await;
    assert!(bob.messages().is_empty());
    bob.message(CONV, 1).await;

    mesh.nats.restart().await.unwrap();
    let compared = async || mesh.nodes[1].metric("natter_reconciles_total{cause=\"reconnect\"}").await >= 1.0;
    until("heads were compared after the reconnect", compared).await;
    until("both nodes are back", async || mesh.nodes.iter().all(crate::mesh::TestNode::is_on_nats)).await;
    let lost = proxy.touched();
    alice.send("@bob", "c2", "x").await;
    until("the notice is lost", async || proxy.touched() > lost).await;
    assert_eq!(bob.seqs(CONV), [1]);
    bob.message(CONV, 2).await;
}

/// R12: the NATS library dropped incoming notices, whoever they were for: all sessions compare their heads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heads_are_compared_after_notices_were_dropped() {
    // natter's own link drops none.
    let library = |config: &mut Config| {
        config.nats.link = NatsLink::AsyncNats;
        config.timing.reconcile_spread_secs = 0;
    };
    let mut mesh = TestMesh::bare(library).await;
    mesh.add_node(mesh.nats.client_url()).await;
    let proxy = NatsProxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    bob.caught_up().await;
    proxy.set(|notice| if notice.seq().is_some() { Fate::Lose } else { Fate::Pass });
    alice.send("@bob", "c1", "x").await;
    until("the notice is lost", async || proxy.touched() == 1).await;
    // Another subscription of bob's node stops reading, and more arrives than the library holds for it.
    let (gate, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let bus = |node: usize| mesh.nodes[node].weak_bus().upgrade().unwrap();
    let (from, to, flood) = (bus(0), bus(1), Subject::node("nobody", "flood"));
    let stuck = Arc::new(move |_| {
        let _gone = wait.lock().recv();
    });
    let _subscription = to.subscribe(&flood, stuck);
    to.fence().await.unwrap();
    assert!(bob.messages().is_empty());
    for _ in 0..6_000 {
        from.publish(&flood, "x".into());
    }
    bob.message(CONV, 1).await;
    drop(gate);
}

/// R12: after a reconnect, nobody who is using the mesh waits for those who are not: active sessions compare at once,
/// however long the comparisons are spread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_sessions_do_not_wait_for_the_spread_after_a_reconnect() {
    const SESSIONS: usize = 6;
    let mut mesh = TestMesh::tuned(1, |config| config.timing.reconcile_spread_secs = 600).await;
    let mut peers = Vec::new();
    for i in 0..SESSIONS {
        let peer = mesh.json(0, &format!("u{i}"), "d").await;
        peer.round_trip().await;
        peers.push(peer);
    }
    mesh.nats.restart().await.unwrap();
    let compared = async || mesh.nodes[0].metric("natter_reconciles_total{cause=\"reconnect\"}").await;
    until("all sessions have compared", async || compared().await >= SESSIONS as f64).await;
}
