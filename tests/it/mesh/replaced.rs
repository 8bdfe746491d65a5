//! Two sessions of one device: exactly one survives, whatever happens to their announcements (R11, scenario 8).

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

/// The loser is told to come back: it has counted further than the later one.
async fn superseded(loser: &Peer, winner: &Peer, cid: &str) {
    let (code, words) = loser.closed().await;
    assert_eq!((code, words.as_str()), (4005, CloseReason::Superseded.text()));
    assert!(natter::protocol::close::should_reconnect(code));
    winner.send("@bob", cid, "still here").await;
    assert_eq!(winner.closed_now(), None);
}

#[tokio::test]
async fn the_later_connection_stays_on_one_node_and_across_nodes() {
    let mesh = TestMesh::start(2).await;
    for (round, nodes) in [[0, 1], [1, 0], [0, 0]].into_iter().enumerate() {
        // The winner of the round before is still there.
        let first = 1 + 2 * round as u64;
        let (old, new) = (join(&mesh, nodes[0], first).await, join(&mesh, nodes[1], first + 1).await);
        decided(&old, &new, &format!("a{round}")).await;
    }
}

/// A client that does not count is never locked out, and neither is the device that it is.
#[tokio::test]
async fn of_equal_attempts_the_later_stays() {
    let mesh = TestMesh::start(2).await;
    for (attempt, nodes) in [[0, 1], [0, 0]].into_iter().enumerate() {
        let attempt = attempt as u64;
        let (old, new) = (join(&mesh, nodes[0], attempt).await, join(&mesh, nodes[1], attempt).await);
        decided(&old, &new, &format!("c{attempt}")).await;
    }
}

/// The half-open socket of the program before lives on; it must not keep the device from coming back.
#[tokio::test]
async fn a_program_that_starts_to_count_anew_gets_in_and_stays() {
    let mesh = TestMesh::start(2).await;
    for (round, nodes) in [[0, 1], [1, 0], [0, 0]].into_iter().enumerate() {
        let (old, new) = (join(&mesh, nodes[0], 1_000).await, join(&mesh, nodes[1], 1).await);
        superseded(&old, &new, &format!("a{round}")).await;
        // Two programs that both live: the one that counted further comes back, the other one stays away.
        let back = join(&mesh, nodes[0], 1_001).await;
        decided(&new, &back, &format!("b{round}")).await;
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
async fn delayed_and_crossed_announcements_close_only_the_earlier() {
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
