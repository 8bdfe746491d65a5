//! The chat page in a real browser against a real `natter dev`: what a person sees when all is well, when a tab was
//! closed, when the node is killed, and when the token is no good.

use std::time::Duration;

use natter::{
    client::{Client, ClientOptions},
    model::ConvId,
    protocol::Body,
};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use super::chromium::{Browser, Tab, available};
use crate::harness::{dev::Dev, skip::skip};

pub(super) const STATE: &str = "document.querySelector('#state').dataset.state";
/// The messages as a person sees them, in their order.
pub(super) const TEXTS: &str = "[...document.querySelectorAll('#messages .text')].map((text) => text.textContent)";
/// How far each own message has come.
pub(super) const TICKS: &str = "[...document.querySelectorAll('#messages .own')].map((item) => item.dataset.tick)";
const DEVICES: &str = "Object.keys(localStorage).filter((key) => key.startsWith('natter.device.')).length";

/// One browser at a time: each takes a whole processor while it starts.
pub(super) async fn turn() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::const_new(());
    match available() {
        Ok(()) => Some(ONE.lock().await),
        Err(reason) => {
            skip("browser", &reason);
            None
        }
    }
}

pub(super) async fn open_live(browser: &mut Browser, link: &str) -> Tab {
    let mut tab = browser.open(link).await;
    tab.until(STATE, "live").await;
    tab
}

#[tokio::test]
async fn two_people_chat_through_two_nodes() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    assert_eq!(alice.eval("location.hash").await, "", "the token stays in the address bar");

    alice.enter("#text", "hello bob").await;
    bob.until(TEXTS, json!(["hello bob"])).await;
    let hostile = "<img src=x onerror=\"document.title='owned'\">";
    bob.enter("#text", hostile).await;
    alice.until(TEXTS, json!(["hello bob", hostile])).await;
    bob.until(TEXTS, json!(["hello bob", hostile])).await;
    assert_eq!(alice.eval("document.querySelectorAll('#messages img').length").await, 0);
    alice.until(TICKS, json!(["read"])).await;
    bob.until(TICKS, json!(["read"])).await;

    // Only a signal; it disappears when the message arrives.
    bob.eval("document.querySelector('#text').dispatchEvent(new Event('input'))").await;
    alice.until("document.querySelector('#typing').textContent", "bob is typing …").await;
    bob.enter("#text", "there").await;
    alice.until("document.querySelector('#typing').textContent", "").await;
}

#[tokio::test]
async fn what_was_missed_is_there_when_the_tab_opens_again() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    alice.enter("#text", "zero").await;
    bob.until(TEXTS, json!(["zero"])).await;
    alice.until(TICKS, json!(["read"])).await;

    browser.close(bob).await;
    for text in ["one", "two", "three"] {
        alice.enter("#text", text).await;
    }
    alice.until(TICKS, json!(["read", "sent", "sent", "sent"])).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    bob.until(TEXTS, json!(["zero", "one", "two", "three"])).await;
    alice.until(TICKS, json!(["read", "read", "read", "read"])).await;
    assert_eq!(bob.eval(DEVICES).await, 1, "the second tab did not take over the device of the first");
}

#[tokio::test]
async fn a_killed_node_loses_no_message_and_doubles_none() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let (port, link) = (mesh.port(0), mesh.link(0, "bob", "alice"));
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    alice.enter("#text", "before").await;
    alice.until(TICKS, json!(["sent"])).await;

    // One is on its way when the node dies, one is written while there is no node.
    mesh.process.pause();
    alice.enter("#text", "in flight").await;
    alice.until(TICKS, json!(["sent", "sending"])).await;
    drop(mesh);
    alice.until(STATE, "reconnecting").await;
    alice.enter("#text", "meanwhile").await;
    alice.until(TICKS, json!(["sent", "sending", "sending"])).await;

    let mesh = Dev::start(folder.path(), 1, port).await;
    assert_eq!(mesh.port(0), port);
    alice.until(STATE, "live").await;
    alice.until(TICKS, json!(["sent", "sent", "sent"])).await;
    let all = json!(["before", "in flight", "meanwhile"]);
    assert_eq!(alice.eval(TEXTS).await, all);
    let mut bob = open_live(&mut browser, &link).await;
    bob.until(TEXTS, all).await;
}

/// The next message leaves the page, its answer never arrives, and the connection ends.
const LOSE_ANSWER: &str = "{ const send = WebSocket.prototype.send; \
    WebSocket.prototype.send = function (text) { send.call(this, text); if (!text.includes('\"op\":\"send\"')) return; \
    WebSocket.prototype.send = send; this.onmessage = () => {}; this.close(4000); window.lost = true; } }";

#[tokio::test]
async fn a_message_whose_answer_is_lost_is_stored_once() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    alice.eval(LOSE_ANSWER).await;
    alice.enter("#text", "once").await;
    // It was stored although its sender was not told: only then is the second try a retry.
    bob.until(TEXTS, json!(["once"])).await;
    assert_eq!(alice.eval("window.lost").await, true);
    alice.until(TICKS, json!(["read"])).await;
    alice.enter("#text", "and on").await;
    let all = json!(["once", "and on"]);
    bob.until(TEXTS, all.clone()).await;
    alice.until(TEXTS, all).await;
}

#[tokio::test]
async fn a_bad_token_is_told_and_not_tried_again() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let bad = format!("{}/#token=not.a.token&peer=bob", mesh.page(0));
    let mut tab = browser.open(&bad).await;
    tab.until(STATE, "closed").await;
    let told = tab.eval("document.querySelector('#sign-in-why').textContent").await;
    assert!(told.as_str().unwrap().contains("token"), "{told}");

    // Far longer than the longest wait between two tries.
    tab.eval("window.WebSocket = class { constructor() { window.again = true; } }; 0").await;
    tab.pass(Duration::from_secs(120)).await;
    assert_eq!(tab.eval("window.again ?? false").await, false);
    assert_eq!(tab.eval(STATE).await, "closed");

    // The way out that the page offers, in a tab whose clock still runs.
    let mut tab = browser.open(&bad).await;
    tab.until(STATE, "closed").await;
    assert_eq!(tab.eval("document.querySelector('#login').checkVisibility()").await, true);
    tab.type_into("#token", mesh.token("alice")).await;
    tab.load_by("document.querySelector('#login').requestSubmit()").await;
    tab.until(STATE, "live").await;
}

#[tokio::test]
async fn two_tabs_of_one_user_both_stay() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut one = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut other = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    one.enter("#text", "from one").await;
    other.until(TEXTS, json!(["from one"])).await;
    other.enter("#text", "from the other").await;
    one.until(TEXTS, json!(["from one", "from the other"])).await;
    assert_eq!((one.eval(STATE).await, other.eval(STATE).await), (json!("live"), json!("live")));
    assert_eq!(one.eval(DEVICES).await, 2);
}

/// Scrolls up as far as it goes and remembers the first message that is in sight and where: it must stay there.
const MARK_TOP: &str = "document.querySelector('#log').scrollTop = 0; \
    window.mark = [...document.querySelectorAll('#messages li')].find((item) => item.message); \
    window.place = mark.getBoundingClientRect().top;";
const FIRST: &str = "[...document.querySelectorAll('#messages li')].find((item) => item.message).message.seq";
const LAST: &str = "[...document.querySelectorAll('#messages li')].at(-1).message.seq";

#[tokio::test]
async fn older_messages_are_loaded_in_their_place_and_few_are_elements() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    // Typed faster than the node answers: the page keeps the order.
    let type_all = "for (let i = 1; i <= 320; i += 1) { const text = document.querySelector('#text'); \
                    text.value = `m${i}`; document.querySelector('#compose').requestSubmit(); }";
    alice.eval(type_all).await;
    alice.until(LAST, 320).await;
    alice.until(&format!("{TICKS}.every((tick) => tick === 'sent')"), true).await;

    browser.close(alice).await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let last: Vec<String> = (271..=320).map(|i| format!("m{i}")).collect();
    alice.until(&format!("{TEXTS}.slice(-50)"), json!(last)).await;
    let mut first = 271;
    while first > 1 {
        alice.eval(MARK_TOP).await;
        alice.until(&format!("{FIRST} < {first}"), true).await;
        assert_eq!(alice.eval("Math.abs(mark.getBoundingClientRect().top - place) < 2").await, true);
        first = alice.eval(FIRST).await.as_i64().unwrap();
    }
    let shown =
        "[...document.querySelectorAll('#messages li')].filter((item) => item.message).map((item) => item.message.seq)";
    let seqs: Vec<i64> = serde_json::from_value(alice.eval(shown).await).unwrap();
    assert!(seqs.len() <= 90 && seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    alice.until("document.querySelector('#older').hidden", true).await;
    // And back: the end comes in again by scrolling, and by the button.
    alice.eval("document.querySelector('#log').scrollTop = 1e6").await;
    alice.until(&format!("{LAST} > 90"), true).await;
    alice.click("#latest").await;
    alice.until(LAST, 320).await;
    alice.until("document.querySelector('#latest').hidden", true).await;
}

#[tokio::test]
async fn people_meet_in_a_room() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    let title = "document.querySelector('#title').textContent";
    alice.enter("#peer", "#lobby").await;
    alice.click("#room-make").await;
    alice.until(title, "#lobby").await;
    bob.enter("#peer", "#lobby").await;
    bob.until(title, "#lobby").await;
    alice.until(TEXTS, json!(["bob joined"])).await;
    alice.enter("#text", "hello all").await;
    bob.until(TEXTS, json!(["hello all"])).await;
    bob.enter("#text", "hello alice").await;
    alice.until(TEXTS, json!(["bob joined", "hello all", "hello alice"])).await;
    let names = "[...document.querySelectorAll('#messages .from')].map((name) => name.textContent)";
    alice.until(names, json!(["bob"])).await;
    // Another tab of the same person finds the room in the list.
    let mut again = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    again
        .until(
            "[...document.querySelectorAll('#conversations .name')].some((name) => name.textContent === '#lobby')",
            true,
        )
        .await;
}

/// The reactions under the messages.
const REACTIONS: &str = "[...document.querySelectorAll('#messages .reaction')].map((one) => one.textContent)";
const EDITED: &str = "[...document.querySelectorAll('#messages .edited')].map((one) => one.textContent)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_deletions_and_reactions_are_shown_as_text() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let url = format!("ws://127.0.0.1:{}/v1/ws", mesh.port(0));
    let bob = Client::connect(ClientOptions::new(url, mesh.token("bob"), "cli")).await.unwrap();
    let conv = ConvId::new("dm:alice:bob").unwrap();
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    alice.enter("#text", "one").await;
    alice.until(TICKS, json!(["sent"])).await;
    bob.send("@alice", Body::text("two")).await.unwrap();
    alice.until(TEXTS, json!(["one", "two"])).await;
    bob.edit(&conv, 2, Body::text("<b>zwei</b>")).await.unwrap();
    alice.until(TEXTS, json!(["one", "<b>zwei</b>"])).await;
    assert_eq!(alice.eval(EDITED).await, json!(["edited"]));
    bob.react(&conv, 1, "<i>1</i>".parse().unwrap()).await.unwrap();
    bob.react(&conv, 1, "👍".parse().unwrap()).await.unwrap();
    alice.until(REACTIONS, json!(["<i>1</i> 1", "👍 1"])).await;
    bob.unreact(&conv, 1, "<i>1</i>".parse().unwrap()).await.unwrap();
    alice.until(REACTIONS, json!(["👍 1"])).await;
    bob.delete(&conv, 2).await.unwrap();
    let left = json!(["one", "This message was deleted"]);
    alice.until(TEXTS, left.clone()).await;
    assert_eq!(alice.eval("document.querySelectorAll('#messages b, #messages i').length").await, 0);
    // From the history, too.
    browser.close(alice).await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    alice.until(TEXTS, left).await;
    alice.until(REACTIONS, json!(["👍 1"])).await;
}
