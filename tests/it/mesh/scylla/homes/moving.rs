//! Orderly hand-over under traffic: a node that comes and goes.

use super::{crowd::Crowd, placed};
use crate::{
    harness::cassandra::Cassandra,
    mesh::scylla::{
        fleet::{Fleet, QUIET},
        people::patiently,
    },
};

const ROUNDS: usize = 4;
/// What the node that comes must be home of before it goes again.
const SHARE: f64 = 200.0;

/// F8: a node drains and comes back while everybody writes at the others: nobody is refused, nobody waits for a home,
/// and what is published reaches all without any comparison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_and_comes_again_and_again_costs_no_send() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::with(3, &options, QUIET).await;
    placed(&fleet, &[0, 1, 2]).await;
    let mut crowd = Crowd::staying(&fleet, &[0, 1]).await;
    for round in 0..ROUNDS {
        fleet.nodes[2].process.terminate();
        fleet.nodes[2].process.ended().await;
        crowd.traffic.flows(50).await;
        crowd.waited(&format!("drain {round}"), crowd.may_take());
        fleet.nodes[2].restart().await;
        let has_its_share = async || fleet.metric(2, "natter_slots_held ").await > SHARE;
        patiently("it has its share", has_its_share).await;
        crowd.traffic.flows(50).await;
        crowd.waited(&format!("return {round}"), crowd.may_take());
    }
    let sent = crowd.traffic.ledger.len() as f64;
    let refused = fleet.metric_of(&[0, 1], "natter_errors_total").await;
    let lost = fleet.metric_of(&[0, 1, 2], "natter_incarnations_lost_total ").await;
    println!("{refused} of {sent} sends were refused, {lost} nodes took each other for dead");
    // Where the machine is so slow that nodes are taken for dead, that is what refuses: two in a hundred at most.
    assert!(refused <= if lost > 0.5 { sent / 50.0 } else { 0.0 }, "{refused} of {sent} sends were refused");
    let fenced = fleet.metric_of(&[0, 1], "natter_homes_fenced_total ").await;
    assert!(lost > 0.5 || fenced < 0.5, "a drained node was fenced");
    fleet.all_live();
    crowd.check(&fleet, []).await;
}
