//! `natter migrate`, `serve` and `doctor` on a CQL server, as a shell runs them.

use std::process::Command;

use natter::{
    nats_server::{NatsServer, ServerOptions, find, free_ports},
    store::{
        scylla::{ScyllaOptions, ScyllaStore},
        slots::{Slot, Slots as _},
    },
};
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::doctor::{Place, fails, finding, report};
use crate::harness::{
    cassandra::{Cassandra, keyspace, missing},
    dev::Dev,
    http,
    natter::natter,
    process::{Process, output},
    until,
};

/// A command that gets the cluster and the keyspace from its environment.
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
    if missing("migrate on Cassandra").await {
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
    if missing("migrate to a wrong datacenter").await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = on_cluster(&folder, &keyspace()).await;
    command.args(["migrate", "--datacenter", "elsewhere"]);
    let output = output(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("elsewhere") && said.contains("datacenter1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_refuses_a_missing_schema_and_makes_it_when_asked() {
    if missing("serve on Cassandra").await {
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

    let mut node = Process::start(serve(&["--migrate"]).await);
    node.ready("the node is ready", async || {
        let mut health = natter(folder.path());
        health.args(["health", &address]);
        output(health).await.status.success()
    })
    .await;
    assert!(node.log().contains("one copy of each row"), "{}", node.log());
    let requests = http::metric(&address, "natter_store_requests_total ").await;
    assert!(requests > 0.0, "the driver's requests must be among the metrics");
    node.terminate();
    assert!(node.ended().await.success(), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_dev_are_processes_that_come_back_when_they_are_killed() {
    if missing("dev --processes on Cassandra").await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = on_cluster(&folder, &keyspace()).await;
    command.args(["dev", "--json", "--processes", "--data", "data", "--port", "0", "--nats-server"]);
    command.arg(find(None).unwrap().path);
    let mut dev = Dev::of(command).await;
    let (alice, bob) = (dev.join("alice", 0).await, dev.join("bob", 1).await);
    alice.send("@bob", "c1", "hi").await;
    bob.message("dm:alice:bob", 1).await;
    let pid = libc::pid_t::try_from(dev.said("/nodes/0/pid").as_u64().unwrap()).unwrap();
    // SAFETY: kill touches no memory; the node is a child of a process of ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(alice.closed().await.0, 1006);
    dev.process.says("was ended by signal 9").await;
    dev.process.says("n1 starts again").await;
    let page = dev.page(0).trim_start_matches("http://").to_owned();
    until("the node is ready again", async || http::get(&page, "/readyz").await.is_some_and(|r| r.status == 200)).await;
    let alice = dev.join("alice", 0).await;
    alice.send("@bob", "c2", "again").await;
    bob.message("dm:alice:bob", 2).await;
    dev.process.terminate();
    assert!(dev.process.ended().await.success(), "{}", dev.process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_cassandra_is_looked_at() {
    if missing("doctor on Cassandra").await {
        return;
    }
    let place = Place::new().await;
    let options = Cassandra::shared().await.migrated().await;
    let doctor = |keyspace: &str| {
        let mut command = place.doctor();
        command
            .env("NATTER_STORE__KIND", "scylla")
            .env("NATTER_STORE__SCYLLA__CONTACT_POINTS", options.contact_points.join(","))
            .env("NATTER_STORE__SCYLLA__KEYSPACE", keyspace);
        command
    };
    for _ in 0..2 {
        let output = output(doctor(&options.keyspace)).await;
        let seen = report(&output);
        assert_eq!(output.status.code(), Some(0), "{seen:#}");
        let checks = ["servers", "schema", "replication", "homes", "read", "conditional write", "commit log"];
        for check in checks.into_iter().chain(["small timestamps", "clock"]) {
            assert_eq!(finding(&seen, "store", check)["state"], "ok", "{check} in {seen:#}");
        }
        // The tests' server keeps one copy of each row.
        assert_eq!(finding(&seen, "store", "copies")["state"], "warn");
    }
    let says = fails(doctor("nothing_here"), "store", "schema").await;
    assert!(says.contains("nothing_here"), "{says}");
    let mut command = doctor(&options.keyspace);
    command.env("NATTER_STORE__SCYLLA__DATACENTER", "elsewhere");
    let output = output(command).await;
    let servers = finding(&report(&output), "store", "servers");
    assert!(servers["state"] == "fail" && servers["fix"].as_str().unwrap().contains("datacenter1"), "{servers}");
    let mut command = doctor(&options.keyspace);
    command.env("NATTER_STORE__SCYLLA__CONTACT_POINTS", "127.0.0.1:1");
    fails(command, "store", "cluster").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_replication_fails_until_somebody_says_that_it_is_repaired() {
    if missing("a change of the replication").await {
        return;
    }
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new().await);
    let options = Cassandra::shared().await.migrated().await;
    let run = async |mut command: Command, args: &[&str]| {
        command
            .args(args)
            .env("NATTER_STORE__KIND", "scylla")
            .env("NATTER_STORE__SCYLLA__CONTACT_POINTS", options.contact_points.join(","))
            .env("NATTER_STORE__SCYLLA__KEYSPACE", &options.keyspace);
        output(command).await
    };
    let migrate = async |args: &[&str]| {
        let done = run(natter(folder.path()), &[&["migrate", "--json"][..], args].concat()).await;
        assert!(done.status.success(), "{done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let replication = async || {
        let seen = run(place.doctor(), &[]).await;
        (seen.status.code(), finding(&report(&seen), "store", "replication"))
    };
    assert_eq!(replication().await.1["state"], "ok");
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let change = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
    session
        .query_unpaged(format!("ALTER KEYSPACE {} WITH replication = {change}", options.keyspace), &[])
        .await
        .unwrap();
    let (code, found) = replication().await;
    assert!(code == Some(1) && found["state"] == "fail", "{found}");
    assert!(found["fix"].as_str().unwrap().contains("natter migrate --repaired"), "{found}");
    // Migrating is part of each deployment: that alone says nothing of a repair.
    assert_eq!(migrate(&[]).await["replication_differs"], json!(true));
    assert_eq!(replication().await.1["state"], "fail");
    assert_eq!(migrate(&["--repaired"]).await["replication_differs"], json!(false));
    assert_eq!(replication().await.1["state"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_that_ended_are_told() {
    if missing("homes that ended").await {
        return;
    }
    let place = Place::new().await;
    let options = Cassandra::shared().await.migrated().await;
    let store = ScyllaStore::connect(ScyllaOptions { node: "n7".to_owned(), ..options.clone() }).await.unwrap();
    for number in 0..3 {
        store.take(Slot::new(number).unwrap()).await.unwrap();
    }
    let homes = async || {
        let mut command = place.doctor();
        command
            .env("NATTER_STORE__KIND", "scylla")
            .env("NATTER_STORE__SCYLLA__CONTACT_POINTS", options.contact_points.join(","))
            .env("NATTER_STORE__SCYLLA__KEYSPACE", &options.keyspace);
        finding(&report(&output(command).await), "store", "homes")
    };
    let says = |found: &Value| found["says"].as_str().unwrap().to_owned();
    let found = homes().await;
    assert!(found["state"] == "warn" && says(&found).contains("n7/1 (3 slots, not heard over NATS)"), "{found}");
    assert!(says(&found).contains("; 1021 slots without a home"), "{found}");
    store.fence(&store.incarnation()).await.unwrap();
    let found = homes().await;
    assert!(found["state"] == "warn" && says(&found).contains("n7/1 (3 slots, fenced)"), "{found}");
    assert!(says(&found).contains("of 1 lives of nodes 1 were fenced"), "{found}");
}
