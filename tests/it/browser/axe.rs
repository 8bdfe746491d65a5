//! axe-core, from npm, on every screen of the page, light and dark: nothing serious.

use natter::{
    client::{Client, ClientOptions},
    model::ConvId,
    protocol::Body,
};
use serde_json::{Value, json};

use super::{
    chromium::{Browser, Tab},
    page::{TEXTS, open_live, turn},
};
use crate::harness::{dev::Dev, node::npm_package, skip::skip};

const PACKAGE: &str = "axe-core@4";

/// What axe finds that keeps somebody from using the page.
async fn serious(tab: &mut Tab, axe: &str) -> Value {
    // The engine is given to each page anew: after a reload it is gone.
    if tab.eval("typeof window.axe").await == "undefined" {
        tab.eval(&format!("{axe}; 0")).await;
    }
    let run = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations\
               .filter(({ impact }) => impact === 'serious' || impact === 'critical')\
               .map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + ' ' + (node.any[0]?.message ?? ''))]))";
    tab.eval(run).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axe_finds_nothing_serious_on_any_screen() {
    let Some(_turn) = turn().await else { return };
    let package = tokio::task::spawn_blocking(|| npm_package(PACKAGE)).await.unwrap();
    let axe = match package {
        Ok(folder) => std::fs::read_to_string(folder.join("axe.min.js")).unwrap(),
        Err(reason) => return skip("axe-core", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let url = format!("ws://127.0.0.1:{}/v1/ws", mesh.port(0));
    let bob = Client::connect(ClientOptions::new(url, mesh.token("bob"), "cli")).await.unwrap();
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    bob.send("@alice", Body::text("one https://example.org")).await.unwrap();
    bob.send("@alice", Body::text("two")).await.unwrap();
    bob.react(&ConvId::new("dm:alice:bob").unwrap(), 1, "👍".parse().unwrap()).await.unwrap();
    alice.enter("#text", "three").await;
    alice.until(&format!("{TEXTS}.length"), 3).await;
    for scheme in ["light", "dark"] {
        alice.prefer(scheme).await;
        alice.eval("[...document.querySelectorAll('#messages li')].at(-1).focus()").await;
        assert_eq!(serious(&mut alice, &axe).await, json!([]), "a conversation, {scheme}");
        alice.click("#panel-open").await;
        alice.click("#search-open").await;
        assert_eq!(serious(&mut alice, &axe).await, json!([]), "panel and search, {scheme}");
        alice.click("#search-close").await;
        alice.click("#panel-close").await;
        alice.click("#new-room").await;
        assert_eq!(serious(&mut alice, &axe).await, json!([]), "a new room, {scheme}");
        alice.click("#room-cancel").await;
    }
    let mut stranger = browser.open(mesh.page(0)).await;
    stranger.until("document.activeElement.id", "name").await;
    for scheme in ["light", "dark"] {
        stranger.prefer(scheme).await;
        assert_eq!(serious(&mut stranger, &axe).await, json!([]), "signing in, {scheme}");
    }
}
