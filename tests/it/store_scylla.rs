//! The ScyllaDB engine on a real CQL server: what only several nodes, or a failing cluster, can show.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use natter::{
    model::{Cid, ConvId, DeviceId, Seq, UserId},
    store::{
        Appended, NewMessage, Row, Span, Store, StoreError, StoreResult,
        scylla::{Migrated, ScyllaError, ScyllaOptions, ScyllaStore, Step, migrate},
    },
};
use tokio::time::Instant;

use crate::{cassandra::Cassandra, proxy::Proxy};

const ALL: Span = Span { rows: 100_000, bytes: usize::MAX };

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn conv() -> ConvId {
    ConvId::direct(&user("alice"), &user("bob"))
}

fn message(sender: &str, cid: &str) -> NewMessage {
    let body = Bytes::from(format!("body of {cid}"));
    NewMessage { sender: user(sender), cid: Cid::new(cid).unwrap(), ts: 1_000, body }
}

async fn append(store: &Arc<ScyllaStore>, message: NewMessage) -> StoreResult<Appended> {
    store.append(&conv(), vec![message]).await.remove(0)
}

async fn connect(options: &ScyllaOptions) -> Arc<ScyllaStore> {
    ScyllaStore::connect(options.clone()).await.expect("the store must connect")
}

#[tokio::test(flavor = "multi_thread")]
async fn first_light() {
    let store = Cassandra::shared().await.store().await;
    let answer = append(&store, message("alice", "x")).await.unwrap();
    assert_eq!(answer, Appended { seq: 1, ts: 1_000, fresh: true });
    let again = append(&store, message("alice", "x")).await.unwrap();
    assert_eq!(again, Appended { seq: 1, ts: 1_000, fresh: false });
    let page = store.read_after(&conv(), 0, ALL).await.unwrap();
    assert_eq!(page.len(), 1);
}
