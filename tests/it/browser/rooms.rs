//! A room's whole life, by the page alone.

use serde_json::json;

use super::{
    chromium::{Browser, Tab},
    page::{TEXTS, open_live, turn},
};
use crate::harness::dev::Dev;

const TITLE: &str = "document.querySelector('#title').textContent";
const MEMBERS: &str = "[...document.querySelectorAll('#panel .members li')].map((item) => \
    [item.querySelector('.member-name').textContent, item.querySelector('select')?.value ?? item.querySelector('.soft').textContent])";

/// Opens the conversation of this name from the list.
async fn choose(tab: &mut Tab, name: &str) {
    let row = format!(
        "[...document.querySelectorAll('#conversations li')].find((row) => row.querySelector('.name').textContent === {})",
        json!(name)
    );
    tab.until(&format!("{row} !== undefined"), true).await;
    tab.eval(&format!("{row}.firstChild.click()")).await;
    tab.until(TITLE, name).await;
}

#[tokio::test]
async fn a_private_room_from_its_creation_to_the_last_one_who_leaves() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 2, 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &format!("{}/#token={}", mesh.page(0), mesh.token("alice"))).await;
    let mut bob = open_live(&mut browser, &format!("{}/#token={}", mesh.page(1), mesh.token("bob"))).await;

    alice.click("#new-room").await;
    alice.type_into("#room-name", "plans").await;
    alice.type_into("#room-topic", "<i>quiet</i>").await;
    alice.eval("document.querySelector('#room-public').checked = false").await;
    alice.click("#room-make").await;
    alice.until(TITLE, "#plans").await;
    alice.until("document.querySelector('#subtitle').textContent", "<i>quiet</i>").await;
    // Who is not invited is told nothing of it.
    bob.enter("#peer", "#plans").await;
    bob.until("document.querySelector('#room-dialog').open", true).await;
    bob.click("#room-make").await;
    bob.until("document.querySelector('#room-fault').textContent.length > 0", true).await;
    bob.click("#room-cancel").await;

    alice.click("#panel-open").await;
    alice.enter("#invitee", "bob").await;
    alice.until(MEMBERS, json!([["alice", "owner"], ["bob", "invited"]])).await;
    alice.click("#panel-close").await;
    choose(&mut bob, "#plans").await;
    bob.until("document.querySelector('#invited-text').textContent", "You are invited to #plans.").await;
    assert_eq!(bob.eval("document.querySelector('#compose').checkVisibility()").await, false);
    bob.click("#join").await;
    bob.until("document.querySelector('#compose').checkVisibility()", true).await;
    alice.until(&format!("{TEXTS}.at(-1)"), "bob joined").await;

    // A mention, by the keyboard, of one who has just come.
    alice.type_into("#text", "hello @b").await;
    alice.until("document.querySelector('#names').checkVisibility()", true).await;
    alice.press("Enter").await;
    alice.until("document.querySelector('#text').value", "hello @bob ").await;
    alice.press("Enter").await;
    bob.until("document.querySelector('#messages .for-me .mention').textContent", "@bob").await;
    bob.enter("#text", "hello").await;
    alice.until(&format!("{TEXTS}.at(-1)"), "hello").await;

    alice.click("#panel-open").await;
    alice.until(MEMBERS, json!([["alice", "owner"], ["bob", "member"]])).await;
    let role = "(() => { const select = document.querySelector('[aria-label=\"Role of bob\"]'); select.value = 'moderator'; \
                select.dispatchEvent(new Event('change')); })()";
    alice.eval(role).await;
    bob.until(&format!("{TEXTS}.at(-1)"), "alice made bob a moderator").await;
    bob.click("#panel-open").await;
    bob.until("document.querySelector('#topic').value", "<i>quiet</i>").await;
    bob.eval("document.querySelector('#topic').value = ''").await;
    bob.enter("#topic", "loud").await;
    alice.until("document.querySelector('#subtitle').textContent", "loud").await;

    alice.click("[aria-label='Remove bob']").await;
    bob.until("document.querySelector('#compose').checkVisibility()", false).await;
    alice.until(MEMBERS, json!([["alice", "owner"]])).await;
    alice.eval("[...document.querySelectorAll('#panel .danger')].at(-1).click()").await;
    alice.until("document.querySelector('#compose').checkVisibility()", false).await;
    assert_eq!(alice.eval("document.querySelectorAll('#app i').length").await, 0);
}
