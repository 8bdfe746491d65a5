//! Who is online, over two nodes: whoever watches is told of each change once, of no other, and of no ghost for long.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, future::join_all};
use natter::{
    bus::RequestError,
    client::{Client, ClientOptions, Event},
    config::Config,
    model::UserId,
    protocol::{Body, Encoding, ask::Seen},
    store::People as _,
    subject::Subject,
};

use super::{Peer, TestMesh, serve::ServeProcess, token};
use crate::harness::until;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(url: String, name: &str) -> Client {
    Client::connect(ClientOptions::new(url, token(name), "c")).await.unwrap()
}

/// Nothing is found by looking again, only by being told.
fn told_only(config: &mut Config) {
    config.presence.quiet_ms = 50;
    config.presence.probe_ms = 3_600_000;
}

/// Everybody may look, and does so often.
fn looked_at(config: &mut Config) {
    config.presence.everybody = true;
    config.presence.quiet_ms = 50;
    config.presence.probe_ms = 300;
}

async fn next(client: &Client) -> Seen {
    loop {
        if let Some(Event::Presence(seen)) =
            tokio::time::timeout(crate::harness::PATIENCE, client.next()).await.unwrap()
        {
            return seen;
        }
    }
}

/// What has arrived by now.
fn told(client: &Client) -> Vec<Seen> {
    let events = std::iter::from_fn(|| client.next().now_or_never().flatten());
    events.filter_map(|event| if let Event::Presence(seen) = event { Some(seen) } else { None }).collect()
}

async fn asked(client: &Client, name: &str) -> Option<bool> {
    client.presence(vec![user(name)]).await.unwrap().items[0].online
}

async fn published(mesh: &TestMesh, node: usize) -> u64 {
    mesh.nodes[node].metric("natter_presence_published_total").await as u64
}

async fn introduce(mesh: &TestMesh, alice: &Client, name: &str) {
    alice.send(&format!("@{name}"), Body::text("hi")).await.unwrap();
    until("nobody waits to be told of", async || published(mesh, 0).await >= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_when_the_first_session_anywhere_begins_and_the_last_ends() {
    let mesh = TestMesh::tuned(2, told_only).await;
    let alice = client(mesh.nodes[0].url(), "alice").await;
    introduce(&mesh, &alice, "bob").await;
    let first = alice.watch(vec![user("bob")]).await.unwrap();
    assert_eq!(first.items, [Seen { user: user("bob"), online: Some(false), last_seen: None }]);
    let phone = mesh.json(1, "bob", "phone").await;
    assert_eq!(next(&alice).await, Seen { user: user("bob"), online: Some(true), last_seen: None });
    let (tablet, laptop) = (mesh.msgpack(1, "bob", "tablet").await, mesh.json(0, "bob", "laptop").await);
    until("bob came to the watcher's own node", async || published(&mesh, 0).await == 2).await;
    tablet.vanish();
    until("the tablet is gone", async || mesh.nodes[1].sessions() == 1).await;
    phone.vanish();
    until("the second node told that bob is gone from it", async || published(&mesh, 1).await == 2).await;
    assert_eq!(asked(&alice, "bob").await, Some(true), "the laptop is there");
    let before = natter::model::now_millis();
    laptop.vanish();
    let gone = next(&alice).await;
    assert_eq!((gone.user, gone.online), (user("bob"), Some(false)));
    assert!(gone.last_seen.is_some_and(|at| at >= before.saturating_sub(1_000)), "{:?}", gone.last_seen);
    assert_eq!(told(&alice), [], "of no device but the first and the last");
    assert_eq!(mesh.nodes[0].metric("natter_presence_told_total").await as u64, 2);
    alice.unwatch(vec![user("bob")]).await.unwrap();
    let _phone = mesh.json(1, "bob", "phone").await;
    until("the second node told that bob came", async || published(&mesh, 1).await == 3).await;
    assert_eq!(asked(&alice, "bob").await, Some(true));
    assert_eq!(told(&alice), []);
    assert_eq!(mesh.nodes[0].metric("natter_watched_users").await as u64, 0);
}

/// Five connections, each gone before its user was quiet, and one that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_user_who_comes_and_goes_nothing_is_told() {
    let mesh = TestMesh::tuned(2, |config| {
        told_only(config);
        config.presence.quiet_ms = 4_000;
        config.presence.everybody = true;
    })
    .await;
    let alice = client(mesh.nodes[0].url(), "alice").await;
    alice.watch(vec![user("bob")]).await.unwrap();
    for _ in 0..5 {
        mesh.json(1, "bob", "phone").await.vanish();
        until("bob is gone", async || mesh.nodes[1].sessions() == 0).await;
    }
    let _stays = mesh.json(1, "bob", "phone").await;
    assert_eq!(published(&mesh, 1).await, 0);
    assert_eq!(next(&alice).await.online, Some(true));
    assert_eq!((published(&mesh, 1).await, told(&alice)), (1, vec![]), "once, when it was quiet");
}

/// Whoever looks before a user is quiet knows what is true at that moment, and is told when it is not any more: also where the
/// user is then as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_looked_before_a_user_was_quiet_is_told_what_became_of_it() {
    let mesh = TestMesh::tuned(2, |config| {
        told_only(config);
        config.presence.quiet_ms = 1_000;
        config.presence.everybody = true;
    })
    .await;
    let alice = client(mesh.nodes[0].url(), "alice").await;
    let bob = mesh.json(1, "bob", "phone").await;
    let first = alice.watch(vec![user("bob")]).await.unwrap();
    assert_eq!(first.items[0].online, Some(true), "he came a moment ago");
    bob.vanish();
    assert_eq!(next(&alice).await.online, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_no_ghost_for_longer_than_a_look() {
    let mesh = TestMesh::tuned(1, looked_at).await;
    let folder = tempfile::tempdir().unwrap();
    let mut serve = ServeProcess::start(folder.path(), &mesh.nats, "").await;
    let alice = client(mesh.nodes[0].url(), "alice").await;
    let _bob = Peer::join(&serve.url(), "bob", "phone", Encoding::Json).await;
    assert_eq!(alice.watch(vec![user("bob")]).await.unwrap().items[0].online, Some(true));
    serve.process.kill9();
    let began = Instant::now();
    assert_eq!(next(&alice).await.online, Some(false));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}, and a look is 0.3 s");
}

/// A killed node's watches are subscriptions, and NATS ends those with its connection: nobody hears what is told there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interest_of_a_killed_node_is_gone() {
    let mesh = TestMesh::tuned(1, told_only).await;
    let folder = tempfile::tempdir().unwrap();
    let mut serve = ServeProcess::start(folder.path(), &mesh.nats, "presence.everybody = true\n").await;
    let alice = client(serve.url(), "alice").await;
    assert_eq!(alice.watch(vec![user("bob")]).await.unwrap().items[0].online, Some(false));
    let bus = mesh.nodes[0].weak_bus().upgrade().unwrap();
    let interest = async || {
        let asked = bus.request(&Subject::presence(&user("bob")), "x".into(), Duration::from_millis(200)).await;
        asked != Err(RequestError::NoResponders)
    };
    assert!(interest().await, "alice's node listens");
    let _bob = mesh.json(0, "bob", "phone").await;
    assert_eq!(next(&alice).await.online, Some(true));
    serve.process.kill9();
    until("nobody listens", async || !interest().await).await;
}

/// Nothing is published for those whom nobody watches, once the nodes have told each other whom that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_published_for_those_whom_nobody_watches() {
    let mesh = TestMesh::tuned(2, |config| {
        looked_at(config);
        config.presence.probe_ms = 1_000;
    })
    .await;
    let alice = client(mesh.nodes[0].url(), "alice").await;
    alice.watch(vec![user("bob")]).await.unwrap();
    let unpublished = async || mesh.nodes[1].metric("natter_presence_unpublished_total").await as u64;
    let mut number = 0;
    until("the second node knows whom nobody watches", async || {
        number += 1;
        let before = (published(&mesh, 1).await, unpublished().await);
        let peer = mesh.json(1, &format!("early{number}"), "phone").await;
        until("the peer is quiet", async || (published(&mesh, 1).await, unpublished().await) != before).await;
        drop(peer);
        unpublished().await > before.1
    })
    .await;
    let before = published(&mesh, 1).await;
    let names: Vec<_> = (0..50).map(|n| format!("nobody{n}")).collect();
    let _crowd = join_all(names.iter().map(|name| mesh.json(1, name, "phone"))).await;
    until("all are quiet", async || unpublished().await >= 50).await;
    assert_eq!(published(&mesh, 1).await, before);
    let _bob = mesh.json(1, "bob", "phone").await;
    until("bob is told of", async || published(&mesh, 1).await == before + 1).await;
    assert_eq!(next(&alice).await.online, Some(true));
}

/// The client asks again after a reconnect, and hears what has changed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_over_a_reconnect_of_the_client() {
    let mesh = TestMesh::tuned(2, |config| {
        told_only(config);
        config.presence.everybody = true;
    })
    .await;
    let urls = vec![mesh.nodes[0].url(), mesh.nodes[1].url()];
    let options = ClientOptions::new("", token("alice"), "c").urls(urls);
    let alice = Client::connect(options).await.unwrap();
    let bob = mesh.json(1, "bob", "phone").await;
    until("bob is told of", async || published(&mesh, 1).await == 1).await;
    assert_eq!(alice.watch(vec![user("bob")]).await.unwrap().items[0].online, Some(true));
    let mut mesh = mesh;
    mesh.nodes.remove(0).drain().await;
    assert_eq!(next(&alice).await.online, Some(true), "asked for again, on the other node");
    bob.vanish();
    assert_eq!(next(&alice).await.online, Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_bounded_and_say_so() {
    let mesh = TestMesh::tuned(1, |config| {
        told_only(config);
        config.presence.everybody = true;
        config.presence.watches_per_session = 2;
        config.presence.watches_per_node = 3;
    })
    .await;
    let (alice, bob) = (client(mesh.nodes[0].url(), "alice").await, client(mesh.nodes[0].url(), "bob").await);
    let users = |names: &[&str]| names.iter().map(|name| user(name)).collect::<Vec<_>>();
    alice.watch(users(&["u1", "u2"])).await.unwrap();
    let refused = alice.watch(users(&["u3"])).await.unwrap_err().to_string();
    assert!(refused.contains("presence.watches_per_session"), "{refused}");
    bob.watch(users(&["u2", "u3"])).await.unwrap();
    bob.unwatch(users(&["u2"])).await.unwrap();
    // Tried again and again by the client, so it is asked as a frame.
    let cleo = mesh.json(0, "cleo", "phone").await;
    cleo.say_raw(r#"{"op":"presence","users":["u4"],"watch":true}"#);
    let words = cleo.error(natter::protocol::ErrorCode::Unavailable).await;
    assert!(words.contains("presence.watches_per_node"), "{words}");
    alice.close().await;
    until("alice's watches ended with her session", async || {
        mesh.nodes[0].metric("natter_watched_users").await as u64 == 1
    })
    .await;
}

/// Also of whoever was not quiet when the node stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_users_were_seen_is_noted_again_and_again_and_by_a_drain() {
    let mut mesh = TestMesh::tuned(1, |config| {
        config.presence.quiet_ms = 60_000;
        config.presence.last_seen_secs = 1;
    })
    .await;
    let begin = natter::model::now_millis();
    let _bob = mesh.json(0, "bob", "phone").await;
    let seen = async |store: &natter::store::embedded::EmbeddedStore, name: &str| {
        store.last_seen(&[user(name)]).await.unwrap()[0].unwrap_or(0)
    };
    until("bob is noted while he is there", async || seen(&mesh.store, "bob").await >= begin).await;
    let later = seen(&mesh.store, "bob").await + 1_000;
    until("and again", async || seen(&mesh.store, "bob").await >= later).await;
    mesh.config.presence.last_seen_secs = 3_600;
    let nats = mesh.nats.client_url();
    mesh.add_node(nats).await;
    let cleo = mesh.json(1, "cleo", "phone").await;
    assert_eq!(seen(&mesh.store, "cleo").await, 0);
    let store = mesh.store.clone();
    mesh.nodes.remove(1).drain().await;
    drop(cleo);
    assert!(seen(&store, "cleo").await >= begin, "a drain loses nobody's end");
}
