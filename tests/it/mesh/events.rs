//! What services are told as it happens, on the deployed configuration of the NATS server: each kind, once for all nodes, and
//! nothing that nobody asked for.

use std::time::Duration;

use async_nats::{ConnectOptions, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use natter::{
    client::{Client, ClientOptions, NewRoom},
    config::Service,
    model::{ConvId, RoomId, UserId},
    protocol::{
        Body, Encoding,
        client::{Outgoing, Referring},
        event::{Event, EventKind, What},
    },
    store::Marks as _,
};

use super::{Peer, TestMesh, token};
use crate::harness::{PATIENCE, until};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// What the service `billing` hears on a subject from now on.
pub async fn listen(mesh: &TestMesh, subject: &str) -> Subscriber {
    let nats = ConnectOptions::with_user_and_password("billing".into(), mesh.nats.passwords().billing.clone())
        .custom_inbox_prefix("_INBOX_billing")
        .connect(mesh.nats.client_url())
        .await
        .unwrap();
    let events = nats.subscribe(subject.to_owned()).await.unwrap();
    nats.flush().await.unwrap();
    events
}

async fn next(events: &mut Subscriber) -> Event {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("no event came").unwrap();
    serde_json::from_slice(&event.payload).unwrap()
}

/// Everything that was published so far, after something that is told last.
fn rest(events: &mut Subscriber) -> Vec<Event> {
    std::iter::from_fn(|| events.next().now_or_never().flatten())
        .map(|event| serde_json::from_slice(&event.payload).unwrap())
        .collect()
}

/// The next event of a kind; others may come in between.
async fn next_of(events: &mut Subscriber, kind: EventKind) -> Event {
    loop {
        let event = next(events).await;
        if event.what.kind() == kind {
            return event;
        }
    }
}

async fn mesh_that_tells(kinds: &[EventKind]) -> TestMesh {
    TestMesh::tuned(2, |config| {
        config.events.kinds = kinds.to_vec();
        config.presence.quiet_ms = 50;
        config.timing.push_coalesce_ms = 10;
        config.timing.ack_coalesce_ms = 10;
        config.presence.everybody = true;
    })
    .await
}

/// Everything else is off unless it is configured: nothing is published, and nobody is looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_configuration_only_push_services_are_told() {
    let mesh = TestMesh::tuned(2, |config| config.presence.quiet_ms = 10).await;
    let mut events = listen(&mesh, "natter.event.>").await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    alice.send("@bob", "c1", "x").await;
    bob.message("dm:alice:bob", 1).await;
    alice.receipt("bob has it", |receipt| receipt.delivered == Some(1)).await;
    bob.cut();
    until("bob is gone", async || mesh.nodes[1].sessions() == 0).await;
    alice.send("@carol", "c2", "x").await;
    let event = next(&mut events).await;
    assert!(matches!(&event.what, What::Offline(offline) if offline.user == user("carol")), "{event:?}");
    assert_eq!(rest(&mut events), []);
    for node in &mesh.nodes {
        let all = node.metric("natter_events_total").await;
        assert_eq!(all, node.metric("natter_events_total{kind=\"offline\"").await);
        assert_eq!(node.metric("natter_presence_probes_total ").await, 0.0);
        assert_eq!(
            node.metric("natter_hook_answers_total").await + node.metric("natter_webhook_posts_total").await,
            0.0
        );
    }
}

/// Unread counts, mentions, and one event for what comes while the user was told of a moment ago; none for what a device has
/// got by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_away_is_told_of_at_once_and_then_together() {
    let mut mesh = TestMesh::tuned(2, |config| {
        config.timing.push_coalesce_ms = 600_000;
        config.timing.ack_coalesce_ms = 10;
    })
    .await;
    let mut events = listen(&mesh, "natter.event.offline").await;
    let alice = Client::connect(ClientOptions::new(mesh.nodes[0].url(), token("alice"), "c")).await.unwrap();
    let mut offline = async |what: &str| match next(&mut events).await.what {
        What::Offline(offline) => offline,
        other => panic!("{what}: {other:?}"),
    };
    alice.send("@bob", Body::text("first")).await.unwrap();
    let told = offline("at once").await;
    assert_eq!((told.seq, told.unread, told.mention, &told.from), (1, Some(1), false, &user("alice")));
    for n in 0..5 {
        let mentions = if n == 2 { vec![user("bob")] } else { Vec::new() };
        let options = natter::protocol::ask::SendOptions { mentions, ..Default::default() };
        alice.send_with("@bob", &format!("c{n}"), Body::text("more"), options).await.unwrap();
    }
    alice.send("@dave", Body::text("first")).await.unwrap();
    assert_eq!(offline("dave, at once").await.user, user("dave"));
    alice.send("@dave", Body::text("second")).await.unwrap();
    let (dave, conv) = (mesh.json(1, "dave", "d").await, ConvId::new("dm:alice:dave").unwrap());
    dave.message(conv.as_str(), 2).await;
    let has_it = async || mesh.store.delivered(&user("dave"), &conv).await.unwrap() == 2;
    until("dave's device has it", has_it).await;
    alice.close().await;
    assert!(mesh.nodes.remove(0).drain().await, "a node that ends does not wait for the time to be over");
    let told = offline("the rest, together").await;
    assert_eq!((told.user, told.seq, told.unread, told.mention), (user("bob"), 6, Some(6), true));
    dave.send("@bob", "c", "told of after all that").await;
    assert_eq!(offline("the next").await.from, user("dave"), "and nothing of what dave has got");
}

/// A user has two devices on two nodes: only the first that comes and the last that goes count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_comes_online_once_and_goes_offline_once() {
    let mesh = mesh_that_tells(&[EventKind::Presence]).await;
    let mut events = listen(&mesh, "natter.event.presence").await;
    let mut presence = async || {
        let What::Presence(found) = next(&mut events).await.what else { panic!("not a presence") };
        (found.user, found.online)
    };
    let one = mesh.json(0, "alice", "d1").await;
    assert_eq!(presence().await, (user("alice"), true));
    let two = mesh.json(1, "alice", "d2").await;
    // Told after the second device was quiet for as long.
    let bob = mesh.json(1, "bob", "d").await;
    assert_eq!(presence().await, (user("bob"), true), "and nothing of alice's second device");
    one.cut();
    until("the first device is gone", async || mesh.nodes[0].sessions() == 0).await;
    let carol = mesh.json(0, "carol", "d").await;
    // That alice is there may be told once more: the node of the first device might have ended before it told.
    let mut news = presence().await;
    if news == (user("alice"), true) {
        news = presence().await;
    }
    assert_eq!(news, (user("carol"), true), "alice is still there");
    two.cut();
    loop {
        match presence().await {
            (name, true) if name == user("alice") => {}
            last => break assert_eq!(last, (user("alice"), false)),
        }
    }
    drop((bob, carol));
}

/// Both nodes see each other's session when they look; one of the two tells all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_devices_at_the_same_moment_one_is_told_of() {
    let mesh = mesh_that_tells(&[EventKind::Presence]).await;
    let mut events = listen(&mesh, "natter.event.presence").await;
    let pair = tokio::join!(mesh.json(0, "alice", "d1"), mesh.json(1, "alice", "d2"));
    let event = next(&mut events).await;
    assert!(matches!(&event.what, What::Presence(found) if found.online && found.user == user("alice")), "{event:?}");
    drop(pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_rooms_and_deliveries_are_told_by_the_node_where_they_happen() {
    let mesh = mesh_that_tells(&[EventKind::Session, EventKind::Room, EventKind::Delivered]).await;
    let mut events = listen(&mesh, "natter.event.>").await;
    let alice = Client::connect(ClientOptions::new(mesh.nodes[0].url(), token("alice"), "c")).await.unwrap();
    let Event { v, node, what: What::Session(session), id, .. } = next_of(&mut events, EventKind::Session).await else {
        panic!("a session")
    };
    assert_eq!((v, node.as_str(), session.user, session.started, session.reason), (1, "n1", user("alice"), true, None));
    assert_eq!(id, format!("session:{}:started", session.session));

    let lobby = RoomId::new("lobby").unwrap();
    alice.create_room(NewRoom { room: Some(lobby.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    let Event { id, what: What::Room(room), .. } = next_of(&mut events, EventKind::Room).await else {
        panic!("a room")
    };
    assert_eq!((id.as_str(), room.seq, room.by, &room.room), ("room:room:lobby:1", 1, user("alice"), &lobby));
    assert_eq!(serde_json::to_value(&room.change).unwrap()["event"], "created");
    alice.kick(&lobby, &user("bob")).await.unwrap_err();
    alice.invite(&lobby, &user("bob")).await.unwrap();
    let Event { what: What::Room(room), .. } = next_of(&mut events, EventKind::Room).await else {
        panic!("an invitation")
    };
    assert_eq!(serde_json::to_value(&room.change).unwrap(), serde_json::json!({"event": "invited", "user": "bob"}));

    let bob = mesh.json(1, "bob", "phone").await;
    assert_eq!(next_of(&mut events, EventKind::Session).await.node, "n2");
    alice.send("@bob", Body::text("x")).await.unwrap();
    let told = async |events: &mut Subscriber| loop {
        // alice's own device acknowledges as well.
        let What::Delivered(delivered) = next_of(events, EventKind::Delivered).await.what else { panic!("a delivery") };
        if delivered.user == user("bob") {
            return (delivered.device.to_string(), delivered.conv, delivered.seq);
        }
    };
    assert_eq!(told(&mut events).await, ("phone".to_owned(), ConvId::new("dm:alice:bob").unwrap(), 1));
    bob.cut();
    let What::Session(ended) = next_of(&mut events, EventKind::Session).await.what else { panic!("a session") };
    assert_eq!((ended.user, ended.started, ended.reason.as_deref()), (user("bob"), false, Some("gone")));
}

/// The feed of a service: everything that is stored, with bodies, to that service and on no subject that others hear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_has_every_message_and_only_its_service_hears_it() {
    let mesh = TestMesh::tuned(2, |config| {
        config.services.insert(user("billing"), Service { feed: true, ..Service::default() });
    })
    .await;
    let (mut feed, mut events) = (listen(&mesh, "natter.feed.billing").await, listen(&mesh, "natter.event.>").await);
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    alice.send("@bob", "c1", "hello").await;
    bob.send("@alice", "c2", "hi").await;
    let mut messages = Vec::new();
    for _ in 0..2 {
        let Event { id, what: What::Message(message), .. } = next(&mut feed).await else { panic!("a message") };
        messages.push((id.to_string(), message.from.to_string(), message.body));
    }
    // Two nodes tell, in any order.
    messages.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [("message:dm:alice:bob:1", "alice", "hello"), ("message:dm:alice:bob:2", "bob", "hi")];
    let expected = expected.map(|(id, from, text)| (id.to_owned(), from.to_owned(), Some(Body::text(text))));
    assert_eq!(messages, expected);
    // A second try is told again: the first node may have died before it told.
    alice.send("@bob", "c1", "hello").await;
    let Event { id, .. } = next(&mut feed).await;
    assert_eq!(id, "message:dm:alice:bob:1");
    // An edit is a row of its own.
    alice.message("dm:alice:bob", 2).await;
    let reference = alice.fresh_ref();
    let body = Body::text("hello!");
    let about = Referring { reference: Some(reference), conv: "dm:alice:bob", re: 1, cid: "e1" };
    alice.say(&Outgoing::Edit { about, body: &body });
    alice.answer(reference).await;
    let Event { what: What::Message(edit), .. } = next(&mut feed).await else { panic!("an edit") };
    assert_eq!((edit.seq, edit.re, edit.body), (3, Some(1), Some(body)));
    assert_eq!(rest(&mut events), [], "nothing on the subjects that every service hears");
}

/// Events are of the moment. What NATS does not take is counted and gone, and messages do not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_events_are_counted_as_lost_and_nobody_waits() {
    let mut mesh = mesh_that_tells(&[EventKind::Session]).await;
    let node = &mesh.nodes[0];
    mesh.nats.kill9();
    until("the loss shows", async || node.metric("natter_nats_connected ").await == 0.0).await;
    let alice = Peer::join(&node.url(), "alice", "d", Encoding::Json).await;
    alice.send("@bob", "c1", "x").await;
    assert!(node.metric("natter_events_lost_total{kind=\"session\"").await >= 1.0);
    tokio::time::timeout(Duration::from_secs(5), mesh.nats.restart()).await.unwrap().unwrap();
}
