//! The durable queue: nodes on one keyspace, of which one is killed in the middle (R27).

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use natter::nats_server::{NatsServer, ServerOptions};

use super::{
    fleet::{Fleet, QUIET, Ways},
    people::patiently,
};
use crate::{
    harness::cassandra::Cassandra,
    mesh::{
        queue::{Billing, Inside, cids, queued},
        quiet_config,
    },
};

const USERS: usize = 40;
const EACH: usize = 250;

/// What all of it may take beside a busy machine: every message of a user waits for the one before it.
const WHOLE: Duration = Duration::from_secs(240);

/// In memory where there is such a folder: the server syncs each message, and that is all the time it would take.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_wait_for_two_nodes_of_which_one_is_killed_and_each_is_there_once_and_in_order() {
    let options = Cassandra::shared().await.migrated().await;
    let folder = quick_folder();
    let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
    let mut config = quiet_config();
    queued(&mut config);
    let (inside, billing) = (Inside::of(&nats, &config).await, Billing::connect(&nats).await);
    let billing = &billing;
    let each = (0..USERS).map(|user| async move {
        for n in 0..EACH {
            billing.say(&format!("u{user}"), &format!("c{n}")).await;
        }
    });
    stream::iter(each).buffer_unordered(USERS).collect::<Vec<_>>().await;
    let all = (USERS * EACH) as u64;
    assert_eq!(inside.waiting().await, all);
    let ways = vec![Ways::straight(&nats, &options); 2];
    let more = format!("{QUIET}[queue]\nenabled = true\nretry_ms = 20\nretry_max_ms = 500\n");
    let mut fleet = Fleet::start(&ways, &nats.passwords().node, &options, &more).await;
    let stored = async |node| fleet.metric(node, "natter_queue_messages_total{outcome=\"stored\"").await;
    patiently("both have taken some", async || stored(0).await > 200.0 && stored(1).await > 200.0).await;
    let before = inside.waiting().await;
    assert!(before > all / 4, "only {before} are left: this is not the middle");
    fleet.nodes[0].process.kill9();
    inside.is_empty_within(WHOLE).await;
    let in_order: Vec<_> = (0..EACH).map(|n| format!("c{n}")).collect();
    for user in 0..USERS {
        assert_eq!(cids(&*fleet.store, &format!("dm:billing:u{user}")).await, in_order, "u{user}");
    }
    assert_eq!(inside.dead().await, []);
}
