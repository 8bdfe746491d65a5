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
room_contract!(rooms, super::bed);

/// In one place, message by message: what stands beside them in a batch is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_refused_and_what_is_beside_them_is_stored() {
    use natter::model::{Kind, Refs};
    let bed = bed().await;
    let store = bed.store();
    let refs = Refs { reply_to: Some(1), ..Refs::default() }.boxed();
    let batch = vec![
        message("alice", "one"),
        NewMessage { refs, ..message("alice", "reply") },
        NewMessage { kind: Kind::Delete, ..message("alice", "delete") },
        message("bob", "two"),
    ];
    let answers = store.logs.append(&conv(), batch).await;
    let seqs: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(|stored| stored.seq)).collect();
    assert_eq!(seqs, [Some(1), None, None, Some(2)]);
    assert!(answers[1..3].iter().all(|answer| matches!(answer, Err(StoreError::Unsupported(_)))), "{answers:?}");
    assert_eq!(store.folds.folded(&conv(), 1, 9).await, Ok(Default::default()), "there is nothing to fold");
}
