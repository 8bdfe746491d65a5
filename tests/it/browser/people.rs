//! What people do with messages: replies, edits, reactions, deletions, mentions; what they have not read; and what they must not
//! be able to do to each other.

use natter::{
    client::{Client, ClientOptions},
    protocol::Body,
};
use serde_json::json;

use super::{
    chromium::{Browser, Tab},
    page::{TEXTS, TICKS, open_live, turn},
};
use crate::harness::dev::Dev;

async fn talker(mesh: &Dev, user: &str) -> Client {
    let url = format!("ws://127.0.0.1:{}/v1/ws", mesh.port(0));
    Client::connect(ClientOptions::new(url, mesh.token(user), "cli")).await.unwrap()
}

/// Puts the buttons at a message and presses one.
async fn act(tab: &mut Tab, seq: u64, label: &str) {
    let item = format!("[...document.querySelectorAll('#messages li')].find((item) => item.message?.seq === {seq})");
    tab.until(&format!("{item} !== undefined"), true).await;
    tab.eval(&format!("{item}.focus()")).await;
    tab.click(&format!(".actions [aria-label='{label}']")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_replied_to_edited_reacted_to_and_deleted() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    let mut bob = open_live(&mut browser, &mesh.link(1, "bob", "alice")).await;
    alice.enter("#text", "when?").await;
    bob.until(TEXTS, json!(["when?"])).await;

    act(&mut bob, 1, "Reply").await;
    bob.until("document.querySelector('#about-title').textContent", "Replying to alice").await;
    bob.enter("#text", "at nine, https://example.org/a?b=1.").await;
    let quoted = "[...document.querySelectorAll('.quote-text')].map((text) => text.textContent)";
    alice.until(quoted, json!(["when?"])).await;
    let link = "(({ href, rel, textContent }) => [href, rel, textContent])(document.querySelector('#messages a'))";
    let url = "https://example.org/a?b=1";
    assert_eq!(alice.eval(link).await, json!([url, "noopener noreferrer nofollow", url]));

    // The arrow key from the empty composer reaches the last message, Tab its buttons.
    bob.eval("document.querySelector('#text').focus()").await;
    bob.press("ArrowUp").await;
    bob.until("document.activeElement.message?.seq", 2).await;
    bob.press("Tab").await;
    bob.until("document.activeElement.matches('#messages li :is(button, a)')", true).await;
    act(&mut bob, 2, "Edit").await;
    bob.eval("document.querySelector('#text').value = ''").await;
    bob.enter("#text", "at ten").await;
    alice.until(TEXTS, json!(["when?", "at ten"])).await;
    alice.until("document.querySelector('.edited').textContent", "edited").await;

    act(&mut alice, 2, "React").await;
    alice.click(".picker [aria-label='React with 👍']").await;
    let reactions = "[...document.querySelectorAll('.reaction')].map((one) => [one.textContent, one.ariaPressed])";
    bob.until(reactions, json!([["👍 1", "false"]])).await;
    bob.click(".reaction").await;
    alice.until(reactions, json!([["👍 2", "true"]])).await;
    alice.click(".reaction").await;
    bob.until(reactions, json!([["👍 1", "true"]])).await;

    bob.eval("confirm = () => true; 0").await;
    act(&mut bob, 2, "Delete").await;
    let left = json!(["when?", "This message was deleted"]);
    alice.until(TEXTS, left.clone()).await;
    bob.until(TEXTS, left).await;
    // Nothing can be done with it any more, nor with what somebody else wrote but reply and react.
    alice.eval("[...document.querySelectorAll('#messages li')].at(-1).focus()").await;
    assert_eq!(alice.eval("document.querySelector('.actions')").await, json!(null));
    bob.eval("[...document.querySelectorAll('#messages li')].find((item) => item.message).focus()").await;
    let offered = "[...document.querySelectorAll('.actions button')].map((one) => one.ariaLabel)";
    bob.until(offered, json!(["React", "Reply"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_messages_are_counted_jumped_to_and_read_on_all_devices() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let bob = talker(&mesh, "bob").await;
    let mut browser = Browser::start().await;
    let no_peer = format!("{}/#token={}", mesh.page(0), mesh.token("alice"));
    let mut one = open_live(&mut browser, &no_peer).await;
    let mut other = open_live(&mut browser, &no_peer).await;
    for i in 1..=130 {
        bob.send("@alice", Body::text(&format!("m{i}"))).await.unwrap();
    }
    let badge = "document.querySelector('#conversations .badge').textContent";
    for tab in [&mut one, &mut other] {
        tab.until(badge, "99+").await;
        tab.until("document.title", "(130) natter").await;
        tab.until("document.querySelector('.preview').textContent", "m130").await;
    }
    // It opens where one stopped, not at the end, and only what was in sight is read.
    one.click("#conversations button").await;
    one.until("document.querySelector('#messages .unread + li .text').textContent", "m1").await;
    one.until("/^.([0-9]+). natter$/.test(document.title) && document.title !== '(130) natter'", true).await;
    let left = one.eval("document.title").await;
    other.until("document.title", left).await;
    one.click("#latest").await;
    one.until(badge, "").await;
    other.until(badge, "").await;
    other.until("document.title", "natter").await;
    let seen = "document.querySelector('#conversations .badge').checkVisibility()";
    assert_eq!(one.eval(seen).await, false);
}

/// What people have tried on other pages.
const ATTACKS: [&str; 9] = [
    "<script>window.owned = 1</script>",
    "<img src=x onerror=\"window.owned = 1\">",
    "<svg onload=\"window.owned = 1\">",
    "\"><iframe srcdoc=\"<script>parent.owned = 1</script>\">",
    "javascript:window.owned=1",
    "https://example.org/\"onmouseover=\"window.owned=1",
    "http://javascript:window.owned=1@x/<b>",
    "{{constructor.constructor('window.owned=1')()}}",
    "@alice<style>*{display:none}</style>",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_a_message_is_more_than_text() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let bob = talker(&mesh, "bob").await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    for text in ATTACKS {
        bob.send("@alice", Body::text(text)).await.unwrap();
    }
    alice.until(TEXTS, json!(ATTACKS)).await;
    let conv = natter::model::ConvId::new("dm:alice:bob").unwrap();
    bob.react(&conv, 1, "<b onclick=1>".parse().unwrap()).await.unwrap();
    // As a quote, a preview, a draft that is edited, a search.
    act(&mut alice, 2, "Reply").await;
    alice.enter("#text", ATTACKS[1]).await;
    alice.until(TICKS, json!(["sent"])).await;
    act(&mut alice, 11, "Edit").await;
    alice.press("Escape").await;
    alice.click("#search-open").await;
    alice.type_into("#search-text", "onerror").await;
    alice.until("document.querySelector('#search-count').textContent.startsWith('1 of 2')", true).await;
    alice.until("document.querySelectorAll('.reaction').length", 1).await;
    let foreign = "document.querySelectorAll('#app :is(script, img, iframe, style, b, object, embed, [onerror], [onload], [onclick], \
                   [srcdoc])').length";
    assert_eq!(alice.eval(foreign).await, 0);
    assert_eq!(alice.eval("window.owned ?? 0").await, 0);
    let links = "[...document.querySelectorAll('#messages a')].map((link) => new URL(link.href).protocol)";
    let protocols = alice.eval(links).await;
    assert!(protocols.as_array().unwrap().iter().all(|one| one == "https:" || one == "http:"), "{protocols}");
    // Even if something got in, the policy would not run it.
    let inline = "(() => { const script = document.createElement('script'); script.textContent = 'window.owned = 1'; \
                  document.body.append(script); const image = document.createElement('img'); \
                  image.setAttribute('onerror', 'window.owned = 1'); image.src = 'data:,'; document.body.append(image); \
                  return new Promise((done) => image.addEventListener('error', () => done(window.owned ?? 0))); })()";
    assert_eq!(alice.eval(inline).await, 0);
}
