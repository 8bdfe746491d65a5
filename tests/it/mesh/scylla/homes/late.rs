//! Scenario 3, aimed at the home: its writes reach the CQL server when another home has long gone on.

use natter::{
    model::{ConvId, Row},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ServerFrame, ask},
    store::{Logs as _, Span},
};

use super::{placed, takes_part, until_sent};
use crate::{
    harness::{
        cassandra::Cassandra,
        proxy::{Direction, Fault, Proxy},
    },
    mesh::{
        Peer,
        ledger::Ledger,
        scylla::{
            fleet::{Fleet, QUICK, Ways},
            people::{check_logs, direct, patiently},
        },
    },
};

const ROUNDS: usize = 3;
/// Conversations whose home is hurt, in each round.
const CONVS: usize = 4;
/// Large enough that a held write is told from all else that a node asks.
const BODY: usize = 8 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_home_wrote_changes_nothing_when_it_comes_late() {
    released_late(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_home_wrote_that_the_store_did_not_hear_changes_nothing_when_it_comes_late() {
    released_late(false).await;
}

/// Conversations of alice whose home is this node, by the users on the other side.
async fn at_home(fleet: &Fleet, node: usize, round: usize) -> Vec<(String, ConvId)> {
    let mut found = Vec::new();
    for n in 0.. {
        let to = format!("b{round}-{n}");
        let conv = direct("alice", &to);
        if fleet.home_of(&conv).await.is_some_and(|home| home.node == format!("p{}", node + 1)) {
            found.push((to, conv));
        }
        if found.len() == CONVS {
            break;
        }
    }
    found
}

async fn logs(fleet: &Fleet, convs: &[(String, ConvId)]) -> Vec<Vec<Row>> {
    let mut logs = Vec::new();
    for (_, conv) in convs {
        logs.push(fleet.store.read_after(conv, 0, Span { rows: 1_000, bytes: usize::MAX }).await.unwrap());
    }
    logs
}

/// A home writes, and a proxy holds it; the home is `stopped`, or goes on trying; another home takes over, places the
/// same messages and others; then the first one's writes arrive.
async fn released_late(stopped: bool) {
    let server = Cassandra::shared().await;
    let options = server.migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    let (mut ways, mut proxies) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let proxy = Proxy::to(server.addr(0)).await;
        ways.push(Ways { cql: vec![proxy.addr().to_string()], ..Ways::straight(&nats, &options) });
        proxies.push(proxy);
    }
    let mut fleet = Fleet::start(&ways, &nats.passwords().node, &options, QUICK).await;
    let mut peers = Vec::new();
    for node in 0..3 {
        peers.push(Peer::join(&fleet.nodes[node].url(), "alice", &format!("d{node}"), Encoding::Json).await);
    }
    let (ledger, mut all) = (Ledger::default(), Vec::new());
    placed(&fleet, &[0, 1, 2]).await;
    for round in 0..ROUNDS {
        let (victim, other) = (round, (round + 1) % 3);
        takes_part(&fleet, victim).await;
        let convs = at_home(&fleet, victim, round).await;
        for (to, _) in &convs {
            // So that what is held is the write, and not the recovery before it.
            until_sent(&peers[victim], "alice", to, "before", &ledger).await;
        }
        let lost = fleet.metric(victim, "natter_incarnations_lost_total ").await;
        proxies[victim].apply(Fault::Hold(Direction::ToServer));
        let body = Body::text(&"x".repeat(BODY));
        let send = |to: &String| peers[victim].begin_send(&format!("@{to}"), "held", &body);
        let begun: Vec<_> = convs.iter().map(|(to, _)| send(to)).collect();
        let held = async || proxies[victim].waiting(Direction::ToServer) >= CONVS * BODY;
        patiently("the writes are held", held).await;
        if stopped {
            fleet.nodes[victim].process.pause();
        }
        for (to, _) in &convs {
            for cid in ["other", "next"] {
                until_sent(&peers[other], "alice", to, cid, &ledger).await;
            }
        }
        let before = logs(&fleet, &convs).await;

        proxies[victim].heal();
        let released = async || proxies[victim].waiting(Direction::ToServer) == 0;
        patiently("the writes are released", released).await;
        for n in 0..10 {
            for (to, _) in &convs {
                until_sent(&peers[other], "alice", to, &format!("after{n}"), &ledger).await;
            }
        }
        for (before, after) in before.iter().zip(logs(&fleet, &convs).await) {
            assert_eq!(before[..], after[..before.len()], "what was in the log has changed");
        }
        if stopped {
            fleet.nodes[victim].process.resume();
        }
        for ((to, _), reference) in convs.iter().zip(begun) {
            match peers[victim].answer(reference).await {
                ServerFrame::Sent(ask::Sent { conv, seq, .. }) => ledger.answered("alice", "held", conv.as_str(), seq),
                ServerFrame::Error { retry: true, .. } => {
                    sent_again(&peers[victim], to, &body, &ledger).await;
                }
                other => panic!("{to}: {other:?}"),
            }
        }
        let fenced = async || fleet.metric(victim, "natter_incarnations_lost_total ").await > lost + 0.5;
        patiently("it knows that it was fenced", fenced).await;
        all.extend(convs.into_iter().map(|(_, conv)| conv));
    }
    check_logs(&fleet.store, &ledger, &all.into_iter().collect(), &[]).await;
    fleet.all_live();
}

async fn sent_again(peer: &Peer, to: &str, body: &Body, ledger: &Ledger) {
    patiently("what was held is stored", async || match peer.try_send(&format!("@{to}"), "held", body).await {
        ServerFrame::Sent(ask::Sent { conv, seq, .. }) => {
            ledger.answered("alice", "held", conv.as_str(), seq);
            true
        }
        ServerFrame::Error { retry: true, .. } => false,
        other => panic!("{to}: {other:?}"),
    })
    .await;
}
