//! The service that is asked before messages are stored, where the nodes share a CQL server (R28).

use natter::store::Logs as _;

use super::fleet::{Fleet, QUIET};
use crate::{
    harness::cassandra::Cassandra,
    mesh::hook::{self, CONV},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_answered_with_its_place_whatever_the_service_says() {
    let options = Cassandra::shared().await.lent().await;
    let more = format!("{QUIET}[hook]\nservice = \"billing\"\n");
    let (fleet, nats, _folder) = Fleet::with(2, &options, &more).await;
    hook::stored_is_answered([&fleet.nodes[0].url(), &fleet.nodes[1].url()], &nats).await;
    assert_eq!(fleet.store.top(&CONV.parse().unwrap()).await, Ok(2));
}
