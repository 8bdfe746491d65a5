//! `natter doctor` on good set-ups and on each kind of bad one: the line it prints and its exit code.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use natter::{
    nats_server::{NatsServer, ServerOptions, free_ports},
    store::embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    harness::{nats::Cluster, natter::natter, process::output},
    mesh::hook::Moderator,
};

/// A NATS server, a folder and a port: everything a node needs, in good order.
pub(super) struct Place {
    folder: TempDir,
    nats: NatsServer,
    listen: String,
}

impl Place {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
        let listen = format!("127.0.0.1:{}", free_ports(1).unwrap()[0]);
        Self { folder, nats, listen }
    }

    pub(super) fn doctor(&self) -> Command {
        self.command(&["doctor", "--json"])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = natter(self.folder.path());
        command
            .args(arguments)
            .env("NATTER_NODE__NAME", "n1")
            .env("NATTER_HTTP__LISTEN", &self.listen)
            .env("NATTER_NATS__URLS", self.nats.client_url())
            .env("NATTER_NATS__USER", "node")
            .env("NATTER_NATS__PASSWORD", &self.nats.passwords().node)
            .env("NATTER_STORE__EMBEDDED__DATA_DIR", self.data())
            .env("NATTER_AUTH__HS256_SECRET", "a-secret-that-is-long-enough-for-hs256");
        command
    }

    pub(super) fn nats(&self) -> &NatsServer {
        &self.nats
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}

/// The finding of one check; the last one if there are several.
pub fn finding(report: &Value, part: &str, check: &str) -> Value {
    let found = report["findings"].as_array().unwrap().iter().rfind(|f| f["part"] == part && f["check"] == check);
    found.unwrap_or_else(|| panic!("no {part} {check} in {report:#}")).clone()
}

pub fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Asserts that exactly one check fails, with a fix and with exit code 1; returns what it says.
pub(super) async fn fails(command: Command, part: &str, check: &str) -> String {
    let output = output(command).await;
    let report = report(&output);
    let found = finding(&report, part, check);
    assert_eq!(found["state"], "fail", "{report:#}");
    assert!(found["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{found}");
    let all = report["findings"].as_array().unwrap();
    assert!(all.iter().all(|f| f["state"] != "fail" || (f["part"] == part && f["check"] == check)), "{report:#}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    found["says"].as_str().unwrap().to_owned()
}

fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten();
    names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_good_place_is_good_and_stays_as_it_was() {
    let place = Place::new().await;
    let before = entries(place.folder.path());
    let output = output(place.doctor()).await;
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(0), "{seen:#}");
    assert_eq!(seen["ok"], true);
    for (part, check) in [
        ("nats", "server"),
        ("nats", "permissions"),
        ("nats", "payload"),
        ("nats", "round trip"),
        ("store", "folder"),
        ("store", "disk"),
        ("store", "fsync"),
        ("host", "port"),
        ("host", "token keys"),
        ("host", "stop"),
        ("host", "secret files"),
        ("host", "reload"),
    ] {
        let found = finding(&seen, part, check);
        assert!(found["state"] == "ok" || check == "fsync" || check == "disk", "{found}");
    }
    // One server is not wrong, but the operator should know.
    assert_eq!(finding(&seen, "nats", "cluster")["state"], "warn");
    assert_eq!(entries(place.folder.path()), before, "the doctor left something behind");
}

#[tokio::test]
async fn a_store_that_is_open_is_no_fault_and_goes_on() {
    let place = Place::new().await;
    let dir = place.data().join("store");
    fs::create_dir_all(&dir).unwrap();
    let store = EmbeddedStore::open(&dir, EmbeddedOptions::default()).unwrap();
    let seen = report(&output(place.doctor()).await);
    let found = finding(&seen, "store", "folder");
    assert!(found["says"].as_str().unwrap().contains(&format!("in use by process {}", std::process::id())), "{found}");
    assert_ne!(found["state"], "fail", "{found}");
    let again = EmbeddedStore::open(&dir, EmbeddedOptions::default());
    assert!(matches!(again, Err(OpenError::InUse { .. })), "the store no longer holds its folder");
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_durable_queue_is_made_by_migrate_and_examined() {
    let place = Place::new().await;
    let natter = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("NATTER_QUEUE__ENABLED", "true");
        command
    };
    let missing = report(&output(natter(&["doctor", "--json"])).await);
    let found = finding(&missing, "queue", "stream");
    assert_eq!(found["state"], "warn", "{missing:#}");
    let made = output(natter(&["migrate"])).await;
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert_eq!(said, "stream NATTER_QUEUE: made it\nstream NATTER_DEAD: made it\n", "{made:?}");
    let mut other = natter(&["migrate", "--json"]);
    other.env("NATTER_QUEUE__MAX_BYTES", "2000000");
    let changed = report(&output(other).await);
    assert_eq!(changed["streams"][0]["changed"], true, "{changed}");
    assert_eq!(changed["streams"][1]["changed"], false, "{changed}");
    let differs = report(&output(natter(&["doctor", "--json"])).await);
    let says = finding(&differs, "queue", "stream");
    assert!(differs.to_string().contains("NATTER_QUEUE is not what [queue] says: max_bytes"), "{says}");
    let again = output(natter(&["migrate"])).await;
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("stream NATTER_QUEUE: changed it"), "{again:?}");
    let good = output(natter(&["doctor", "--json"])).await;
    assert_eq!(finding(&report(&good), "queue", "stream")["state"], "ok", "{good:?}");
    let dead = output(natter(&["dead"])).await;
    assert_eq!(String::from_utf8_lossy(&dead.stdout), "nothing was given up\n", "{dead:?}");
}

/// The service is asked, and a target is connected to, before any message needs them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_that_checks_messages_and_the_targets_of_webhooks_are_examined() {
    let place = Place::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let doctor = |port: u16| {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let hook = "[hook]\nservice = \"billing\"\ntimeout_ms = 5000\n";
        let text = format!(
            "{hook}[webhooks.push]\nurl = \"http://127.0.0.1:{port}/\"\nkinds = [\"offline\"]\nsecret = \"{secret}\"\n"
        );
        let file = place.folder.path().join("natter.toml");
        fs::write(&file, text).unwrap();
        let mut command = place.doctor();
        command.arg("--config").arg(file);
        command
    };
    let says = fails(doctor(1), "services", "hook").await;
    assert!(says.contains("no responders") && says.ends_with("every message is refused"), "{says}");
    let moderator = Moderator::start(&place.nats).await;
    let seen = output(doctor(1)).await;
    assert_eq!(seen.status.code(), Some(0), "a webhook that is away stops no node: {seen:?}");
    let found = finding(&report(&seen), "services", "webhook");
    assert!(found["state"] == "warn" && found["says"].as_str().unwrap().starts_with("push: cannot connect"), "{found}");
    let good = report(&output(doctor(listener.local_addr().unwrap().port())).await);
    for check in ["hook", "webhook"] {
        assert_eq!(finding(&good, "services", check)["state"], "ok", "{good:#}");
    }
    assert_eq!(moderator.asked(), 2);
}

#[tokio::test]
async fn nats_that_does_not_answer_is_told() {
    let mut place = Place::new().await;
    place.nats.stop().await;
    let says = fails(place.doctor(), "nats", "server").await;
    assert!(says.contains("does not answer"), "{says}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let place = Place::new().await;
    let mut command = place.doctor();
    command.env("NATTER_NATS__PASSWORD", "swordfish");
    let says = fails(command, "nats", "server").await;
    assert!(says.contains("refuses") && !says.contains("swordfish"), "{says}");
}

#[tokio::test]
async fn an_account_that_is_no_nodes_is_told() {
    let place = Place::new().await;
    let mut command = place.doctor();
    command.env("NATTER_NATS__USER", "billing").env("NATTER_NATS__PASSWORD", &place.nats.passwords().billing);
    let says = fails(command, "nats", "permissions").await;
    assert!(says.to_lowercase().contains("permissions violation"), "{says}");
    let mut command = place.doctor();
    command.env("NATTER_NATS__INBOX_PREFIX", "_INBOX_other");
    let says = fails(command, "nats", "permissions").await;
    assert!(says.contains("_INBOX_other"), "{says}");
}

#[tokio::test]
async fn a_folder_of_another_format_is_told() {
    let place = Place::new().await;
    let dir = place.data().join("store");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("FORMAT"), "natter embedded store, format 99\n").unwrap();
    let says = fails(place.doctor(), "store", "folder").await;
    assert!(says.contains("format 99"), "{says}");
    fs::remove_file(dir.join("FORMAT")).unwrap();
    fs::write(dir.join("photo.jpg"), "x").unwrap();
    let says = fails(place.doctor(), "store", "folder").await;
    assert!(says.contains("photo.jpg"), "{says}");
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let place = Place::new().await;
    let listener = TcpListener::bind(&place.listen).unwrap();
    // Accepts connections and says nothing sensible.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let says = fails(place.doctor(), "host", "port").await;
    assert!(says.contains(&place.listen) && says.contains("other than natter"), "{says}");
}

#[tokio::test]
async fn missing_token_keys_are_told() {
    let place = Place::new().await;
    let mut command = place.doctor();
    command.env_remove("NATTER_AUTH__HS256_SECRET");
    fails(command, "host", "token keys").await;
}

#[tokio::test]
async fn the_table_says_the_same_as_the_json() {
    let place = Place::new().await;
    let mut command = natter(place.folder.path());
    command.arg("doctor").envs(place.doctor().get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("NATTER_NATS__PASSWORD", "wrong");
    let output = output(command).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let mut lines = shown.lines();
    assert!(lines.next().unwrap().starts_with("fail  nats   server"), "{shown}");
    assert!(lines.next().unwrap().trim_start().starts_with("check nats.user"), "{shown}");
    assert!(shown.lines().last().unwrap().starts_with("1 failed"), "{shown}");
}

#[tokio::test]
async fn a_cluster_is_counted_and_carries_over_and_strangers_do_not() {
    let place = Place::new().await;
    let cluster = Cluster::with(place.nats.passwords().clone()).await;
    let urls = cluster.urls();
    let mut command = place.doctor();
    command.env("NATTER_NATS__URLS", urls.join(","));
    let output = output(command).await;
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(0), "{seen:#}");
    assert_eq!(finding(&seen, "nats", "propagation")["state"], "ok");
    let cluster = finding(&seen, "nats", "cluster");
    assert!(cluster["state"] == "ok" && cluster["says"].as_str().unwrap().starts_with("3 in"), "{cluster}");

    // A server that has no route to the others: nothing that is published there arrives.
    let mut command = place.doctor();
    command.env("NATTER_NATS__URLS", format!("{},{}", urls[0], place.nats.client_url()));
    fails(command, "nats", "propagation").await;
}

#[tokio::test]
async fn the_stores_certificates_are_read_and_checked_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = async |variables: &[(&str, &str)]| {
        let mut command = natter(folder.path());
        command.args(["doctor", "--json"]).env("NATTER_STORE__KIND", "scylla").envs(variables.iter().copied());
        output(command).await
    };
    let lone =
        doctor(&[("NATTER_STORE__SCYLLA__TLS_CERT_FILE", "c.pem"), ("NATTER_STORE__SCYLLA__TLS_KEY_FILE", "k.pem")]);
    let lone = lone.await;
    let said = String::from_utf8_lossy(&lone.stderr);
    assert!(lone.status.code() == Some(2) && said.contains("needs store.scylla.tls_ca_file"), "{said}");
    let gone = doctor(&[("NATTER_STORE__SCYLLA__TLS_CA_FILE", "nowhere.pem")]).await;
    let said = String::from_utf8_lossy(&gone.stdout);
    assert!(gone.status.code() == Some(1) && said.contains("nowhere.pem"), "{said}");
}
