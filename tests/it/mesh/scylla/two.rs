//! Two nodes, one conversation, and no comparison but those of logins: it would make up for what is not published.

use natter::protocol::{Body, Encoding, ServerFrame, ask};

use super::{
    fleet::{Fleet, QUIET},
    people::{Person, check},
    traffic::Traffic,
};
use crate::{
    harness::cassandra::Cassandra,
    mesh::{Peer, ledger::Ledger},
};

const LANES: usize = 8;

/// Both users write on both nodes at full speed. Every client stays on its node: both nodes append all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_append_to_one_conversation_at_full_speed() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::with(2, &options, QUIET).await;
    let (one, two) = (vec![fleet.nodes[0].url()], vec![fleet.nodes[1].url()]);
    let people = [
        Person::join(one.clone(), "alice", "d1").await,
        Person::join(two.clone(), "alice", "d2").await,
        Person::join(one, "bob", "d1").await,
        Person::join(two, "bob", "d2").await,
    ];
    let mut traffic = Traffic::default();
    for person in &people {
        let to = if person.user == "alice" { "bob" } else { "alice" };
        (0..LANES).for_each(|_| traffic.lane(person, &[to], 0..0));
    }
    traffic.flows(2_000).await;
    let ledger = traffic.stop().await;
    check(&fleet.store, &ledger, &people.each_ref()).await;
    for node in 0..2 {
        assert!(fleet.metric(node, "natter_appended_total").await > 100.0, "node {node} hardly took part");
    }
    fleet.all_live();
}

/// The same cids on both nodes at once, as from a client that gave up on the first node too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cid_in_flight_on_both_nodes_gets_one_seq() {
    const ROUNDS: usize = 40;
    const AT_ONCE: usize = 8;
    let options = Cassandra::shared().await.migrated().await;
    let (fleet, _nats, _folder) = Fleet::with(2, &options, QUIET).await;
    let alice = Person::join(fleet.urls(1), "alice", "d").await;
    let bob = Person::join(fleet.urls(0), "bob", "d").await;
    let one = Peer::join(&fleet.nodes[0].url(), "alice", "d1", Encoding::Json).await;
    let two = Peer::join(&fleet.nodes[1].url(), "alice", "d2", Encoding::MsgPack).await;
    let ledger = Ledger::default();
    for round in 0..ROUNDS {
        let cids: Vec<_> = (0..AT_ONCE).map(|i| format!("c{round}-{i}")).collect();
        let mut asked = Vec::new();
        for i in 0..AT_ONCE {
            // In opposite orders, so that the two batches overlap in every way.
            for (peer, cid) in [(&one, &cids[i]), (&two, &cids[AT_ONCE - 1 - i])] {
                asked.push((peer, cid, peer.begin_send("@bob", cid, &Body::text(cid))));
            }
        }
        for (peer, cid, reference) in asked {
            match peer.answer(reference).await {
                ServerFrame::Sent(ask::Sent { conv, seq, .. }) => ledger.answered("alice", cid, conv.as_str(), seq),
                other => panic!("{cid}: {other:?}"),
            }
        }
    }
    assert_eq!(ledger.len(), ROUNDS * AT_ONCE);
    check(&fleet.store, &ledger, &[&alice, &bob]).await;
    let mut met = 0.0;
    for node in 0..2 {
        met += fleet.metric(node, "natter_append_retries_total").await;
    }
    println!("{met} of {} sends found their cid stored already", 2 * ROUNDS * AT_ONCE);
    // A node whose own insert timed out finds its own message, so there may be more.
    assert!(met >= (ROUNDS * AT_ONCE) as f64, "every cid was new on one node only");
}

/// Nodes are killed in turn; their clients go to the other and resend what was not answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_node_go_on_at_the_other() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::with(2, &options, QUIET).await;
    let alice = Person::join(fleet.urls(0), "alice", "d").await;
    let bob = Person::join(fleet.urls(1), "bob", "d").await;
    let mut traffic = Traffic::default();
    for _ in 0..LANES {
        traffic.lane(&alice, &["bob"], 0..0);
        traffic.lane(&bob, &["alice"], 0..0);
    }
    for round in 0..4 {
        traffic.flows(150).await;
        let node = &mut fleet.nodes[round % 2];
        node.process.kill9();
        traffic.flows(100).await;
        node.restart().await;
    }
    traffic.flows(100).await;
    let ledger = traffic.stop().await;
    check(&fleet.store, &ledger, &[&alice, &bob]).await;
}
