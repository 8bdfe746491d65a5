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
    let options = Cassandra::shared().await.lent().await;
    ScyllaBed { store: Taking::connect_as("contract", &options).await, options }
}

store_contract!(scylla, super::bed);
room_contract!(rooms, super::bed);
kind_contract!(kinds, super::bed);
