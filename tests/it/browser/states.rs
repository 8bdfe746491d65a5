//! The chat page when something is missing: a peer, a token, the network, the rest of a long list.

use std::time::Duration;

use serde_json::json;

use super::{
    chromium::{Browser, Tab},
    page::{STATE, TEXTS, TICKS, open_live, turn},
};
use crate::{
    harness::dev::Dev,
    mesh::{TestMesh, token_for},
};

/// Who stands in the list of conversations.
const LIST: &str = "[...document.querySelectorAll('#conversations .name')].map((name) => name.textContent)";
const FOCUS: &str = "document.activeElement.id";

/// What can be seen: the form to sign in, the list, the invitation to choose somebody, the composer.
async fn doors(tab: &mut Tab) -> [bool; 4] {
    let mut seen = [false; 4];
    for (seen, selector) in seen.iter_mut().zip(["#sign-in", "#conversations", "#empty", "#compose"]) {
        let visible = format!("document.querySelector('{selector}').checkVisibility()");
        *seen = tab.eval(&visible).await == json!(true);
    }
    seen
}

/// What a script could do, the composer being off for a person.
const SUBMIT: &str = "{ const text = document.querySelector('#text'); text.value = 'to nobody'; \
                      document.querySelector('#compose').requestSubmit(); text.value = ''; }";

#[tokio::test]
async fn without_a_peer_the_page_asks_for_one_and_writes_to_nobody() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &format!("{}/#token={}", mesh.page(0), mesh.token("alice"))).await;
    // What a page of an earlier version leaves behind, and what a script writes that has no name.
    let leave = "sessionStorage['natter.peer'] = 'null'; location.reload()";
    for step in [
        "location.reload()",
        leave,
        "location.hash = 'peer=null'",
        "location.hash = 'peer='",
        "location.hash = 'peer=a.b'",
    ] {
        alice.load_by(step).await;
        alice.until(STATE, "live").await;
        assert_eq!(doors(&mut alice).await, [false, true, true, false], "{step}");
        assert_eq!(alice.eval(FOCUS).await, "peer");
        alice.eval(SUBMIT).await;
        assert_eq!((alice.eval(TEXTS).await, alice.eval(LIST).await), (json!([]), json!([])), "{step}");
    }

    alice.enter("#peer", "bob").await;
    alice.until(FOCUS, "text").await;
    assert_eq!(doors(&mut alice).await, [false, true, false, true]);
    alice.enter("#text", "to bob").await;
    alice.until(TICKS, json!(["sent"])).await;
    alice.until(LIST, json!(["bob"])).await;
    alice.load_by("location.reload()").await;
    alice.until(TEXTS, json!(["to bob"])).await;
    alice.until(FOCUS, "text").await;
    let first = "[...document.querySelectorAll('button, input, textarea')].find((one) => one.checkVisibility()).id";
    assert_eq!(alice.eval(first).await, "skip", "the way to it is the first stop of the Tab key");
    alice.eval("document.activeElement.blur(); document.querySelector('#skip').click()").await;
    assert_eq!(alice.eval(FOCUS).await, "text");
    alice.until(LIST, json!(["bob"])).await;
}

#[tokio::test]
async fn who_is_logged_out_or_refused_is_told_why_nothing_can_be_written() {
    let Some(_turn) = turn().await else { return };
    let mesh = TestMesh::tuned(1, |config| config.auth.leeway_secs = 0).await;
    let page = format!("http://{}/", mesh.nodes[0].addr);
    let link = |token: &str| format!("{page}#token={token}&peer=bob");
    let mut browser = Browser::start().await;

    let mut alice = open_live(&mut browser, &link(&token_for("alice", Duration::from_secs(3600)))).await;
    assert_eq!(doors(&mut alice).await, [false, true, false, true]);
    alice.load_by("document.querySelector('#logout').click()").await;
    alice.until(STATE, "no token").await;
    assert_eq!(doors(&mut alice).await, [true, false, false, false]);
    alice.until(FOCUS, "token").await;
    let left = "Object.keys(sessionStorage).filter((key) => /token|peer|outbox|user/.test(key))";
    assert_eq!(alice.eval(left).await, json!([]));
    alice.eval(SUBMIT).await;
    assert_eq!(alice.eval(TEXTS).await, json!([]));

    for (token, words) in
        [("not.a.token".to_owned(), "refused"), (token_for("alice", Duration::from_secs(2)), "expired")]
    {
        let mut tab = browser.open(&link(&token)).await;
        tab.until(STATE, "closed").await;
        assert_eq!(doors(&mut tab).await, [true, false, false, false]);
        let why = tab.eval("document.querySelector('#sign-in-why').textContent").await;
        assert!(why.as_str().unwrap().contains(words), "{why}");
        tab.eval(SUBMIT).await;
        assert_eq!(tab.eval(TEXTS).await, json!([]));
    }
}

#[tokio::test]
async fn all_conversations_can_be_reached() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let writer = mesh.join("alice", 0).await;
    for i in 1..=205 {
        writer.send(&format!("@u{i}"), "c", "hello").await;
    }
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &format!("{}/#token={}", mesh.page(0), mesh.token("alice"))).await;
    // The page's device is new: nothing comes by itself but the list.
    let count = "document.querySelectorAll('#conversations li').length";
    for shown in [100, 200] {
        alice.until(count, shown).await;
        alice.until("document.querySelector('#more').hidden", false).await;
        alice.eval("document.querySelector('#more').click()").await;
    }
    alice.until(count, 205).await;
    alice.until("document.querySelector('#more').hidden", true).await;
    let oldest = "document.querySelector('#conversations li:last-child button')";
    assert_eq!(alice.eval(&format!("{oldest}.querySelector('.name').textContent")).await, "u1");
    alice.eval(&format!("{oldest}.click()")).await;
    alice.until(TEXTS, json!(["hello"])).await;
}

#[tokio::test]
async fn a_lost_network_is_shown_at_once_and_what_was_written_goes_when_it_is_back() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    alice.set_offline(true).await;
    alice.until(STATE, "offline").await;
    alice.enter("#text", "meanwhile").await;
    alice.until(TICKS, json!(["sending"])).await;
    alice.set_offline(false).await;
    alice.until(STATE, "live").await;
    alice.until(TICKS, json!(["sent"])).await;
    assert_eq!(alice.eval(TEXTS).await, json!(["meanwhile"]));
}
