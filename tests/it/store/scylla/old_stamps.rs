//! What a node that was killed leaves in the stamps of inboxes: it goes, and nothing that was clean comes back (R12).

use std::collections::BTreeMap;

use natter::store::slots::{Incarnation, Slot, Slots as _, Take};
use scylla::client::session::Session;

use super::{rules_alone::plain, *};
use crate::harness::{cassandra::Cassandra, until};

/// Bob's inbox, looked at from outside.
struct Stamped {
    session: Session,
    keyspace: String,
}

impl Stamped {
    async fn stamps(&self) -> BTreeMap<String, i64> {
        let cql = format!("SELECT stamps FROM {}.inbox WHERE user = 'bob' LIMIT 1", self.keyspace);
        let rows = self.session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
        let row = rows.maybe_first_row::<(Option<BTreeMap<String, i64>>,)>().unwrap();
        row.and_then(|(stamps,)| stamps).unwrap_or_default()
    }

    /// As a home does that raises a head.
    async fn stamp(&self, life: &str, stamp: i64) {
        let cql = format!("UPDATE {}.inbox USING TIMESTAMP ? SET stamps[?] = ? WHERE user = 'bob'", self.keyspace);
        self.session.query_unpaged(cql, (stamp, life, stamp)).await.unwrap();
    }

    async fn node(&self, life: &Incarnation, fenced: bool) {
        let cql =
            format!("INSERT INTO {}.nodes (name, incarnation, fenced) VALUES (?, ?, ?) IF NOT EXISTS", self.keyspace);
        let values = (life.node.as_str(), i64::try_from(life.number).unwrap(), fenced);
        self.session.query_unpaged(cql, values).await.unwrap();
    }
}

async fn clean(store: &Taking) -> String {
    until_ok(Duration::from_secs(30), "bob's stamps are clean", async || {
        let stamps = store.stamps(&phone()).await.unwrap();
        if stamps.clean { Ok(stamps.value.to_string()) } else { Err(format!("{stamps:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_left_goes_and_what_was_clean_does_not_come_back() {
    let options = Cassandra::shared().await.migrated().await;
    let seen = Stamped { session: plain(&options).await, keyspace: options.keyspace.clone() };
    let patient = connect(&options).await;
    let store = connect(&ScyllaOptions { gone_after: Duration::ZERO, ..options.clone() }).await;
    append(&store, message("alice", "x")).await.unwrap();
    let before = clean(&store).await;
    let [dead, alive] = ["dead", "alive"].map(|node| Incarnation { node: node.into(), number: 3 });
    seen.node(&dead, true).await;
    seen.node(&alive, false).await;

    seen.stamp("dead/3", 1_001).await;
    for _ in 0..3 {
        assert!(!patient.stamps(&phone()).await.unwrap().clean, "it is not known for long enough that it is dead");
    }
    let after = clean(&store).await;
    assert!(!seen.stamps().await.contains_key("dead/3"));
    assert_ne!(after, before, "whoever was told the former stamps must compare");
    // What was removed comes late, or again: it is hidden. What the dead node raised later is not.
    seen.stamp("dead/3", 1_001).await;
    assert_eq!(clean(&store).await, after);
    seen.stamp("dead/3", 1_003).await;
    assert!(!store.stamps(&phone()).await.unwrap().clean);
    assert!(![before, after].contains(&clean(&store).await));

    // The stamp of one that lives may be of a raise that is under way.
    seen.stamp("alive/3", 5).await;
    for _ in 0..3 {
        assert!(!store.stamps(&phone()).await.unwrap().clean);
    }
    assert_eq!(seen.stamps().await.get("alive/3"), Some(&5));
}

/// Clean ones cost little each, and nodes are started again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_does_not_keep_a_stamp_of_every_life() {
    let options = Cassandra::shared().await.migrated().await;
    let seen = Stamped { session: plain(&options).await, keyspace: options.keyspace.clone() };
    for number in 1..=20 {
        let life = Incarnation { node: "n".into(), number };
        seen.node(&life, true).await;
        seen.stamp(&life.to_string(), 2 * i64::try_from(number).unwrap()).await;
    }
    let store = connect(&ScyllaOptions { gone_after: Duration::ZERO, ..options.clone() }).await;
    until("most are removed", async || {
        store.stamps(&phone()).await.unwrap();
        seen.stamps().await.len() <= 10
    })
    .await;
    assert!(store.stamps(&phone()).await.unwrap().clean);
}

/// What hides a stamp relies on it: a home that was fenced long ago answers nothing for what it raises.
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_not_seen_alive_for_long_looks_again_before_it_answers() {
    let options = Cassandra::shared().await.migrated().await;
    let mut took = Vec::new();
    for gone_after in [options.gone_after, Duration::ZERO] {
        let store = connect(&ScyllaOptions { gone_after, ..options.clone() }).await;
        append(&store, message("alice", &format!("warm{gone_after:?}"))).await.unwrap();
        let before = store.driver().counts().requests;
        for n in 0..20 {
            append(&store, message("alice", &format!("{gone_after:?} {n}"))).await.unwrap();
        }
        took.push(store.driver().counts().requests - before);
        store.retire().await;
    }
    assert!(took[1] >= took[0] + 10, "a look for each raise: {took:?}");
}

/// A node that ends says so: nobody has to find out.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_closed_is_fenced() {
    let options = Cassandra::shared().await.migrated().await;
    let (one, other) = (connect(&options).await, connect(&options).await);
    append(&one, message("alice", "x")).await.unwrap();
    let slot = Slot::of(&conv());
    assert!(matches!((**other).take(slot).await, Ok(Take::Held(_))));
    one.close().await.unwrap();
    assert_eq!((**other).take(slot).await, Ok(Take::Mine));
}
