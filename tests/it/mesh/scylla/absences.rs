//! The scenarios of `mesh::absences` on a node with a CQL server.

use natter::store::{Store, scylla::ScyllaOptions};

use super::fleet::{Fleet, QUIET};
use crate::{
    harness::cassandra::{Cassandra, Taking},
    mesh::{
        absences::{BACKLOG, WINDOW, begin_late, catch_up, miss_everything, miss_too_much},
        resumed::device,
    },
};

/// A keyspace in which `fill` has happened before any node was there.
async fn filled(fill: impl AsyncFnOnce(&Store)) -> ScyllaOptions {
    let options = Cassandra::shared().await.migrated().await;
    let store = Taking::connect(&options).await;
    fill(&store.parts()).await;
    store.retire().await;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_everything_is_caught_up_in_order() {
    let device = device("bob", "phone");
    let options = filled(async |store| miss_everything(store, &device).await).await;
    let (fleet, _nats, _folder) = Fleet::with(1, &options, QUIET).await;
    fleet.until_ready(true).await;
    catch_up(&fleet.nodes[0].url(), &device).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_misses_more_than_the_bound_gets_the_newest_part() {
    let options = filled(async |store| miss_too_much(store, &device("bob", "phone")).await).await;
    let more = format!("limits.backlog_per_conversation = {BACKLOG}\nlimits.window = {WINDOW}\n");
    let (fleet, _nats, _folder) = Fleet::with(1, &options, &format!("{QUIET}{more}")).await;
    fleet.until_ready(true).await;
    begin_late(&fleet.nodes[0].url()).await;
    assert!(fleet.metric(0, "natter_backlogs_cut_total").await >= 4.0);
}
