//! The scenarios of `docs/rules.md` that catch wrong implementations, as far as one machine can play them. The periodic
//! reconcile is off and the recheck far away: what is delivered here is delivered by the rules.

use std::{sync::Arc, time::Duration};

use natter::{
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ErrorCode, ServerFrame, client::Outgoing},
    store::Store,
};
use rand::RngExt;

use crate::{
    harness::{
        nats_proxy::{Fate, NatsProxy},
        until,
    },
    mesh::{
        Peer, TestMesh,
        held::HeldLogs,
        ledger::{Ledger, in_order},
        serve::ServeProcess,
    },
};

const CONV: &str = "dm:alice:bob";

/// Scenario 1: x is sent, the node is killed before it answers, more than a bucket of other messages follows, x is
/// sent again: one seq.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_a_crash_and_a_bucket_of_other_messages_has_the_same_seq() {
    const OTHERS: usize = 4_096;
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let mut serve = ServeProcess::start(folder.path(), &nats, "limits.appends_in_flight_per_session = 4096\n").await;
    let mut cids = Vec::new();
    for round in 0..3 {
        let alice = Peer::join(&serve.url(), "alice", "d", Encoding::Json).await;
        alice.send("@carol", &format!("r{round}"), "the session works").await;
        let mut references = Vec::new();
        for i in 0..20 {
            let cid = format!("x{round}-{i}");
            references.push(alice.begin_send("@bob", &cid, &Body::text(&cid)));
            cids.push(cid);
        }
        if round > 0 {
            // The others are gathered while the first is appended: they are on their way now.
            alice.answer(references[0]).await;
        }
        // Killed before the append, during it, or between append and answer.
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..2_000))).await;
        serve.restart().await;
    }
    let bob = Peer::join(&serve.url(), "bob", "d", Encoding::MsgPack).await;
    let stored: Vec<_> = {
        bob.caught_up().await;
        bob.messages().iter().map(|m| (m.cid.clone().unwrap().to_string(), m.seq)).collect()
    };
    let references: Vec<_> =
        (0..OTHERS).map(|i| bob.begin_send("@alice", &format!("b{i}"), &Body::text("other"))).collect();
    for reference in references {
        let answer = bob.answer(reference).await;
        assert!(matches!(answer, ServerFrame::Sent(_)), "{answer:?}");
    }
    let alice = Peer::join(&serve.url(), "alice", "d", Encoding::Json).await;
    let ledger = Ledger::default();
    for (cid, seq) in &stored {
        ledger.answered("alice", cid, CONV, *seq);
    }
    for cid in &cids {
        ledger.send(&alice, "alice", "@bob", cid).await;
    }
    assert_eq!(ledger.len(), cids.len(), "a retry made a second message");
    println!("{} of {} were stored before the kill", stored.len(), cids.len());
    assert!(stored.len() >= 2, "nothing was stored before a kill: no retry found its message");
}

/// Scenario 2: killed anywhere between append and heads; nobody sees a message that the other does not get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_both_sides_see_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let mut serve = ServeProcess::start(folder.path(), &nats, "").await;
    Peer::join(&serve.url(), "bob", "d", Encoding::Json).await.caught_up().await;
    let mut seen_by_alice = 0;
    for round in 0..5 {
        let alice = Peer::join(&serve.url(), "alice", "d", Encoding::Json).await;
        alice.caught_up().await;
        for i in 0..200 {
            alice.begin_send("@bob", &format!("c{round}-{i}"), &Body::text("x"));
        }
        let first = alice.seqs(CONV).len();
        alice.wait("some echoes", |frames| (frames.len() > first + 5 * round).then_some(())).await;
        serve.restart().await;
        seen_by_alice = seen_by_alice.max(alice.seqs(CONV).last().copied().unwrap_or(0));
    }
    let (bob, alice) = (
        Peer::join(&serve.url(), "bob", "d", Encoding::Json).await,
        Peer::join(&serve.url(), "alice", "d", Encoding::Json).await,
    );
    bob.caught_up().await;
    alice.caught_up().await;
    let logs = [bob.history(CONV, None, None, 200).await.0, alice.history(CONV, None, None, 200).await.0];
    assert_eq!(logs[0], logs[1]);
    assert!(logs[0].last() >= Some(&seen_by_alice), "alice saw {seen_by_alice}, the log ends at {:?}", logs[0].last());
    assert_eq!(bob.seqs(CONV), (1..=*logs[0].last().unwrap()).collect::<Vec<_>>(), "bob was offline throughout");
}

/// Node 1 (alice) is plain; node 2 (bob) has its notices tampered with and its pages held back.
async fn spoilt() -> (TestMesh, NatsProxy, Arc<HeldLogs>) {
    let mut mesh = TestMesh::bare(|config| config.timing.recheck_ms = 600_000).await;
    let proxy = NatsProxy::to(mesh.nats.client_addr()).await;
    let url = mesh.nats.client_url();
    mesh.add_node(url).await;
    let held = HeldLogs::before(mesh.store.clone());
    mesh.add_node_on(proxy.nats_url(), held.of(Store::of(mesh.store.clone()))).await;
    (mesh, proxy, held)
}

/// Scenario 5, step by step.
#[tokio::test]
async fn notices_that_come_while_an_old_page_is_on_its_way_are_not_forgotten() {
    let (mesh, proxy, held) = spoilt().await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    bob.caught_up().await;
    proxy.set(|notice| match notice.seq() {
        Some(1) => Fate::Lose,
        Some(3) => Fate::Hold,
        Some(5) => Fate::Repeat(3),
        _ => Fate::Pass,
    });
    held.hold();
    alice.send("@bob", "c1", "1").await;
    alice.send("@bob", "c2", "2").await;
    until("a page is read that ends at 2", async || held.waiting() == 1).await;
    for i in 3..=5 {
        alice.send("@bob", &format!("c{i}"), &i.to_string()).await;
    }
    until("all notices were spoilt", async || proxy.touched() == 3).await;
    proxy.release_reversed();
    // What follows them on the same connection shows that the session has heard them all.
    alice.say(&Outgoing::Signal { to: "@bob", kind: "mark", body: None });
    bob.wait("the mark", |frames| frames.iter().find(|f| matches!(f, ServerFrame::Signal(_))).map(drop)).await;
    held.release();
    bob.message(CONV, 5).await;
    assert_eq!(bob.seqs(CONV), [1, 2, 3, 4, 5]);
}

/// Scenario 5, at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_nats_does_to_notices_everything_comes_once_and_in_order() {
    let (mesh, proxy, held) = spoilt().await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    let carol = mesh.json(0, "carol", "d").await;
    bob.caught_up().await;
    proxy.set(|notice| {
        if notice.seq().is_none() {
            return Fate::Pass;
        }
        match rand::random_range(0..10) {
            0..3 => Fate::Lose,
            3..5 => Fate::Repeat(rand::rng().random_range(2..5)),
            5..7 => Fate::Hold,
            _ => Fate::Pass,
        }
    });
    let ledger = Ledger::default();
    for i in 0..150 {
        ledger.send(&alice, "alice", "@bob", &format!("a{i}")).await;
        ledger.send(&carol, "carol", "@bob", &format!("c{i}")).await;
        match i % 10 {
            0 => held.hold(),
            5 => held.release(),
            7 => drop(proxy.release_reversed()),
            _ => {}
        }
    }
    // A lost last notice would be for reconcile to find, so the last one passes.
    proxy.clear();
    held.release();
    ledger.send(&alice, "alice", "@bob", "last-a").await;
    ledger.send(&carol, "carol", "@bob", "last-c").await;
    ledger.reaches("bob", &[&bob]).await;
    proxy.release_reversed();
    bob.round_trip().await;
    in_order(&bob.frames());
    assert_eq!(bob.messages().len(), 302, "something came twice");
    assert!(proxy.touched() > 50);
}

/// Scenario 6: one sends while a lower seq of the other is not delivered yet.
#[tokio::test]
async fn a_send_above_an_undelivered_message_keeps_the_order_for_all_devices() {
    let (mesh, proxy, _held) = spoilt().await;
    let bob = mesh.json(0, "bob", "d").await;
    // Both of alice's devices are on the node that does not hear of seq 1.
    let (sending, second) = (mesh.json(1, "alice", "d1").await, mesh.msgpack(1, "alice", "d2").await);
    let elsewhere = mesh.json(0, "alice", "d3").await;
    for peer in [&sending, &second, &elsewhere] {
        peer.caught_up().await;
    }
    proxy.set(|notice| if notice.seq() == Some(1) { Fate::Hold } else { Fate::Pass });
    bob.send("@alice", "b1", "1").await;
    until("the notice is held", async || proxy.touched() == 1).await;
    assert_eq!(sending.send("@bob", "a1", "2").await.1, 2);
    for peer in [&sending, &second, &elsewhere] {
        peer.message(CONV, 2).await;
        assert_eq!(peer.seqs(CONV), [1, 2]);
    }
    proxy.release_reversed();
    bob.send("@alice", "b2", "3").await;
    for peer in [&sending, &second, &elsewhere] {
        peer.message(CONV, 3).await;
        assert_eq!(peer.seqs(CONV), [1, 2, 3]);
    }
}

/// Scenario 7: a full window was received and not acknowledged; elsewhere only its top is acknowledged.
#[tokio::test]
async fn an_ack_of_what_another_connection_got_makes_progress() {
    let mesh = TestMesh::tuned(2, |config| config.limits.window = 32).await;
    mesh.json(0, "bob", "d").await.caught_up().await;
    let alice = mesh.json(0, "alice", "d").await;
    for i in 0..200 {
        alice.begin_send("@bob", &format!("c{i}"), &Body::text("x"));
    }
    alice.message(CONV, 200).await;
    let first = Peer::join_quiet(&mesh.nodes[0].url(), "bob", "d", Encoding::Json).await;
    first.message(CONV, 32).await;
    first.vanish();
    until("the dead session is gone", async || mesh.nodes[0].sessions() == 1).await;
    let bob = Peer::join_quiet(&mesh.nodes[1].url(), "bob", "d", Encoding::Json).await;
    bob.ack(CONV, 32);
    bob.message(CONV, 64).await;
    bob.ack(CONV, 1_000_000_000);
    let words = bob.error(ErrorCode::BadAck).await;
    assert!(words.contains("200"), "{words}");
    // Above the position, at or below the top: a resumed client may know more than the cursor.
    bob.ack(CONV, 150);
    bob.message(CONV, 182).await;
    bob.ack(CONV, 182);
    bob.message(CONV, 200).await;
    let seqs = bob.seqs(CONV);
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair == [64, 151]), "{seqs:?}");
}
