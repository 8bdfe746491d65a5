//! A conversation of 10,000 messages: what it costs the page to take them, to scroll through all of them, and to go on with all
//! of them in memory. `cargo test --test it browser::long -- --nocapture` shows the figures. They are of the page's thread alone,
//! so that a busy machine changes little.

use std::time::Duration;

use natter::protocol::Body;
use serde_json::json;

use super::{
    chromium::{Browser, Tab},
    page::{open_live, turn},
};
use crate::{harness::dev::Dev, mesh::Peer};

const MANY: usize = 10_000;
const CHUNK: usize = 500;
/// A task that is longer than this is felt ("RAIL", web.dev).
const FELT: Duration = Duration::from_millis(50);
/// What is shown is a part: messages and the lines between them.
const MOST_ITEMS: u64 = 130;

const ITEMS: &str = "document.querySelectorAll('#messages li').length";
const LAST: &str = "[...document.querySelectorAll('#messages .text')].at(-1)?.textContent";
const FIRST: &str = "document.querySelector('#messages .text')?.textContent";
/// A person who scrolls: a good part of what is in sight at a time, and a frame to see it.
const SCROLL: &str = "async (steps, by) => { const log = document.querySelector('#log'); \
    for (let step = 0; step < steps; step += 1) { log.scrollTop += by; \
    await new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen))); } }";

/// What `steps` of something have cost since the page was `busy`, each.
async fn each(tab: &mut Tab, since: Duration, steps: u32, what: &str) -> Duration {
    let cost = (tab.busy().await - since) / steps;
    eprintln!("{what}: {cost:.1?}");
    cost
}

async fn scroll(tab: &mut Tab, steps: u32, by: i32) {
    tab.eval(&format!("({SCROLL})({steps}, {by})")).await;
}

async fn say_many(bob: &Peer, from: usize, to: usize) {
    for chunk in (from..to).step_by(CHUNK) {
        let mut last = None;
        for n in chunk..to.min(chunk + CHUNK) {
            last = Some(bob.begin_send("@alice", &format!("c{n}"), &Body::text(&format!("message {n} of many"))));
        }
        bob.answer(last.unwrap()).await;
    }
}

/// What a person does all the time, with whatever is loaded.
struct Costs {
    scroll: Duration,
    live: Duration,
    open: Duration,
}

impl Costs {
    async fn of(tab: &mut Tab, bob: &Peer, loaded: usize) -> Self {
        let since = tab.busy().await;
        scroll(tab, 20, -600).await;
        scroll(tab, 20, 600).await;
        let scroll = each(tab, since, 40, &format!("{loaded} loaded, a step of scrolling")).await;

        tab.eval("document.querySelector('#latest').click()").await;
        let since = tab.busy().await;
        for n in 0..20 {
            let text = format!("live {loaded} {n}");
            bob.send("@alice", &text.replace(' ', "-"), &text).await;
            tab.until(LAST, text).await;
        }
        let live = each(tab, since, 20, &format!("{loaded} loaded, a message that comes in")).await;

        let since = tab.busy().await;
        for _ in 0..5 {
            choose(tab, "alice").await;
            choose(tab, "bob").await;
        }
        let open = each(tab, since, 10, &format!("{loaded} loaded, to another conversation or back")).await;
        Self { scroll, live, open }
    }
}

/// Opens the conversation with somebody by the list.
async fn choose(tab: &mut Tab, name: &str) {
    let row = "[...document.querySelectorAll('#conversations button')]";
    tab.eval(&format!("{row}.find((row) => row.querySelector('.name').textContent === '{name}').click()")).await;
    let title = "document.querySelector('#title').textContent.split(' ')[0]";
    tab.until(&format!("{title} === '{name}' && document.querySelector('#messages .text') !== null"), true).await;
}

#[tokio::test]
async fn ten_thousand_messages_are_shown_without_lag() {
    let Some(_turn) = turn().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mesh = Dev::start(folder.path(), 1, 0).await;
    let bob = mesh.join("bob", 0).await;
    let mut browser = Browser::start().await;
    let mut alice = open_live(&mut browser, &mesh.link(0, "alice", "alice")).await;
    alice.enter("#text", "a note").await;
    alice.until(LAST, "a note").await;

    // They come while another conversation is open.
    let since = alice.busy().await;
    say_many(&bob, 0, MANY).await;
    alice.until("document.title", format!("({MANY}) natter")).await;
    let many = u32::try_from(MANY).unwrap();
    let taken = each(&mut alice, since, many, "one of many messages that come at once").await;
    assert!(taken < Duration::from_millis(1), "{taken:?}");
    choose(&mut alice, "bob").await;
    alice.until(FIRST, "message 0 of many").await;
    alice.click("#latest").await;
    alice.until(LAST, format!("message {} of many", MANY - 1)).await;
    alice.until("document.title", "natter").await;

    let few = Costs::of(&mut alice, &bob, 100).await;
    let since = alice.busy().await;
    while alice.eval(FIRST).await != json!("message 0 of many") {
        scroll(&mut alice, 10, -100_000).await;
        assert!(alice.eval(ITEMS).await.as_u64().unwrap() <= MOST_ITEMS);
    }
    each(&mut alice, since, many, "a message that is scrolled by, from the last to the first").await;
    let many = Costs::of(&mut alice, &bob, MANY).await;
    for (what, few, many) in
        [("scroll", few.scroll, many.scroll), ("live", few.live, many.live), ("open", few.open, many.open)]
    {
        assert!(many < FELT, "{what}: {many:?}");
        assert!(many < 3 * few.max(Duration::from_millis(2)), "{what} grows with what is loaded: {few:?}, {many:?}");
    }
}
