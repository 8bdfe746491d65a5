//! NATS servers without JetStream: the node says so, goes on without, and takes from the queue once it is there.

use std::{path::Path, process::Command};

use natter::{
    bus::{
        NatsOptions,
        queue::{QueueError, QueueLink},
    },
    config::{Config, ServerUrl},
    nats_server::{find, free_ports},
    store::{
        Store,
        embedded::{EmbeddedOptions, EmbeddedStore},
    },
};

use super::queued;
use crate::{
    harness::{process::Process, until},
    mesh::{Peer, TestNode, node, quiet_config},
};

fn server(port: u16, jetstream: Option<&Path>) -> Process {
    let mut command = Command::new(find(None).unwrap().path);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(folder) = jetstream {
        command.arg("-js").arg("-sd").arg(folder);
    }
    Process::start(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_on_without_jetstream_and_takes_from_the_queue_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1).unwrap()[0];
    let mut nats = server(port, None);
    let mut config: Config = quiet_config();
    queued(&mut config);
    config.nats.user = None;
    config.nats.urls = vec![ServerUrl::new(format!("nats://127.0.0.1:{port}"))];
    let options = NatsOptions::from_config("outside", &config.nats);
    let mut found = QueueLink::connect(&options).await;
    until("the server answers", async || {
        found = QueueLink::connect(&options).await;
        !matches!(found, Err(QueueError::Away(_)))
    })
    .await;
    assert!(matches!(found, Err(QueueError::NoJetStream)), "{found:?}");
    let store = EmbeddedStore::open(&folder.path().join("store"), EmbeddedOptions::from(&config)).unwrap();
    let node = TestNode::start(&config, Store::of(store)).await;
    until("it says that the queue is away", async || node.metric("natter_queue_away").await == 1.0).await;
    let [alice, bob] = [Peer::join(&node.url(), "alice", "d", natter::protocol::Encoding::Json).await, {
        Peer::join(&node.url(), "bob", "d", natter::protocol::Encoding::Json).await
    }];
    alice.send("@bob", "c1", "x").await;
    bob.message("dm:alice:bob", 1).await;
    nats.kill9();
    let _nats = server(port, Some(&folder.path().join("jetstream")));
    until("it has the parts of the queue", async || node.metric("natter_queue_parts").await == 17.0).await;
    assert_eq!(node.metric("natter_queue_away").await, 0.0);
    drop::<node::TestNode>(node);
}
