//! Scenario 3 as clients see it: what two nodes wrote, or were answered, arrives after they gave up.

use std::time::Instant;

use natter::{
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, ErrorCode, ServerFrame, ask},
};

use super::{
    fleet::{Fleet, QUICK, Ways},
    people::{LONG, Person, check},
};
use crate::{
    harness::{
        cassandra::Cassandra,
        proxy::{Direction, Fault, Proxy},
    },
    mesh::{Peer, ledger::Ledger},
};

const ROUNDS: usize = 3;
const AT_ONCE: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_hears_late_is_stored_once() {
    held(Fault::Hold(Direction::ToServer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_answers_late_is_stored_once() {
    held(Fault::Hold(Direction::ToClient)).await;
}

/// The `fault` cuts two nodes off from the server while the same messages are in flight on both; their sender goes to
/// the third; then everything that was held is released while the sender retries everywhere.
async fn held(fault: Fault) {
    let server = Cassandra::shared().await;
    let options = server.migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    let slow = [Proxy::to(server.addr(0)).await, Proxy::to(server.addr(0)).await];
    let straight = Ways::straight(&nats, &options);
    let behind = |proxy: &Proxy| Ways { cql: vec![proxy.addr().to_string()], ..straight.clone() };
    let ways = [behind(&slow[0]), behind(&slow[1]), straight.clone()];
    let fleet = Fleet::start(&ways, &nats.passwords().node, &options, QUICK).await;
    let (alice, bob) = (Person::join(fleet.urls(2), "alice", "d").await, Person::join(fleet.urls(2), "bob", "d").await);
    let mut at = Vec::new();
    for (node, device) in ["d1", "d2", "d3"].into_iter().enumerate() {
        at.push(Peer::join(&fleet.nodes[node].url(), "alice", device, Default::default()).await);
    }
    let ledger = Ledger::default();
    for (node, peer) in at.iter().enumerate() {
        // Warm, so that what is held are the inserts and not the reads before them.
        until_sent(peer, &format!("warm{node}"), &ledger).await;
    }
    for round in 0..ROUNDS {
        let cids: Vec<_> = (0..AT_ONCE).map(|i| format!("c{round}-{i}")).collect();
        slow.iter().for_each(|proxy| proxy.apply(fault));
        refused_on(&at[..2], &cids, &ledger).await;
        for cid in &cids[..AT_ONCE / 2] {
            until_sent(&at[2], cid, &ledger).await;
        }
        until_sent(&at[2], &format!("other{round}"), &ledger).await;
        slow.iter().for_each(Proxy::heal);
        for cid in cids.iter().rev() {
            for peer in &at {
                until_sent(peer, cid, &ledger).await;
            }
        }
    }
    assert_eq!(ledger.len(), 3 + ROUNDS * (AT_ONCE + 1));
    check(&fleet.store, &ledger, &[&alice, &bob]).await;
}

/// The same messages on nodes that do not reach the server. Where one of them is home they cannot tell what happened and
/// say so; where the third one is, it answers for them.
async fn refused_on(peers: &[Peer], cids: &[String], ledger: &Ledger) {
    let asked: Vec<_> = peers
        .iter()
        .flat_map(|peer| cids.iter().map(move |cid| (peer, cid, peer.begin_send("@bob", cid, &Body::text(cid)))))
        .collect();
    for (peer, cid, reference) in asked {
        match peer.answer(reference).await {
            ServerFrame::Sent(ask::Sent { conv, seq, .. }) => ledger.answered("alice", cid, conv.as_str(), seq),
            ServerFrame::Error { code: ErrorCode::Unavailable, retry: true, .. } => {}
            other => panic!("{cid}: {other:?}"),
        }
    }
}

async fn until_sent(peer: &Peer, cid: &str, ledger: &Ledger) {
    let deadline = Instant::now() + LONG;
    loop {
        match peer.try_send("@bob", cid, &Body::text(cid)).await {
            ServerFrame::Sent(ask::Sent { conv, seq, .. }) => return ledger.answered("alice", cid, conv.as_str(), seq),
            ServerFrame::Error { retry: true, .. } => assert!(Instant::now() < deadline, "{cid} is never stored"),
            other => panic!("{cid}: {other:?}"),
        }
    }
}
