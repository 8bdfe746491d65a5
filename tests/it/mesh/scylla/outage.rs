//! The CQL server freezes and dies under the nodes; of three servers, one dies.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    fleet::Fleet,
    people::{Person, check},
    traffic::Traffic,
};
use crate::harness::cassandra::Cassandra;

const LANES: usize = 4;

/// Two people on two nodes, both writing all the time.
async fn talk(fleet: &Fleet) -> (Person, Person, Traffic) {
    let alice = Person::join(fleet.urls(0), "alice", "d").await;
    let bob = Person::join(fleet.urls(1), "bob", "d").await;
    let mut traffic = Traffic::default();
    for _ in 0..LANES {
        traffic.lane(&alice, &["bob"], 0..0);
        traffic.lane(&bob, &["alice"], 0..0);
    }
    (alice, bob, traffic)
}

/// Error frames that the nodes sent.
async fn refusals(fleet: &Fleet) -> f64 {
    fleet.metric(0, "natter_errors_total").await + fleet.metric(1, "natter_errors_total").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_outlive_a_server_that_freezes_and_dies() {
    let mut server = Cassandra::start(1).await;
    let options = server.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(2, &options).await;
    let (alice, bob, mut traffic) = talk(&fleet).await;
    traffic.flows(100).await;

    server.pause(0);
    let thaw = Instant::now() + Duration::from_secs(10);
    fleet.until_ready(false).await;
    sleep_until(thaw).await;
    assert_eq!((fleet.ready(0).await, fleet.ready(1).await), (Some(false), Some(false)), "red as long as it is frozen");
    server.resume(0);
    let thawed = Instant::now();
    fleet.until_ready(true).await;
    traffic.flows(100).await;
    println!("100 sends answered {:?} after the thaw", thawed.elapsed());

    server.kill9(0);
    fleet.until_ready(false).await;
    server.restart(0).await;
    let back = Instant::now();
    fleet.until_ready(true).await;
    traffic.flows(100).await;
    println!("100 sends answered {:?} after the restart", back.elapsed());

    fleet.all_live();
    assert!(refusals(&fleet).await > 0.0, "ten frozen seconds must have been noticed");
    let ledger = traffic.stop().await;
    check(&fleet.store, &ledger, &[&alice, &bob]).await;
}

/// Each conversation has one writing node: two that write one wait for each other even when all servers are well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_servers_dies_and_only_what_it_was_doing_is_refused() {
    let mut servers = Cassandra::start(3).await;
    let options = servers.migrated().await;
    let (mut fleet, _nats, _folder) = Fleet::simple(2, &options).await;
    let alice = Person::join(fleet.urls(0), "alice", "d").await;
    let bob = Person::join(fleet.urls(1), "bob", "d").await;
    let carol = Person::join(fleet.urls(1), "carol", "d").await;
    let mut traffic = Traffic::default();
    for _ in 0..LANES {
        traffic.lane(&alice, &["bob"], 0..0);
        traffic.lane(&bob, &["carol"], 0..0);
    }
    traffic.flows(200).await;
    let before = refusals(&fleet).await;

    servers.kill9(1);
    traffic.flows(100).await;
    let at_its_death = refusals(&fleet).await - before;
    traffic.flows(300).await;
    let after_it = refusals(&fleet).await - before - at_its_death;
    fleet.until_ready(true).await;
    fleet.all_live();

    let ledger = traffic.stop().await;
    check(&fleet.store, &ledger, &[&alice, &bob, &carol]).await;
    let in_flight = 2 * LANES;
    assert!(at_its_death <= in_flight as f64, "{at_its_death} error frames for {in_flight} sends in flight");
    assert_eq!(after_it, 0.0, "error frames although two of three servers are well");
}
