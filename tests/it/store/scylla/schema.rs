//! Migrations, and stores that find the wrong schema.

use natter::store::scylla::{Migrated, ScyllaError, migrate};
use scylla::client::session_builder::SessionBuilder;

use super::*;
use crate::harness::cassandra::{Cassandra, keyspace};

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_migrate_at_once_and_one_does_the_work() {
    let options = Cassandra::shared().await.options(&keyspace());
    let done = futures_util::future::join_all((0..4).map(|_| migrate(&options))).await;
    let done: Vec<Migrated> = done.into_iter().map(|one| one.expect("each node must see it through")).collect();
    assert_eq!(done.iter().filter(|one| one.from == 0).count(), 1, "{done:?}");
    assert!(done.iter().all(|one| one.to == done[0].to));
    assert_eq!(migrate(&options).await.unwrap(), Migrated { from: done[0].to, to: done[0].to });
    connect(&options).await.health().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_runs_on_its_own_schema_and_on_the_next_one_and_refuses_all_others() {
    let cassandra = Cassandra::shared().await;
    let options = cassandra.options(&keyspace());
    let missing =
        natter::store::scylla::ScyllaStore::connect(options.clone()).await.err().expect("there is no schema yet");
    assert!(matches!(missing, ScyllaError::SchemaMissing { .. }), "{missing}");
    let done = migrate(&options).await.unwrap();
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let raise = async |to: i32| {
        let newer = format!("INSERT INTO {}.schema_version (id, version) VALUES (0, {to})", options.keyspace);
        session.query_unpaged(newer, &[]).await.unwrap();
    };
    // The version before is deployed again: its migration changes nothing, and its nodes run.
    raise(done.to + 1).await;
    assert_eq!(migrate(&options).await.unwrap(), Migrated { from: done.to + 1, to: done.to + 1 });
    connect(&options).await.health().await.unwrap();
    raise(done.to + 2).await;
    let refused =
        natter::store::scylla::ScyllaStore::connect(options.clone()).await.err().expect("the schema is too new");
    assert!(matches!(refused, ScyllaError::SchemaNewer { have, want } if have == want + 2), "{refused}");
    assert!(matches!(migrate(&options).await, Err(ScyllaError::SchemaNewer { .. })));
}

#[tokio::test]
async fn options_that_cannot_be_right_are_refused_before_connecting() {
    let wrong = [
        ScyllaOptions { keyspace: "a b".to_owned(), ..ScyllaOptions::default() },
        ScyllaOptions { keyspace: String::new(), ..ScyllaOptions::default() },
        ScyllaOptions { datacenter: Some("x' AND".to_owned()), ..ScyllaOptions::default() },
        ScyllaOptions { contact_points: Vec::new(), ..ScyllaOptions::default() },
        ScyllaOptions { replication_factor: 0, ..ScyllaOptions::default() },
    ];
    for options in wrong {
        let refused = natter::store::scylla::ScyllaStore::connect(options.clone()).await.err();
        assert!(matches!(refused, Some(ScyllaError::Option(_))), "{options:?}: {refused:?}");
    }
    let secret = ScyllaOptions { password: Some("swordfish".to_owned()), ..ScyllaOptions::default() };
    assert!(!format!("{secret:?}").contains("swordfish"));
}
