//! The contract of every store, on this one.

use super::*;
use natter::store::Store;

use crate::{harness::cassandra::Cassandra, store::contract::Bed};

/// A store in its own keyspace.
struct ScyllaBed {
    options: ScyllaOptions,
    store: Arc<Taking>,
}

impl Bed for ScyllaBed {
    fn store(&self) -> Store {
        self.store.parts()
    }

    async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        self.store = Taking::connect_as("contract", &self.options).await;
    }
}

async fn bed() -> ScyllaBed {
    let options = Cassandra::shared().await.migrated().await;
    ScyllaBed { store: Taking::connect_as("contract", &options).await, options }
}

store_contract!(scylla, super::bed);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_to_a_room_for_now() {
    crate::store::contract::appending::nobody_writes_to_a_room_for_now(&mut bed().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_in_rooms_are_paged_and_forgotten() {
    crate::store::contract::rooms_listing::cursors_in_rooms_are_paged_and_forgotten(&mut bed().await).await;
}
