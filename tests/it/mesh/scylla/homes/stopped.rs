//! A home that is stopped, and goes on as if nothing had happened.

use std::time::Instant;

use natter::{
    model::ConvId,
    protocol::{Body, Encoding, ServerFrame, ask},
};
use tokio::time::{Duration, sleep};

use super::{
    crowd::{Crowd, TAKE_OVER},
    placed, takes_part, until_sent,
};
use crate::{
    harness::cassandra::Cassandra,
    mesh::{
        Peer,
        scylla::{
            fleet::Fleet,
            people::{direct, patiently},
        },
    },
};

/// Sends that the stopped home finds in its sockets when it goes on.
const BEGUN: usize = 8;

/// Conversations of this user whose home is the node.
async fn at_home(fleet: &Fleet, node: usize, user: &str) -> Vec<(String, ConvId)> {
    let mut found = Vec::new();
    for n in 0.. {
        let to = format!("{user}{n}");
        let conv = direct(user, &to);
        if fleet.home_of(&conv).await.is_some_and(|home| home.node == format!("p{}", node + 1)) {
            found.push((to, conv));
        }
        if found.len() == BEGUN {
            break;
        }
    }
    found
}

/// F2, F5: others write to its conversations while it is stopped. What it then answers must be what became of the send in
/// the log that they went on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_home_is_waited_for_a_second_and_answers_nothing_of_its_old_life() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let inside = Peer::join(&fleet.nodes[0].url(), "old", "inside", Encoding::Json).await;
    let outside = Peer::join(&fleet.nodes[1].url(), "old", "outside", Encoding::Json).await;
    let convs = at_home(&fleet, 0, "old").await;
    let mut crowd = Crowd::staying(&fleet, &[1, 2]).await;
    let ledger = crowd.traffic.ledger.clone();
    for (to, _) in &convs {
        until_sent(&inside, "old", to, "before", &ledger).await;
    }
    let life = fleet.home_of(&convs[0].1).await.unwrap();
    crowd.traffic.waits();

    fleet.nodes[0].process.pause();
    let begun: Vec<_> =
        convs.iter().map(|(to, _)| inside.begin_send(&format!("@{to}"), "begun", &Body::text("begun"))).collect();
    for (to, _) in &convs {
        until_sent(&outside, "old", to, "elsewhere", &ledger).await;
    }
    crowd.traffic.flows(300).await;
    crowd.waited("while a home was stopped", crowd.may_take());
    for (_, conv) in &convs {
        let now = fleet.home_of(conv).await.unwrap();
        assert_ne!(now, life, "{conv} was not taken over");
    }

    fleet.nodes[0].process.resume();
    for ((to, _), reference) in convs.iter().zip(begun) {
        match inside.answer(reference).await {
            ServerFrame::Sent(ask::Sent { conv, seq, .. }) => ledger.answered("old", "begun", conv.as_str(), seq),
            ServerFrame::Error { retry: true, .. } => until_sent(&inside, "old", to, "begun", &ledger).await,
            other => panic!("{to}: {other:?}"),
        }
    }
    let lost = async || fleet.metric(0, "natter_incarnations_lost_total ").await > 0.5;
    patiently("it knows that it was fenced", lost).await;
    crowd.traffic.flows(100).await;
    crowd.waited("while it went on", crowd.may_take());
    takes_part(&fleet, 0).await;
    crowd.traffic.flows(200).await;
    crowd.waited("while it took part again", crowd.may_take());
    let again = at_home(&fleet, 0, "old").await;
    let home = fleet.home_of(&again[0].1).await.unwrap();
    assert!(home.number > life.number, "{home} after {life}");
    fleet.all_live();
    crowd.check(&fleet, convs.into_iter().map(|(_, conv)| conv)).await;
}

/// How long the slow node is stopped, and then runs.
const SLOW: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_millis(1_000));
const CYCLES: usize = 12;
/// Each node fences a name three times within a minute, and the cycles take half of one; each life that a later one
/// followed may be fenced beside the limit.
const FENCES: f64 = 6.0;

/// F2: one node that is stopped most of the time, again and again, is fenced so often and no more; the mesh goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_again_and_again_is_fenced_within_limits_and_the_mesh_goes_on() {
    let options = Cassandra::shared().await.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(3, &options).await;
    placed(&fleet, &[0, 1, 2]).await;
    let mut crowd = Crowd::staying(&fleet, &[1, 2]).await;
    let begin = Instant::now();
    for cycle in 0..CYCLES {
        let before = crowd.traffic.ledger.len();
        fleet.nodes[0].process.pause();
        // The length of the stop is what this is about.
        sleep(SLOW.0).await;
        fleet.nodes[0].process.resume();
        sleep(SLOW.1).await;
        let sent = crowd.traffic.ledger.len() - before;
        println!("{:?}: {sent} in cycle {cycle}", begin.elapsed());
        assert!(sent > 0, "nothing was sent in cycle {cycle}");
    }
    // Once no node may fence it any more, what it is home of waits for it, or for the store to tell that it is gone.
    crowd.waited("with a slow node", SLOW.0 + TAKE_OVER + crowd.may_take());
    for node in [1, 2] {
        let fenced = fleet.metric(node, "natter_homes_fenced_total ").await;
        println!("node {node} fenced {fenced} incarnations");
        assert!(fenced <= FENCES, "node {node} fenced {fenced} incarnations in {:?}", begin.elapsed());
        assert!(fleet.metric(node, "natter_incarnations_lost_total ").await < 0.5, "node {node} was fenced");
    }
    assert!(fleet.metric_of(&[1, 2], "natter_homes_fenced_total ").await > 0.5, "it was never fenced");
    crowd.traffic.flows(200).await;
    fleet.all_live();
    crowd.check(&fleet, []).await;
}
