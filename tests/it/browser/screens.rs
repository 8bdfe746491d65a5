//! The page on a phone, and signing in by a name where the mesh is a `natter dev`.

use serde_json::json;

use super::{
    chromium::Browser,
    page::{STATE, TEXTS, open_live, turn},
};
use crate::harness::dev::Dev;

const FITS: &str =
    "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight";

#[tokio::test]
async fn on_a_small_screen_there_is_the_list_or_a_conversation_and_nothing_hangs_over() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "bob")).await;
    alice.resize(390, 844).await;
    alice.until("innerWidth", 390).await;
    let long = format!("{} https://example.org/{}", "word ".repeat(60), "x".repeat(300));
    alice.enter("#text", &long).await;
    alice.until(TEXTS, json!([long])).await;
    let shown = |selector: &str| format!("document.querySelector('{selector}').checkVisibility()");
    assert_eq!((alice.eval(&shown("#chat")).await, alice.eval(&shown("#side")).await), (json!(true), json!(false)));
    assert_eq!(alice.eval(FITS).await, true);
    let inside = "[...document.querySelectorAll('#messages .bubble')].every((bubble) => { const { left, right } = \
                  bubble.getBoundingClientRect(); return left >= 0 && right <= 390; })";
    assert_eq!(alice.eval(inside).await, true);
    alice.click("#panel-open").await;
    assert_eq!(alice.eval(FITS).await, true);
    alice.press("Escape").await;
    alice.until(&shown("#panel"), false).await;
    alice.click("#back").await;
    assert_eq!((alice.eval(&shown("#chat")).await, alice.eval(&shown("#side")).await), (json!(false), json!(true)));
    assert_eq!(alice.eval(FITS).await, true);
    alice.click("#conversations button").await;
    alice.until(&shown("#compose"), true).await;
}

#[tokio::test]
async fn on_a_mesh_of_one_machine_a_name_is_enough() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let mut browser = Browser::start().await;
    let mut carol = browser.open(mesh.page(0)).await;
    carol.until("document.activeElement.id", "name").await;
    // What the form would not let a person send.
    let asked = "fetch('/v1/dev/token', { method: 'POST', body: JSON.stringify({ user: 'a b' }) })\
                 .then(async (answer) => [answer.status, (await answer.json()).detail.startsWith('user: ')])";
    assert_eq!(carol.eval(asked).await, json!([400, true]));
    carol.enter("#name", "carol").await;
    carol.until(STATE, "live").await;
    assert_eq!(carol.eval("document.querySelector('#who').textContent").await, "carol on n1");
}
