//! Two sessions of one device: exactly one survives, whatever happens to their announcements (R11, scenario 8).

use std::time::Duration;

use natter::protocol::{CloseReason, Encoding};

use crate::{
    harness::{
        nats_proxy::{Fate, NatsProxy},
        until,
    },
    mesh::{Peer, TestMesh, token},
};

async fn join(mesh: &TestMesh, node: usize, attempt: u64) -> Peer {
    Peer::join_as(&mesh.nodes[node].url(), &token("alice"), "d", Encoding::Json, attempt).await.unwrap()
}

/// `loser` is closed with 4104; `winner` is not and keeps working.
async fn decided(loser: &Peer, winner: &Peer, cid: &str) {
    let (code, words) = loser.closed().await;
    assert_eq!((code, words.as_str()), (4104, CloseReason::Replaced.text()));
    winner.send("@bob", cid, "still here").await;
    assert_eq!(winner.closed_now(), None);
}

#[tokio::test]
async fn the_larger_attempt_stays_in_whichever_order_they_come() {
    let mesh = TestMesh::start(2).await;
    for (round, nodes) in [[0, 1], [1, 0], [0, 0]].into_iter().enumerate() {
        // Larger in each round: the winner of the previous round may still be there.
        let lower = 1 + 2 * round as u64;
        let (old, new) = (join(&mesh, nodes[0], lower).await, join(&mesh, nodes[1], lower + 1).await);
        decided(&old, &new, &format!("a{round}")).await;
        let (new, old) = (new, join(&mesh, nodes[0], lower).await);
        decided(&old, &new, &format!("b{round}")).await;
    }
}

#[tokio::test]
async fn equal_attempts_leave_exactly_one() {
    let mesh = TestMesh::start(2).await;
    for (attempt, nodes) in [[0, 1], [0, 0]].into_iter().enumerate() {
        let attempt = attempt as u64;
        let peers = [join(&mesh, nodes[0], attempt).await, join(&mesh, nodes[1], attempt).await];
        let one = |peer: &Peer| peer.closed_now().is_some();
        until("one is closed", async || peers.iter().any(one)).await;
        let id = |peer: &Peer| peer.welcome.as_ref().unwrap().session.clone();
        let winner = peers.iter().max_by_key(|peer| id(peer)).unwrap();
        winner.round_trip().await;
        assert_eq!(peers.iter().filter(|peer| one(peer)).count(), 1);
    }
}

#[tokio::test]
async fn other_devices_and_other_users_are_left_alone() {
    let mesh = TestMesh::start(2).await;
    let others = [mesh.json(0, "alice", "e").await, mesh.json(1, "bob", "d").await, mesh.json(0, "bob", "e").await];
    let (old, new) = (join(&mesh, 0, 1).await, join(&mesh, 1, 2).await);
    decided(&old, &new, "c").await;
    for peer in &others {
        peer.round_trip().await;
        assert_eq!(peer.closed_now(), None);
    }
}

/// Two nodes, each behind a proxy that can lose what is on its way to it.
async fn faulty(recheck: u64) -> (TestMesh, [NatsProxy; 2]) {
    let mut mesh = TestMesh::bare(|config| config.timing.recheck_ms = recheck).await;
    let proxies = [NatsProxy::to(mesh.nats.client_addr()).await, NatsProxy::to(mesh.nats.client_addr()).await];
    for one in &proxies {
        mesh.add_node(one.nats_url()).await;
    }
    (mesh, proxies)
}

#[tokio::test]
async fn lost_announcements_are_made_again() {
    for first_lost in [[1, 0], [0, 1], [1, 1]] {
        let (mesh, proxies) = faulty(500).await;
        for (one, count) in proxies.iter().zip(first_lost) {
            let mut left = count;
            one.set(move |notice| {
                let lose = left > 0 && notice.is_announcement();
                left -= usize::from(lose);
                if lose { Fate::Lose } else { Fate::Pass }
            });
        }
        let (old, new) = (join(&mesh, 0, 1).await, join(&mesh, 1, 2).await);
        decided(&old, &new, "c").await;
    }
}

#[tokio::test]
async fn delayed_and_crossed_announcements_close_only_the_smaller() {
    let (mesh, proxies) = faulty(300_000).await;
    for one in &proxies {
        one.set(|notice| if notice.is_announcement() { Fate::Hold } else { Fate::Pass });
    }
    let (old, new) = (join(&mesh, 0, 1).await, join(&mesh, 1, 2).await);
    until("an announcement is on its way", async || proxies[0].touched() >= 1).await;
    for peer in [&old, &new] {
        peer.round_trip().await;
        assert_eq!(peer.closed_now(), None, "nobody knows of the other yet");
    }
    proxies.iter().for_each(NatsProxy::clear);
    assert!(proxies[0].release_reversed() > 0);
    proxies[1].release_reversed();
    decided(&old, &new, "c").await;
}

#[tokio::test]
async fn the_smaller_that_comes_later_is_told_by_the_larger() {
    // Only the answer to its own announcement tells it: the larger one announced itself long ago.
    let (mesh, _proxies) = faulty(300_000).await;
    let new = join(&mesh, 0, 9).await;
    new.caught_up().await;
    let begin = std::time::Instant::now();
    let old = join(&mesh, 1, 3).await;
    decided(&old, &new, "c").await;
    assert!(begin.elapsed() < Duration::from_secs(5));
}
