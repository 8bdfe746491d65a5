//! A node that the NATS servers refuse, and a second node of one name: both end at their start, and say what to do.

use std::{path::Path, process::Command};

use natter::nats_server::{NatsServer, ServerOptions};

use super::{SECRET, serve::ServeProcess};
use crate::harness::{http, natter::natter, process::output, until};

/// `natter serve` as p1, on a port and a folder of its own.
fn serve(folder: &Path, nats: &NatsServer, user: &str, password: &str) -> Command {
    let mut command = natter(folder);
    command
        .arg("serve")
        .env("NATTER_HTTP__LISTEN", "127.0.0.1:0")
        .env("NATTER_NODE__NAME", "p1")
        .env("NATTER_AUTH__HS256_SECRET", SECRET)
        .env("NATTER_NATS__URLS", nats.client_url())
        .env("NATTER_NATS__USER", user)
        .env("NATTER_NATS__PASSWORD", password)
        .env("NATTER_STORE__EMBEDDED__DATA_DIR", folder.join("second"));
    command
}

async fn nats(folder: &Path) -> NatsServer {
    NatsServer::start(ServerOptions::new(folder.join("nats"))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_nats_refuses_ends_and_says_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let nats = nats(folder.path()).await;
    let operator = nats.passwords().operator.clone();
    for (user, password, words) in
        [("node", "wrong", "nats.password"), ("operator", &operator, "Permissions Violation")]
    {
        let ended = output(serve(folder.path(), &nats, user, password)).await;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{user}: {said}");
        assert!(said.contains(words), "{user}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nats_refuses_later_is_not_ready_and_tells_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = nats(folder.path()).await;
    let node = ServeProcess::start(folder.path(), &first, "").await;
    // The same address with other passwords.
    let mut options = ServerOptions::new(folder.path().join("changed"));
    options.port = first.client_addr().port();
    first.kill9();
    let changed = NatsServer::start(options).await.unwrap();
    until("the node is refused", async || http::get(node.addr, "/readyz").await.is_some_and(|r| r.status == 503)).await;
    let mut health = natter(folder.path());
    health.args(["health", &node.addr.to_string()]);
    let health = output(health).await;
    let said = String::from_utf8_lossy(&health.stdout).into_owned();
    assert_eq!(health.status.code(), Some(1), "{said}");
    assert!(said.contains("\"nats\":\"refused: ") && said.contains("nats.password"), "{said}");
    let errors = node.process.log().lines().filter(|line| line.contains("ERROR") && line.contains("refuse")).count();
    assert_eq!(errors, 1, "{}", node.process.log());
    drop(changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_of_one_name_does_not_start_and_a_successor_does() {
    let folder = tempfile::tempdir().unwrap();
    let nats = nats(folder.path()).await;
    let mut node = ServeProcess::start(folder.path(), &nats, "").await;
    let second = output(serve(folder.path(), &nats, "node", &nats.passwords().node)).await;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("a node called p1 runs already"), "{said}");
    // Killed a moment ago, the first one keeps nobody out.
    node.restart().await;
}
