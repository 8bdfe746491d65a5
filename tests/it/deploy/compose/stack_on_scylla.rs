//! The mesh of docker-compose.yml without a container engine: three NATS servers, migrate, two nodes and the proxy,
//! each with its command, files and variables; only addresses and folders differ.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use natter::{
    auth::Minter,
    client::{Client, ClientOptions, Event},
    config::{Auth, Secret},
    model::UserId,
    nats_server::{find, free_ports},
    protocol::Body,
};
use serde_yaml_ng::Value;
use tempfile::TempDir;

use super::files::{SECRET, environment, filled, root, services, texts};
use crate::harness::{
    PATIENCE,
    cassandra::{Cassandra, missing},
    haproxy::haproxy,
    http,
    natter::natter,
    process::{Process, output},
    skip::skip,
    until,
    wait::until_within,
};

/// Three servers that start at the same time on a loaded machine may need several elections before JetStream has a leader,
/// and each takes seconds.
const ELECTION: Duration = Duration::from_secs(90);

/// Where each name and port of the compose file is on this machine.
pub struct Map(BTreeMap<String, String>);

impl Map {
    pub async fn new() -> Self {
        let mut ports = free_ports(13).unwrap().into_iter();
        let mut next = || format!("127.0.0.1:{}", ports.next().unwrap());
        let mut map = BTreeMap::new();
        for server in ["nats-1", "nats-2", "nats-3"] {
            for port in [4222, 6222, 8222] {
                map.insert(format!("{server}:{port}"), next());
            }
        }
        for name in ["natter-1:8080", "natter-2:8080", "proxy:8080", "proxy:8405"] {
            map.insert(name.to_owned(), next());
        }
        map.insert("scylla-1:9042".to_owned(), Cassandra::shared().await.addr(0).to_string());
        Self(map)
    }

    pub fn at(&self, name: &str) -> &str {
        &self.0[name]
    }

    /// Replaces every address in a text; `own` is the service whose listen addresses appear there.
    fn place(&self, own: &str, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, there) in &self.0 {
            text = text.replace(name, there);
            if let Some(port) = name.strip_prefix(&format!("{own}:")) {
                text = text.replace(&format!("0.0.0.0:{port}"), there);
                // The monitoring page is on the loopback address also there.
                text = text.replace(&format!("\"127.0.0.1:{port}\""), &format!("\"{there}\""));
            }
        }
        text
    }

    fn environment(&self, own: &str, service: &Value) -> Vec<(String, String)> {
        environment(service).into_iter().map(|(name, value)| (name, self.place(own, &value))).collect()
    }
}

/// The status and the body of a page.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    http::get(address, path).await.map(|answer| (answer.status, answer.body))
}

fn start_nats(map: &Map, name: &str, service: &Value, folder: &Path) -> Process {
    let mut command = Command::new(find(None).unwrap().path);
    for argument in texts(&service["command"]) {
        command.arg(argument.replace("/etc/natter", root().join("nats").to_str().unwrap()));
    }
    let store = folder.join(name);
    let store = store.to_str().unwrap();
    let variables = map.environment(name, service).into_iter();
    command.env_clear().envs(variables.map(|(key, value)| (key, value.replace("/data", store))));
    Process::start(command)
}

pub async fn start_nats_servers(map: &Map, all: &BTreeMap<String, &Value>, folder: &Path) -> [Process; 3] {
    let names = ["nats-1", "nats-2", "nats-3"];
    // All of them first: one alone never becomes healthy.
    let servers = names.map(|name| start_nats(map, name, all[name], folder));
    for name in names {
        // The health check of the file asks this very path.
        let monitor = map.at(&format!("{name}:8222"));
        let healthy = async || get(monitor, "/healthz").await.is_some_and(|(status, _)| status == 200);
        until_within(ELECTION, "the NATS server is healthy", healthy).await;
    }
    servers
}

pub fn start_node(map: &Map, name: &str, service: &Value, folder: &TempDir) -> Process {
    let mut command = natter(folder.path());
    command.arg("serve").envs(map.environment(name, service));
    Process::start(command)
}

pub async fn until_migrated(map: &Map, all: &BTreeMap<String, &Value>, folder: &TempDir) {
    let mut migrate = natter(folder.path());
    migrate.args(texts(&all["migrate"]["command"])).envs(map.environment("migrate", all["migrate"]));
    let migrated = output(migrate).await;
    assert!(migrated.status.success(), "{migrated:?}");
}

/// Waits as the engine does: by the file's health check.
pub async fn until_healthy(map: &Map, name: &str, service: &Value, folder: &TempDir, node: &mut Process) {
    node.ready(&format!("{name} is healthy"), async || {
        let mut health = natter(folder.path());
        health.args(&texts(&service["healthcheck"]["test"])[2..]).envs(map.environment(name, service));
        output(health).await.status.success()
    })
    .await;
}

/// The proxy, when it is healthy.
pub async fn start_proxy(map: &Map, program: &Path) -> Process {
    let door = map.at("proxy:8080");
    let mut command = Command::new(program);
    command
        .args(["-db", "-f", root().join("deploy/haproxy.cfg").to_str().unwrap()])
        .env("PROXY_BIND", door)
        .env("PROXY_METRICS_BIND", map.at("proxy:8405"))
        .env("NATTER_1", map.at("natter-1:8080"))
        .env("NATTER_2", map.at("natter-2:8080"))
        // Nothing listens there, as without the profile monitoring.
        .env("GRAFANA", "127.0.0.1:1");
    let proxy = Process::start(command);
    until("the proxy is healthy", async || get(door, "/healthz").await.is_some_and(|(s, _)| s == 200)).await;
    proxy
}

fn token(user: &str) -> String {
    let auth = Auth { hs256_secret: Some(Secret::new(SECRET)), ..Auth::default() };
    let minter = Minter::from_config(&auth).unwrap();
    minter.mint(&UserId::new(user).unwrap(), std::time::Duration::from_secs(600)).unwrap()
}

/// Connects over one address; returns the client and the node it reached.
pub async fn connect(address: &str, user: &str) -> (Client, String) {
    let options = ClientOptions::new(format!("ws://{address}/v1/ws"), token(user), "d1");
    let client = Client::connect(options).await.unwrap();
    loop {
        if let Event::Connected(welcome) = client.next().await.expect("the client must connect") {
            return (client, welcome.node);
        }
    }
}

async fn hears(client: &Client, text: &str) {
    let heard = async {
        while let Some(event) = client.next().await {
            if matches!(&event, Event::Message(message) if message.body == Some(Body::text(text))) {
                return;
            }
        }
        panic!("the client ended before it heard {text}");
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never heard {text}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_runs_by_hand_and_users_talk_through_the_proxy() {
    if missing("the mesh of docker-compose.yml by hand").await {
        return;
    }
    let (folder, map, file) = (tempfile::tempdir().unwrap(), Map::new().await, filled());
    let all = services(&file);

    let _nats = start_nats_servers(&map, &all, folder.path()).await;
    until_migrated(&map, &all, &folder).await;

    let mut nodes = ["natter-1", "natter-2"].map(|name| start_node(&map, name, all[name], &folder));
    for (name, node) in ["natter-1", "natter-2"].iter().zip(&mut nodes) {
        until_healthy(&map, name, all[*name], &folder, node).await;
    }
    doctor_is_content(&map, all["natter-1"], &folder).await;

    let (alice, one) = connect(map.at("natter-1:8080"), "alice").await;
    let (bob, other) = connect(map.at("natter-2:8080"), "bob").await;
    assert_eq!((one.as_str(), other.as_str()), ("natter-1", "natter-2"));
    alice.send("@bob", Body::text("over three servers")).await.unwrap();
    hears(&bob, "over three servers").await;
    alice.close().await;
    bob.close().await;

    match haproxy() {
        Some(program) => through_the_proxy(&map, &program, &mut nodes).await,
        None => skip("the proxy of docker-compose.yml", "there is no haproxy; apt install haproxy"),
    }
}

async fn doctor_is_content(map: &Map, service: &Value, folder: &TempDir) {
    let mut doctor = natter(folder.path());
    doctor.args(["doctor", "--json"]).envs(map.environment("natter-1", service));
    let output = output(doctor).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn through_the_proxy(map: &Map, program: &Path, nodes: &mut [Process; 2]) {
    let door = map.at("proxy:8080");
    let proxy = start_proxy(map, program).await;

    // What the alerts and the dashboard ask the proxy for is there.
    let (status, counts) = get(map.at("proxy:8405"), "/metrics").await.unwrap();
    assert_eq!(status, 200);
    for line in
        ["haproxy_backend_active_servers{proxy=\"nodes\"} 2", "{proxy=\"nodes\",server=\"natter-1\",state=\"DOWN\"} 0"]
    {
        assert!(counts.contains(line), "{line} is not in\n{counts}");
    }

    // The page is at one URL; what is for operators is at none.
    assert_eq!(get(door, "/").await.unwrap().0, 200);
    for hidden in ["/metrics", "/readyz", "/metrics?x", "//metrics", "/%6detrics", "/METRICS"] {
        let (status, text) = get(door, hidden).await.unwrap();
        assert!(status == 404 && !text.contains("natter_"), "{hidden}: {status} {text}");
    }

    let mut met = BTreeMap::new();
    while met.len() < 2 {
        let user = format!("user{}", met.len());
        let (client, node) = connect(door, &user).await;
        // The node with the fewest sockets gets the next one, so two clients are on two nodes.
        assert!(met.insert(node, (client, user)).is_none(), "both clients came to one node: {}", proxy.log());
    }
    let (first, second) = (&met["natter-1"], &met["natter-2"]);
    first.0.send(&format!("@{}", second.1), Body::text("through the proxy")).await.unwrap();
    hears(&second.0, "through the proxy").await;

    // A draining node gets no new sockets, and its old ones find the other node through the same door.
    nodes[0].terminate();
    nodes[0].ended().await;
    second.0.send(&format!("@{}", first.1), Body::text("after the drain")).await.unwrap();
    hears(&first.0, "after the drain").await;
}
