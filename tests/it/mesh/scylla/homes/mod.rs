//! Homes of conversations, with whole processes: one is stopped, one killed, one drained, and senders hardly notice.

mod crowd;
mod killed;
mod late;
mod moving;
mod stopped;

use std::time::{Duration, Instant};

use natter::{
    protocol::{Body, Encoding, ServerFrame, ask},
    store::{
        Logs as _, Span,
        slots::{Slot, Slots as _},
    },
};

use super::{
    fleet::Fleet,
    people::{LONG, direct, patiently},
};
use crate::{
    harness::{cassandra::Cassandra, wait::until_ok},
    mesh::{Peer, ledger::Ledger},
};

/// The longest wait of a sender whose home dies is a second; here everything shares the machine with other tests.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// Waits until every slot has the home that it should have.
pub async fn placed(fleet: &Fleet, nodes: &[usize]) {
    let share = 1024.0 / nodes.len() as f64;
    until_ok(LONG, "every slot has its home", async || {
        let mut held = Vec::new();
        for node in nodes {
            held.push(fleet.metric(*node, "natter_slots_held ").await);
        }
        let placed = (held.iter().sum::<f64>() - 1024.0).abs() < 0.5 && held.iter().all(|held| *held > share / 2.0);
        if placed { Ok(()) } else { Err(format!("they hold {held:?}")) }
    })
    .await;
}

/// Waits until the node is home of some slots again. It takes its share slowly: nobody waits for what nobody writes to.
async fn takes_part(fleet: &Fleet, node: usize) {
    let some = async || fleet.metric(node, "natter_slots_held ").await > 64.0;
    patiently("it is home of some slots again", some).await;
}

/// The node that is home of alice's and bob's conversation.
async fn home(fleet: &Fleet) -> usize {
    let term = fleet.store.term(Slot::of(&direct("alice", "bob"))).await.unwrap().unwrap();
    term.home.node.strip_prefix('p').unwrap().parse::<usize>().unwrap() - 1
}

/// Sends, and says at which seq, after how long.
async fn send(peer: &Peer, cid: &str) -> (u64, Duration) {
    let begin = Instant::now();
    match peer.try_send("@bob", cid, &Body::text(cid)).await {
        ServerFrame::Sent(ask::Sent { seq, .. }) => (seq, begin.elapsed()),
        other => panic!("{cid}: {other:?} after {:?}", begin.elapsed()),
    }
}

/// Sends until it is stored, as a client does, and records the answer.
async fn until_sent(peer: &Peer, from: &str, to: &str, cid: &str, ledger: &Ledger) {
    let begin = Instant::now();
    loop {
        match peer.try_send(&format!("@{to}"), cid, &Body::text(cid)).await {
            ServerFrame::Sent(ask::Sent { conv, seq, .. }) => return ledger.answered(from, cid, conv.as_str(), seq),
            ServerFrame::Error { retry: true, .. } => assert!(begin.elapsed() < LONG, "{cid} to {to} is never stored"),
            other => panic!("{cid} to {to}: {other:?}"),
        }
    }
}

async fn everywhere(fleet: &Fleet) -> Vec<Peer> {
    let mut peers = Vec::new();
    for (n, node) in fleet.nodes.iter().enumerate() {
        peers.push(Peer::join(&node.url(), "alice", &format!("d{n}"), Encoding::Json).await);
    }
    peers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_stops_and_one_that_is_killed_are_replaced_at_once() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let peers = everywhere(&fleet).await;
    let first = home(&fleet).await;
    let others: Vec<_> = (0..3).filter(|node| *node != first).collect();
    let mut cids = vec!["before".to_owned()];
    send(&peers[others[0]], "before").await;

    fleet.nodes[first].process.pause();
    let (seq, took) = send(&peers[others[0]], "stopped").await;
    println!("the home was stopped: {took:?}");
    assert!(seq == 2 && took < TAKE_OVER, "seq {seq} after {took:?}");
    cids.push("stopped".to_owned());
    for n in 0..20 {
        let cid = n.to_string();
        let (_, took) = send(&peers[others[n % 2]], &cid).await;
        assert!(took < TAKE_OVER, "send {n} after the take-over: {took:?}");
        cids.push(cid);
    }
    fleet.nodes[first].process.resume();
    patiently("the stopped one knows that it was fenced", async || {
        fleet.metric(first, "natter_incarnations_lost_total ").await > 0.5
    })
    .await;

    let second = home(&fleet).await;
    assert_ne!(second, first);
    let sender = *others.iter().find(|node| **node != second).unwrap();
    fleet.nodes[second].process.kill9();
    let (seq, took) = send(&peers[sender], "killed").await;
    println!("the home was killed: {took:?}");
    assert!(seq == 23 && took < TAKE_OVER, "seq {seq} after {took:?}");
    cids.push("killed".to_owned());
    let all = Span { rows: 1_000, bytes: usize::MAX };
    let log = fleet.store.read_after(&direct("alice", "bob"), 0, all).await.unwrap();
    assert_eq!(log.iter().map(|row| row.cid.to_string()).collect::<Vec<_>>(), cids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_hands_the_homes_over_and_no_send_fails() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let peers = everywhere(&fleet).await;
    let leaver = home(&fleet).await;
    let others: Vec<_> = (0..3).filter(|node| *node != leaver).collect();
    fleet.nodes[leaver].process.terminate();
    let (mut sent, mut longest) = (0, Duration::ZERO);
    let mut since = None;
    // Until a while after it has gone.
    while since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
        let (seq, took) = send(&peers[others[sent % 2]], &sent.to_string()).await;
        sent += 1;
        assert_eq!(seq, sent as u64);
        longest = longest.max(took);
        if since.is_none() && fleet.nodes[leaver].process.exited().is_some() {
            since = Some(Instant::now());
        }
    }
    println!("{sent} sends during a drain, the longest {longest:?}");
    assert!(longest < TAKE_OVER, "{longest:?}");
    placed(&fleet, &others).await;
    for node in &others {
        assert!(fleet.metric(*node, "natter_homes_fenced_total ").await < 0.5, "a drained node was fenced");
    }
}
