//! `natter migrate` and `natter serve` on a CQL server, as a shell runs them.

use std::process::Command;

use natter::nats_server::{NatsServer, ServerOptions, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::nats_server::until,
    harness::{
        cassandra::{self, Cassandra, keyspace},
        running::{Running, natter, output},
        skip::skip,
    },
};

fn missing(part: &str) -> bool {
    cassandra::available().is_err_and(|why| {
        skip(part, &why);
        true
    })
}

/// A command that knows the cluster and the keyspace by its environment.
async fn on_cluster(folder: &TempDir, keyspace: &str) -> Command {
    let options = Cassandra::shared().await.options(keyspace);
    let mut command = natter(folder.path());
    command
        .env("NATTER_STORE__KIND", "scylla")
        .env("NATTER_STORE__SCYLLA__CONTACT_POINTS", options.contact_points.join(","))
        .env("NATTER_STORE__SCYLLA__KEYSPACE", keyspace)
        .env("NATTER_STORE__SCYLLA__REPLICATION_FACTOR", "1");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_at_once_make_one_schema_and_the_next_has_nothing_to_do() {
    if missing("migrate on Cassandra") {
        return;
    }
    let (folder, keyspace) = (tempfile::tempdir().unwrap(), keyspace());
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut command = on_cluster(&folder, &keyspace).await;
        command.args(["migrate", "--json"]);
        all.push(output(command));
    }
    let mut made = 0;
    for output in futures_util::future::join_all(all).await {
        assert!(output.status.success(), "{output:?}");
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        made += i32::from(done["changed"] == json!(true));
        assert_eq!(done["keyspace"], json!(keyspace));
    }
    assert_eq!(made, 1, "one must make the schema, the others find it made");
    let mut command = natter(folder.path());
    let points = Cassandra::shared().await.options(&keyspace).contact_points.join(",");
    command.args(["migrate", "--contact-points", &points, "--keyspace", &keyspace, "--replication-factor", "1"]);
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("nothing to do"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("replication factor 1"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_is_not_there_is_told_with_those_that_are() {
    if missing("migrate to a wrong datacenter") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = on_cluster(&folder, &keyspace()).await;
    command.args(["migrate", "--datacenter", "elsewhere"]);
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("elsewhere") && said.contains("datacenter1"), "{said}");
}

#[test]
fn the_embedded_store_has_nothing_to_migrate() {
    let folder = tempfile::tempdir().unwrap();
    let output = natter(folder.path()).arg("migrate").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: set store.kind"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_refuses_a_missing_schema_and_makes_it_when_asked() {
    if missing("serve on Cassandra") {
        return;
    }
    let (folder, keyspace) = (tempfile::tempdir().unwrap(), keyspace());
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let address = format!("127.0.0.1:{}", free_ports(1).unwrap()[0]);
    let serve = async |flags: &[&str]| {
        let mut command = on_cluster(&folder, &keyspace).await;
        command
            .args(["serve", "--listen", &address, "--nats", &nats.client_url()])
            .args(flags)
            .env("NATTER_NATS__USER", "node")
            .env("NATTER_NATS__PASSWORD", &nats.passwords().node)
            .env("NATTER_AUTH__HS256_SECRET", "a-secret-that-is-long-enough-for-hs256");
        command
    };
    let refused = output(serve(&[]).await).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("natter migrate") && said.contains("--migrate"), "{said}");

    let mut node = Running::start(serve(&["--migrate"]).await, folder.path().join("node.log"));
    until("the node is ready", async || {
        assert!(node.exited().is_none(), "the node ended: {}", node.log());
        let mut health = natter(folder.path());
        health.args(["health", &address]);
        output(health).await.status.success()
    })
    .await;
    assert!(node.log().contains("one copy of each row"), "{}", node.log());
    assert!(counted(&address).await > 0, "the driver's requests must be among the metrics");
    node.terminate();
    until("the node has drained", async || node.exited().is_some()).await;
    assert!(node.exited().unwrap().success(), "{}", node.log());
}

/// What the node says of its driver's requests.
async fn counted(address: &str) -> u64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("natter_store_requests_total "));
    line.unwrap_or_else(|| panic!("no such metric in {text}")).parse().unwrap()
}
