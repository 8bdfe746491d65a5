//! An upgrade, one node after the other: the order of deploy/upgrade.sh, and what users notice of it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use natter::{
    client::{Client, Event},
    protocol::Body,
};
use serde_yaml_ng::Value;
use tempfile::TempDir;

use super::{
    files::{filled, root, services},
    stack_on_scylla::{Map, connect, get, start_nats_servers, start_node, start_proxy, until_healthy, until_migrated},
};
use crate::harness::{
    cassandra::missing,
    haproxy::haproxy,
    process::{Process, output},
    skip::skip,
    until,
};

/// A `docker` that writes down what it is asked, and fails where `FAIL` is part of that.
const DOCKER: &str = r#"#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *"${FAIL:-nothing of the kind}"*) exit 1 ;; esac
"#;

async fn upgrade(fail: Option<&str>) -> (bool, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path().join("docker");
    fs::write(&docker, DOCKER).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let calls = folder.path().join("calls");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut script = Command::new("sh");
    script.arg(root().join("deploy/upgrade.sh")).env("PATH", path).env("CALLS", &calls).env("SETTLE", "0");
    script.envs(fail.map(|words| ("FAIL", words)));
    let done = output(script).await;
    let said = fs::read_to_string(calls).unwrap();
    (done.status.success(), said.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn the_script_migrates_and_then_takes_one_node_after_the_other() {
    let (done, calls) = upgrade(None).await;
    let at = |words: &str| {
        let found: Vec<usize> =
            calls.iter().enumerate().filter(|(_, call)| call.contains(words)).map(|(i, _)| i).collect();
        assert_eq!(found.len(), 1, "{words} once in {calls:#?}");
        found[0]
    };
    assert!(done, "{calls:#?}");
    let order =
        [at("build migrate"), at("run --rm --no-deps migrate"), at("120 natter-1"), at("120 natter-2"), at("doctor")];
    assert!(order.is_sorted(), "{calls:#?}");
    for node in services(&filled()).keys().filter(|name| name.starts_with("natter-")) {
        let call = &calls[at(&format!("120 {node}"))];
        // Waits until the node is ready, and touches nothing else.
        assert!(call.contains("up ") && call.contains("--wait ") && call.contains("--no-deps"), "{call}");
    }
    for (failing, last) in [("migrate", "build migrate"), ("run --rm", "run --rm"), ("natter-1", "natter-1")] {
        let (done, calls) = upgrade(Some(failing)).await;
        assert!(!done && calls.last().unwrap().contains(last), "went on after {failing}: {calls:#?}");
    }
}

/// Sends one message after the other until told to stop; each is answered, however often the client has to reconnect.
async fn talk(client: Client, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> u64 {
    for number in 1.. {
        if stop.load(Ordering::Acquire) {
            return number - 1;
        }
        let sent = client.send("@dave", Body::text(&number.to_string())).await.expect("every message is answered");
        assert_eq!(sent.seq, number, "one seq for each message");
        answered.store(number, Ordering::Release);
    }
    unreachable!("it ran out of numbers");
}

/// What arrives, and each node that the client was on.
async fn listen(client: Client, heard: Arc<AtomicU64>) {
    while let Some(event) = client.next().await {
        if let Event::Message(message) = event {
            let next = heard.load(Ordering::Acquire) + 1;
            assert_eq!(
                (message.seq, message.body),
                (next, Some(Body::text(&next.to_string()))),
                "out of order, or lost"
            );
            heard.store(next, Ordering::Release);
        }
    }
}

struct Mesh<'a> {
    map: &'a Map,
    all: &'a BTreeMap<String, &'a Value>,
    folder: &'a TempDir,
    nodes: BTreeMap<&'static str, Process>,
}

impl Mesh<'_> {
    /// What `up --wait` does for a service whose image has changed: SIGTERM, wait for the end, start, wait for health.
    async fn replace(&mut self, name: &'static str) {
        let mut old = self.nodes.remove(name).unwrap();
        old.terminate();
        assert!(old.ended().await.success(), "{name} did not end in an orderly way: {}", old.log());
        let mut new = start_node(self.map, name, self.all[name], self.folder);
        until_healthy(self.map, name, self.all[name], self.folder, &mut new).await;
        self.nodes.insert(name, new);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_talking_while_the_nodes_are_replaced_one_after_the_other() {
    const PART: &str = "the upgrade of docker-compose.yml by hand";
    if missing(PART).await {
        return;
    }
    let Some(program) = haproxy() else { return skip(PART, "there is no haproxy; apt install haproxy") };
    let (folder, map, file) = (tempfile::tempdir().unwrap(), Map::new().await, filled());
    let all = services(&file);
    let _nats = start_nats_servers(&map, &all, folder.path()).await;
    until_migrated(&map, &all, &folder).await;
    let mut mesh = Mesh { map: &map, all: &all, folder: &folder, nodes: BTreeMap::new() };
    for name in ["natter-1", "natter-2"] {
        let mut node = start_node(&map, name, all[name], &folder);
        until_healthy(&map, name, all[name], &folder, &mut node).await;
        mesh.nodes.insert(name, node);
    }
    let _proxy = start_proxy(&map, &program).await;

    let door = map.at("proxy:8080");
    // Names of their own: the keyspace is that of the compose file, and other tests use it too.
    let ((carol, first), (dave, second)) = (connect(door, "carol").await, connect(door, "dave").await);
    assert_ne!(first, second, "the proxy spreads them");
    let (stop, answered, heard) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let reader = carol.clone();
    let echoes = tokio::spawn(async move { while reader.next().await.is_some() {} });
    let talking = tokio::spawn(talk(carol.clone(), stop.clone(), Arc::clone(&answered)));
    let listening = tokio::spawn(listen(dave.clone(), Arc::clone(&heard)));
    let more = async |what: &str| {
        let before = answered.load(Ordering::Acquire);
        until(what, async || answered.load(Ordering::Acquire) >= before + 20).await;
    };
    more("they talk before it").await;
    for name in ["natter-1", "natter-2"] {
        mesh.replace(name).await;
        let up = format!("haproxy_server_status{{proxy=\"nodes\",server=\"{name}\",state=\"UP\"}} 1");
        let counts = map.at("proxy:8405");
        until("the proxy has it back", async || {
            get(counts, "/metrics").await.is_some_and(|(_, text)| text.contains(&up))
        })
        .await;
        more("they talk after a node was replaced").await;
    }
    stop.store(true, Ordering::Release);
    let said = talking.await.expect("carol's messages were all answered");
    until("dave has all of them", async || {
        assert!(!listening.is_finished(), "dave's messages came wrong, see above");
        heard.load(Ordering::Acquire) == said
    })
    .await;
    carol.close().await;
    dave.close().await;
    listening.await.expect("everything came once and in order");
    echoes.await.unwrap();
}
