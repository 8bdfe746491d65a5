//! The JavaScript blocks of README.md, run as they stand in a browser.

use serde_json::json;

use super::{chromium::Browser, page::turn};
use crate::mesh::{TestMesh, token};

/// Where the block connects to; the test's node is somewhere else.
const URL: &str = "ws://127.0.0.1:8080/v1/ws";

#[tokio::test]
async fn the_javascript_block_sends_and_shows_each_message_once() {
    let Some(_turn) = turn().await else { return };
    let readme = include_str!("../../../README.md");
    let block = readme.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(block.contains(URL), "the block connects to {URL}");

    let mesh = TestMesh::start(1).await;
    let bob = mesh.json(0, "bob", "phone").await;
    bob.caught_up().await;
    let mut browser = Browser::start().await;
    let mut alice = browser.open(&format!("http://{}/", mesh.nodes[0].addr)).await;
    alice.until("document.readyState", "complete").await;
    // What the block leaves to whoever copies it: a token, and what to do with a message.
    let given =
        format!("var token = {}, shown = []; var show = (frame) => shown.push(frame.body);", json!(token("alice")));
    alice.eval(&given).await;
    alice.eval(&block.replace(URL, &mesh.nodes[0].url())).await;

    let first = bob.message("dm:alice:bob", 1).await;
    assert_eq!(serde_json::to_value(&first.body).unwrap(), json!({"text": "hi"}));
    bob.send("@alice", "c1", "hello").await;
    alice.until("JSON.stringify(shown)", r#"[{"text":"hi"},"hello"]"#).await;
    // Both were acknowledged: nothing is handed to this device a second time.
    bob.receipt("alice has both", |receipt| receipt.user.as_str() == "alice" && receipt.delivered == Some(2)).await;
}

#[tokio::test]
async fn the_block_with_the_library_sends_and_hears() {
    let Some(_turn) = turn().await else { return };
    let readme = include_str!("../../../README.md");
    let block = readme.split("```js\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let import = "import { connect } from \"./natter.js\";";
    assert!(block.contains(import) && block.contains("ws://127.0.0.1:8080"), "{block}");

    let mesh = TestMesh::start(1).await;
    let bob = mesh.json(0, "bob", "phone").await;
    bob.caught_up().await;
    let mut browser = Browser::start().await;
    let mut alice = browser.open(&format!("http://{}/", mesh.nodes[0].addr)).await;
    alice.until("document.readyState", "complete").await;
    // A module may wait at its top and import; what is evaluated here may not.
    let code = block
        .replace(import, "const { connect } = await import('./natter.js');")
        .replace("ws://127.0.0.1:8080", &format!("ws://{}", mesh.nodes[0].addr))
        .replace("console.log(", "shown.push(");
    let given = format!("var token = {}, shown = [];", json!(token("alice")));
    alice.eval(&given).await;
    alice.eval(&format!("(async () => {{ {code} return 0; }})()")).await;
    bob.message("dm:alice:bob", 1).await;
    bob.send("@alice", "c1", "hello").await;
    alice.until("shown", json!(["alice", {"text": "hi"}, "bob", "hello"])).await;
}
