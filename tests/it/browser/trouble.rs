//! A node that goes away under an open page: drained, and killed.

use natter::nats_server::{NatsServer, ServerOptions};
use serde_json::json;

use super::{
    chromium::Browser,
    page::{STATE, TEXTS, TICKS, open_live, turn},
};
use crate::mesh::{serve::ServeProcess, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_and_another_time_killed_under_an_open_page() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let quick = "timing.drain_min_secs = 0\ntiming.drain_secs = 2\n";
    let mut node = ServeProcess::start(folder.path(), &nats, quick).await;
    let link = |user: &str, peer: &str| format!("http://{}/#token={}&peer={peer}", node.addr, token(user));
    let (for_alice, for_bob) = (link("alice", "bob"), link("bob", "alice"));
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &for_alice).await;
    let mut bob = open_live(&mut browser, &for_bob).await;
    alice.enter("#text", "before").await;
    bob.until(TEXTS, json!(["before"])).await;

    node.process.terminate();
    assert!(node.process.ended().await.success());
    for tab in [&mut alice, &mut bob] {
        tab.until(STATE, "reconnecting").await;
        tab.until("document.querySelector('#away').checkVisibility()", true).await;
    }
    alice.enter("#text", "while it was drained").await;
    alice.until(&format!("{TICKS}.at(-1)"), "sending").await;
    node.start_again(&[]).await;
    // A person need not wait until it is time.
    alice.eval("document.querySelector('#now').click()").await;
    bob.until(TEXTS, json!(["before", "while it was drained"])).await;

    node.process.kill9();
    alice.until(STATE, "reconnecting").await;
    alice.enter("#text", "while it was dead").await;
    bob.enter("#text", "me too").await;
    node.start_again(&[]).await;
    for tab in [&mut alice, &mut bob] {
        tab.until(STATE, "live").await;
        tab.until(&format!("{TEXTS}.length"), 4).await;
        tab.until(&format!("new Set({TEXTS}).size"), 4).await;
        tab.until("document.querySelector('#away').checkVisibility()", false).await;
    }
    assert_eq!(alice.eval(TEXTS).await, bob.eval(TEXTS).await, "both see one order");
}
