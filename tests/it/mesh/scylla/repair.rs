//! `natter repair heads` as a shell runs it: messages whose heads were lost reach those they are for, with all nodes stopped
//! and beside nodes that run.

use std::{process::Command, sync::Arc};

use natter::{
    model::{Body, Cid, ConvId, Device, DeviceId, NewMessage, Seq, UserId},
    nats_server::{NatsServer, ServerOptions},
    protocol::Encoding,
    store::{
        Inbox as _, Logs as _, Span,
        scylla::{ScyllaOptions, ScyllaStore},
        slots::{Slot, Slots as _, Take},
    },
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    fleet::{Fleet, QUICK, Ways},
    people::patiently,
};
use crate::{
    harness::{
        cassandra::{Cassandra, Taking},
        natter::natter,
        process::output,
    },
    mesh::Peer,
};

const ALL: Span = Span { rows: 10_000, bytes: usize::MAX };

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn phone() -> Device {
    Device::new(user("bob"), DeviceId::new("phone").unwrap())
}

fn with_bob(other: &str) -> ConvId {
    ConvId::direct(&user(other), &user("bob"))
}

async fn session(options: &ScyllaOptions) -> Session {
    SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap()
}

/// As a power cut that took every head with it.
async fn lose_heads(options: &ScyllaOptions) {
    session(options).await.query_unpaged(format!("TRUNCATE {}.inbox", options.keyspace), &[]).await.unwrap();
}

/// As a restored `inbox` that is older than the messages.
async fn old_head(options: &ScyllaOptions, user: &str, conv: &ConvId, head: i64) {
    let cql = format!(
        "INSERT INTO {}.inbox (user, conv, head, ts) VALUES (?, ?, ?, 1) USING TIMESTAMP {head}",
        options.keyspace
    );
    session(options).await.query_unpaged(cql, (user, conv.as_str(), head)).await.unwrap();
}

async fn fill(store: &Arc<Taking>, from: &str, count: usize) {
    let message = |n: usize| {
        let body = Body::text(&format!("{from} {n}"));
        NewMessage::of_user(user(from), Cid::new(&n.to_string()).unwrap(), 1, body)
    };
    for first in (0..count).step_by(256) {
        let some = (first..count.min(first + 256)).map(message).collect();
        for answer in store.append(&with_bob(from), some).await {
            answer.unwrap();
        }
    }
}

/// Where bob's phone is behind, and how far.
async fn gaps(store: &ScyllaStore) -> Vec<(String, Seq)> {
    let page = store.gaps(&phone(), None, 100, 100).await.unwrap();
    page.items.into_iter().map(|gap| (gap.conv.to_string(), gap.head)).collect()
}

async fn connect(options: &ScyllaOptions) -> Arc<ScyllaStore> {
    ScyllaStore::connect(ScyllaOptions { node: "reader".to_owned(), ..options.clone() }).await.unwrap()
}

fn repair(folder: &TempDir, options: &ScyllaOptions, flags: &[&str]) -> Command {
    let mut command = natter(folder.path());
    command
        .args(["repair", "heads", "--json", "--rate", "5000"])
        .args(flags)
        .env("NATTER_STORE__KIND", "scylla")
        .env("NATTER_STORE__SCYLLA__CONTACT_POINTS", options.contact_points.join(","))
        .env("NATTER_STORE__SCYLLA__KEYSPACE", &options.keyspace);
    command
}

async fn done(command: Command) -> Value {
    let output = output(command).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_nodes_stopped_every_head_comes_to_the_end_of_its_log() {
    let (folder, options) = (tempfile::tempdir().unwrap(), Cassandra::shared().await.migrated().await);
    let store = Taking::connect(&options).await;
    for (from, count) in [("alice", 4_100), ("carol", 1), ("dave", 70)] {
        fill(&store, from, count).await;
    }
    drop(store);
    lose_heads(&options).await;
    old_head(&options, "alice", &with_bob("alice"), 5).await;
    old_head(&options, "bob", &with_bob("dave"), 70).await;
    let reader = connect(&options).await;
    assert_eq!(gaps(&reader).await, [("dm:bob:dave".to_owned(), 70)], "what has no head is found by nobody");

    let first = done(repair(&folder, &options, &["--stopped"])).await;
    assert_eq!(first, json!({"conversations": 3, "behind": 3, "complete": true, "next": null}));
    let whole = [("dm:alice:bob".to_owned(), 4_100), ("dm:bob:carol".to_owned(), 1), ("dm:bob:dave".to_owned(), 70)];
    assert_eq!(gaps(&reader).await, whole);
    let rows = reader.read_after(&with_bob("alice"), 0, ALL).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=4_100).collect::<Vec<_>>());
    let dave = reader.conversations(&user("dave"), None, 10).await.unwrap();
    assert_eq!(dave.items[0].head, 70, "the sender's head too");

    let again = done(repair(&folder, &options, &["--stopped"])).await;
    assert_eq!((&again["conversations"], &again["behind"]), (&json!(3), &json!(0)));
    let rest = done(repair(&folder, &options, &["--stopped", "--from", "9223372036854775807"])).await;
    assert_eq!(rest["conversations"], json!(0), "nothing is above the last token");
    // What it took is free for the next one, who need not wait or fence.
    assert_eq!(reader.take(Slot::of(&with_bob("alice"))).await.unwrap(), Take::Mine);
}

/// Bob goes offline: what comes from now on waits for his phone.
async fn leave(fleet: &Fleet, bob: Peer) {
    bob.vanish();
    patiently("bob is gone", async || fleet.metric(1, "natter_sessions ").await < 0.5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_running_nodes_an_offline_user_gets_the_message_after_it_and_not_before() {
    let (folder, options) = (tempfile::tempdir().unwrap(), Cassandra::shared().await.migrated().await);
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let ways = vec![Ways::straight(&nats, &options); 2];
    let mut fleet = Fleet::start(&ways, &nats.passwords().node, &options, QUICK).await;
    let command = || {
        let mut command = repair(&folder, &options, &[]);
        command
            .env("NATTER_NATS__URLS", nats.client_url())
            .env("NATTER_NATS__USER", "node")
            .env("NATTER_NATS__PASSWORD", &nats.passwords().node);
        command
    };
    let bob = Peer::join(&fleet.nodes[1].url(), "bob", "phone", Encoding::Json).await;
    bob.caught_up().await;
    leave(&fleet, bob).await;
    let alice = Peer::join(&fleet.nodes[0].url(), "alice", "phone", Encoding::Json).await;
    for n in 0..5 {
        alice.send("@bob", &n.to_string(), "hi").await;
    }
    // The homes of both nodes have the conversations open all the time.
    lose_heads(&options).await;
    let before = Peer::join(&fleet.nodes[1].url(), "bob", "phone", Encoding::Json).await;
    before.caught_up().await;
    assert_eq!(before.seqs("dm:alice:bob"), [] as [Seq; 0]);
    leave(&fleet, before).await;
    let said = done(command()).await;
    assert_eq!((&said["conversations"], &said["behind"]), (&json!(1), &json!(1)));
    let after = Peer::join(&fleet.nodes[1].url(), "bob", "phone", Encoding::Json).await;
    after.message("dm:alice:bob", 5).await;
    assert_eq!(after.seqs("dm:alice:bob"), [1, 2, 3, 4, 5]);
    for node in 0..2 {
        assert!(fleet.metric(node, "natter_incarnations_lost_total ").await < 0.5, "a repair took a home away");
    }

    // Nodes that are gone and did not say so: it takes what they had, and gives it back.
    fleet.nodes.iter_mut().for_each(|node| node.process.kill9());
    lose_heads(&options).await;
    let said = done(command()).await;
    assert_eq!((&said["conversations"], &said["behind"]), (&json!(1), &json!(1)));
    assert_eq!(fleet.store.top(&with_bob("alice")).await.unwrap(), 5);
}
