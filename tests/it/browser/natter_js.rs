//! natter.js in a browser, without the page: what outlives a reload, two tabs, and a NATS server that is killed.

use serde_json::json;

use super::{
    chromium::{Browser, Tab},
    page::turn,
};
use crate::mesh::{TestMesh, token};

/// Makes `client` for a user of this browser, and remembers what it hears.
fn client(url: &str, user: &str) -> String {
    format!(
        "(async () => {{ const natter = await import('/natter.js'); window.heard = []; window.states = []; \
         const own = await natter.browserDevice({user}); \
         window.client = new natter.Client({{ url: {url}, token: {token}, ...own }}); \
         client.on('message', (message) => heard.push(message.body)); \
         client.on('sent', ({{ seq }}) => states.push(seq)); client.connect(); return own.device; }})()",
        user = json!(user),
        url = json!(url),
        token = json!(token(user)),
    )
}

async fn blank(browser: &mut Browser, mesh: &TestMesh, node: usize) -> Tab {
    let mut tab = browser.open(&format!("http://{}/natter.d.ts", mesh.nodes[node].addr)).await;
    tab.until("document.readyState", "complete").await;
    tab
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_survives_a_reload_and_goes_once_and_in_order() {
    let Some(_turn) = turn().await else { return };
    let mesh = TestMesh::start(1).await;
    let bob = mesh.json(0, "bob", "d").await;
    bob.caught_up().await;
    let mut browser = Browser::start().await;
    let mut tab = blank(&mut browser, &mesh, 0).await;
    // Nothing listens there.
    let device = tab.eval(&client("ws://127.0.0.1:1/v1/ws", "alice")).await;
    tab.until("client.state", "reconnecting").await;
    tab.eval("['one', 'two', 'three'].forEach((text) => client.send('@bob', { text })); 0").await;
    tab.until("client.outbox.length", 3).await;
    let kept = "(async () => (await (await import('/natter.js')).indexedDbStore(`natter.alice.${client.device}`).items()).length)()";
    tab.until(kept, 3).await;

    tab.load_by("location.reload()").await;
    assert_eq!(tab.eval(&client(&mesh.nodes[0].url(), "alice")).await, device, "the tab keeps its device");
    for (seq, text) in [(1, "one"), (2, "two"), (3, "three")] {
        let message = bob.message("dm:alice:bob", seq).await;
        assert_eq!(serde_json::to_value(&message.body).unwrap(), json!({"text": text}));
    }
    tab.until("states", json!([1, 2, 3])).await;
    tab.until("client.outbox.length", 0).await;
    tab.until(kept, 0).await;
    assert_eq!(bob.seqs("dm:alice:bob"), [1, 2, 3]);

    // A tab that is closed leaves what it has not sent to the next one.
    let mut other = blank(&mut browser, &mesh, 0).await;
    assert_ne!(other.eval(&client("ws://127.0.0.1:1/v1/ws", "alice")).await, device);
    other.eval("client.send('@bob', { text: 'four' }); 0").await;
    other.until("client.outbox.length", 1).await;
    other.until(kept, 1).await;
    browser.close(other).await;
    // Its lock goes a moment after it.
    let held = "navigator.locks.query().then(({ held }) => held.filter(({ name }) => name.startsWith('natter.device.')).length)";
    tab.until(held, 1).await;
    tab.load_by("location.reload()").await;
    assert_eq!(tab.eval(&client(&mesh.nodes[0].url(), "alice")).await, device);
    bob.message("dm:alice:bob", 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_nats_server_is_away() {
    let Some(_turn) = turn().await else { return };
    let mut mesh = TestMesh::start(2).await;
    let mut browser = Browser::start().await;
    let mut alice = blank(&mut browser, &mesh, 0).await;
    let mut bob = blank(&mut browser, &mesh, 1).await;
    alice.eval(&client(&mesh.nodes[0].url(), "alice")).await;
    bob.eval(&client(&mesh.nodes[1].url(), "bob")).await;
    for tab in [&mut alice, &mut bob] {
        tab.until("client.state", "live").await;
    }
    alice.eval("client.send('@bob', 0)").await;
    bob.until("heard", json!([0])).await;
    mesh.nats.kill9();
    alice.eval("Promise.all([1, 2, 3, 4, 5].map((i) => client.send('@bob', i))).then(() => 0)").await;
    mesh.nats.restart().await.unwrap();
    bob.until("heard", json!([0, 1, 2, 3, 4, 5])).await;
    alice.until("heard", json!([0, 1, 2, 3, 4, 5])).await;
}
