//! Homes that are killed under traffic: one after the other, and all at once.

use std::time::Duration;

use rand::random_range;
use tokio::time::sleep;

use super::{crowd::Crowd, placed, takes_part};
use crate::{harness::cassandra::Cassandra, mesh::scylla::fleet::Fleet};

const ROUNDS: usize = 21;
/// What a client needs to notice that its node is gone, and to be welcomed at another.
const MOVE: Duration = Duration::from_secs(2);

/// A node dies every few seconds, and none of them has been there long enough to know the others: a send may meet several
/// homes that die, and the pauses of its client grow meanwhile.
const RESTLESS: u32 = 8;

/// I1, I4 at any moment of an append, and in any state of the mesh: the next kill does not wait until the homes of the
/// last one are placed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn homes_that_are_killed_again_and_again_lose_nothing() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let mut crowd = Crowd::moving(&fleet).await;
    for round in 0..ROUNDS {
        crowd.traffic.flows(20).await;
        // At any moment of what it does.
        sleep(Duration::from_millis(random_range(0..300))).await;
        fleet.nodes[round % 3].process.kill9();
        if round % 2 == 0 {
            sleep(Duration::from_millis(random_range(0..1_500))).await;
        }
        fleet.nodes[round % 3].restart().await;
    }
    crowd.traffic.flows(100).await;
    fleet.all_live();
    crowd.waited("homes were killed", crowd.may_take() * RESTLESS);
    crowd.check(&fleet, []).await;
}

/// Nobody is left who could take over; each finds the slots of its former life, and of the others'.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_and_started_at_once_go_on() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let mut crowd = Crowd::moving(&fleet).await;
    for round in 0..3 {
        crowd.traffic.flows(50).await;
        crowd.traffic.waits();
        let begin = tokio::time::Instant::now();
        fleet.restart_all().await;
        let down = begin.elapsed();
        crowd.traffic.flows(50).await;
        crowd.waited(&format!("round {round}, down for {down:?}"), down + crowd.may_take() + MOVE);
    }
    for node in 0..3 {
        takes_part(&fleet, node).await;
    }
    crowd.traffic.flows(100).await;
    fleet.all_live();
    crowd.check(&fleet, []).await;
}
