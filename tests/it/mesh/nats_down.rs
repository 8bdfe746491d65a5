//! NATS is a hint (I7): it is killed, stopped, cut off for one node, gone for a long time, and nothing is lost; `sent`
//! never waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use natter::{config::NatsLink, subject::Subject};

use crate::{
    harness::{
        http,
        links::on_both_links,
        proxy::{Direction, Fault, Proxy},
        until,
    },
    mesh::{
        Peer, TestMesh, TestNode,
        ledger::{Ledger, in_order},
    },
};

const CONV: &str = "dm:alice:bob";

/// Sends one after the other until told to stop; returns how many, and the slowest answer.
async fn steady(peer: Arc<Peer>, from: &str, to: &str, ledger: Ledger, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Acquire) {
        let begin = Instant::now();
        ledger.send(&peer, from, to, &format!("{from}{count}")).await;
        slowest = slowest.max(begin.elapsed());
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (count, slowest)
}

async fn readiness(mesh: &TestMesh, node: usize) -> (u16, bool) {
    let answer = http::get(mesh.nodes[node].addr, "/readyz").await.unwrap();
    (answer.status, answer.body.contains("degraded"))
}

async fn nats_dies_for_five_seconds_under_traffic(link: NatsLink) {
    let mut mesh = TestMesh::tuned(2, |config| config.nats.link = link).await;
    let alice = Arc::new(mesh.json(0, "alice", "d").await);
    let bob = Arc::new(mesh.msgpack(1, "bob", "d").await);
    let (ledger, stop) = (Ledger::default(), Arc::new(AtomicBool::new(false)));
    let traffic = |peer: &Arc<Peer>, from: &'static str, to: &'static str| {
        let (peer, ledger, stop) = (peer.clone(), ledger.clone(), stop.clone());
        tokio::spawn(async move { steady(peer, from, to, ledger, stop).await })
    };
    let lanes = [traffic(&alice, "alice", "@bob"), traffic(&bob, "bob", "@alice")];
    alice.message(CONV, 20).await;
    mesh.nats.kill9();
    until("both nodes noticed", async || mesh.nodes.iter().all(|node| !node.is_on_nats())).await;
    // The length of the outage itself is what this test is about.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((readiness(&mesh, 0).await, readiness(&mesh, 1).await), ((200, true), (200, true)));
    mesh.nats.restart().await.unwrap();
    until("both nodes are back", async || mesh.nodes.iter().all(TestNode::is_on_nats)).await;
    stop.store(true, Ordering::Release);
    for lane in lanes {
        let (count, slowest) = lane.await.unwrap();
        assert!(count > 100, "only {count} sends were answered");
        assert!(slowest < Duration::from_secs(1), "a send took {slowest:?}");
    }
    // On the same connections as before.
    ledger.reaches("bob", &[&bob]).await;
    ledger.reaches("alice", &[&alice]).await;
    assert_eq!((alice.closed_now(), bob.closed_now()), (None, None));
    assert_eq!(readiness(&mesh, 1).await, (200, false));
    // And live again, without any further reconcile.
    let seq = ledger.send(&alice, "alice", "@bob", "live").await;
    bob.message(CONV, seq).await;
}

async fn a_stopped_nats_delays_no_send_and_loses_nothing(link: NatsLink) {
    let mesh = TestMesh::tuned(2, |config| config.nats.link = link).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    let near = mesh.json(0, "bob", "near").await;
    let ledger = Ledger::default();
    ledger.send(&alice, "alice", "@bob", "before").await;
    bob.message(CONV, 1).await;
    mesh.nats.pause();
    let begin = Instant::now();
    for i in 0..100 {
        ledger.send(&alice, "alice", "@bob", &format!("c{i}")).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "100 sends took {:?}", begin.elapsed());
    near.message(CONV, 101).await;
    // A new session starts without the fence, which is never answered.
    let late = mesh.json(1, "bob", "late").await;
    late.caught_up().await;
    mesh.nats.resume();
    ledger.reaches("bob", &[&bob]).await;
    ledger.reaches("bob", &[&near]).await;
    assert_eq!(bob.closed_now(), None);
}

async fn without_nats_reconcile_delivers_within_its_interval(link: NatsLink) {
    let mut mesh = TestMesh::tuned(2, |config| {
        config.nats.link = link;
        config.timing.reconcile_secs = 1;
    })
    .await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    bob.caught_up().await;
    mesh.nats.kill9();
    until("both nodes noticed", async || mesh.nodes.iter().all(|node| !node.is_on_nats())).await;
    let ledger = Ledger::default();
    for i in 0..5 {
        let begin = Instant::now();
        let seq = ledger.send(&alice, "alice", "@bob", &format!("c{i}")).await;
        assert!(begin.elapsed() < Duration::from_secs(1));
        bob.message(CONV, seq).await;
        assert!(begin.elapsed() < Duration::from_secs(4), "delivered after {:?}", begin.elapsed());
    }
    // Sessions start and end without NATS.
    let late = mesh.json(1, "alice", "late").await;
    late.caught_up().await;
    assert_eq!(readiness(&mesh, 0).await, (200, true));
    in_order(&bob.frames());
}

async fn a_node_that_is_cut_off_catches_up_when_it_is_back(link: NatsLink) {
    let mut mesh = TestMesh::tuned(1, |config| {
        config.nats.link = link;
        config.timing.reconcile_spread_secs = 1;
    })
    .await;
    let proxy = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    let ledger = Ledger::default();
    for round in 0..3 {
        proxy.apply(Fault::Cut);
        until("the node noticed", async || !mesh.nodes[1].is_on_nats()).await;
        for i in 0..20 {
            ledger.send(&alice, "alice", "@bob", &format!("c{round}-{i}")).await;
        }
        proxy.heal();
        ledger.reaches("bob", &[&bob]).await;
    }
    // A slow connection to NATS is only slow.
    proxy.apply_both(|direction| Fault::Delay(direction, Duration::from_millis(50)));
    let seq = ledger.send(&alice, "alice", "@bob", "slow").await;
    bob.message(CONV, seq).await;
}

async fn a_way_to_nats_that_swallows_everything_costs_only_latency(link: NatsLink) {
    let mut mesh = TestMesh::tuned(1, |config| {
        config.nats.link = link;
        config.timing.reconcile_secs = 2;
    })
    .await;
    let proxy = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    bob.caught_up().await;
    proxy.apply_both(Fault::Hold);
    let ledger = Ledger::default();
    let begin = Instant::now();
    for i in 0..10 {
        ledger.send(&bob, "bob", "@alice", &format!("b{i}")).await;
        ledger.send(&alice, "alice", "@bob", &format!("a{i}")).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "20 sends took {:?}", begin.elapsed());
    // The fence of a new session is not answered; the session starts all the same.
    mesh.json(1, "bob", "late").await.caught_up().await;
    ledger.reaches("bob", &[&bob]).await;
    ledger.reaches("alice", &[&alice]).await;
    proxy.heal();
    let seq = ledger.send(&alice, "alice", "@bob", "live").await;
    bob.message(CONV, seq).await;
    in_order(&bob.frames());
}

async fn sent_takes_no_longer_without_nats(link: NatsLink) {
    let mut mesh = TestMesh::tuned(2, |config| config.nats.link = link).await;
    let (alice, _bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    let with = median(&alice, "with").await;
    mesh.nats.pause();
    let stopped = median(&alice, "stopped").await;
    mesh.nats.resume();
    mesh.nats.kill9();
    until("the node noticed", async || !mesh.nodes[0].is_on_nats()).await;
    let without = median(&alice, "without").await;
    println!("the median send took {with:?} with NATS, {stopped:?} with it stopped, {without:?} without");
    // Waiting for NATS would show as its time-outs, which are seconds; the rest is the noise of a busy machine.
    let most = with * 10 + Duration::from_millis(50);
    assert!(stopped < most && without < most, "{with:?}, {stopped:?}, {without:?}");
}

async fn median(peer: &Peer, name: &str) -> Duration {
    let mut times = Vec::new();
    for i in 0..100 {
        let begin = Instant::now();
        peer.send("@bob", &format!("{name}{i}"), "x").await;
        times.push(begin.elapsed());
    }
    times.sort();
    times[50]
}

/// The other side of the same cut: bob's node notices nothing, and no reconcile is due there. The node that was cut off
/// tells the others again how far its conversations are.
async fn what_a_cut_off_node_stored_is_told_when_it_is_back(link: NatsLink) {
    let mut mesh = TestMesh::tuned(1, |config| config.nats.link = link).await;
    let proxy = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    let (bob, alice) = (mesh.json(0, "bob", "d").await, mesh.json(1, "alice", "d").await);
    let ledger = Ledger::default();
    proxy.apply(Fault::Cut);
    until("the node noticed", async || !mesh.nodes[1].is_on_nats()).await;
    for i in 0..20 {
        ledger.send(&alice, "alice", "@bob", &format!("c{i}")).await;
    }
    assert!(bob.messages().is_empty(), "there is no other way to bob");
    proxy.heal();
    ledger.reaches("bob", &[&bob]).await;
}

/// R12: the connection takes nothing more but does not break. What could not be published is told when it moves again,
/// and the sessions of the node itself, which have it, compare nothing.
async fn what_a_stalled_connection_could_not_publish_is_told_when_it_moves(link: NatsLink) {
    let mut mesh = TestMesh::bare(|config| {
        config.nats.link = link;
        config.timing.reconcile_spread_secs = 0;
    })
    .await;
    let proxy = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(proxy.nats_url()).await;
    mesh.add_node(mesh.nats.client_url()).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    bob.caught_up().await;
    let node = &mesh.nodes[0];
    let pushed = node.metric("natter_offline_events_total").await;
    proxy.apply(Fault::Hold(Direction::ToServer));
    let (bus, flood) = (node.weak_bus().upgrade().unwrap(), Subject::node("nobody", "flood"));
    let fill = async || {
        for size in [64 << 10, 1 << 10] {
            let payload = bytes::Bytes::from(vec![7; size]);
            while bus.publish(&flood, payload.clone()) {
                tokio::task::yield_now().await;
            }
        }
    };
    fill().await;
    for i in 0..5 {
        fill().await;
        alice.send("@bob", &format!("c{i}"), &"x".repeat(60_000)).await;
        alice.send("@carol", &format!("d{i}"), &"x".repeat(60_000)).await;
    }
    assert!(node.is_on_nats(), "it stalls, and is not lost");
    bob.round_trip().await;
    assert!(bob.messages().is_empty());
    proxy.heal();
    bob.message(CONV, 5).await;
    assert_eq!(bob.seqs(CONV), [1, 2, 3, 4, 5]);
    let told = async || node.metric("natter_offline_events_total").await > pushed;
    until("push services hear of carol's", told).await;
    for cause in ["slow_consumer", "reconnect", "lagged"] {
        let metric = format!("natter_reconciles_total{{cause=\"{cause}\"");
        assert_eq!(node.metric(&metric).await, 0.0, "{cause}");
    }
    assert_eq!(node.metric("natter_nats_reconnects_total").await, 0.0);
}

on_both_links!(
    nats_dies_for_five_seconds_under_traffic,
    a_stopped_nats_delays_no_send_and_loses_nothing,
    without_nats_reconcile_delivers_within_its_interval,
    a_node_that_is_cut_off_catches_up_when_it_is_back,
    a_way_to_nats_that_swallows_everything_costs_only_latency,
    sent_takes_no_longer_without_nats,
    what_a_cut_off_node_stored_is_told_when_it_is_back,
    what_a_stalled_connection_could_not_publish_is_told_when_it_moves
);
