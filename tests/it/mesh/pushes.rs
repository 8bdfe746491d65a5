//! What push services hear of messages in rooms, as a service on the deployed configuration of the NATS server.

use std::time::Duration;

use async_nats::{ConnectOptions, Subscriber};
use futures_util::StreamExt as _;
use natter::{
    client::{Client, ClientOptions, NewRoom},
    model::{RoomId, Seq, UserId},
    protocol::{Body, ask::SendOptions},
};
use serde_json::{Value, json};

use super::{TestMesh, token};
use crate::harness::until;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[node].url(), token(name), "c")).await.unwrap()
}

/// Everything that push services are told from now on.
async fn events(mesh: &TestMesh) -> Subscriber {
    let nats = ConnectOptions::with_user_and_password("billing".into(), mesh.nats.passwords().billing.clone())
        .custom_inbox_prefix("_INBOX_billing")
        .connect(mesh.nats.client_url())
        .await
        .unwrap();
    let events = nats.subscribe("natter.event.>").await.unwrap();
    nats.flush().await.unwrap();
    events
}

/// The next event: its kind, and what it says.
async fn next(events: &mut Subscriber) -> (String, Value) {
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("no event came").unwrap();
    let kind = event.subject.as_str().strip_prefix("natter.event.").unwrap().to_owned();
    let mut event: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!((event["v"].as_u64(), event["event"].as_str()), (Some(1), Some(kind.as_str())));
    for of_all in ["v", "id", "node", "at", "event"] {
        assert!(event.as_object_mut().unwrap().remove(of_all).is_some(), "{of_all} is missing");
    }
    (kind, event)
}

/// Of a message that mentions nobody.
fn offline(name: &str, from: &str, seq: Seq, unread: u64) -> (String, Value) {
    told(name, from, seq, false, unread)
}

fn told(name: &str, from: &str, seq: Seq, mention: bool, unread: u64) -> (String, Value) {
    let event =
        json!({"user": name, "from": from, "conv": "room:lobby", "seq": seq, "mention": mention, "unread": unread});
    ("offline".into(), event)
}

async fn is_away(asks: &Client, name: &str) -> bool {
    !asks.presence(vec![user(name)]).await.unwrap().items[0].online.unwrap_or(true)
}

/// A room of alice, who made it, and these; bob and eve have gone offline since.
async fn lobby(mesh: &TestMesh, names: &[&str]) -> (Client, Vec<Client>) {
    let room = RoomId::new("lobby").unwrap();
    let alice = client(mesh, 0, "alice").await;
    alice.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    let mut there = Vec::new();
    for name in names {
        let member = client(mesh, 1, name).await;
        member.join_room(&room).await.unwrap();
        if !matches!(*name, "bob" | "eve") {
            there.push(member);
            continue;
        }
        member.close().await;
        until("nobody holds them", async || is_away(&alice, name).await).await;
    }
    (alice, there)
}

/// Whoever is there, on whatever node, needs no push; whoever wrote it all neither; a second try tells nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_small_room_who_are_away_are_told() {
    let mesh = TestMesh::tuned(2, |config| {
        config.timing.push_coalesce_ms = 10;
        config.presence.everybody = true;
    })
    .await;
    let (alice, there) = lobby(&mesh, &["bob", "carol"]).await;
    let again = Client::connect(ClientOptions::new(mesh.nodes[1].url(), token("alice"), "again")).await.unwrap();
    let mut events = events(&mesh).await;
    for (cid, seq, unread) in [("c1", 4, 1), ("c2", 5, 2)] {
        assert_eq!(alice.send_with_cid("#lobby", cid, Body::text(cid)).await.unwrap().seq, seq);
        assert_eq!(next(&mut events).await, offline("bob", "alice", seq, unread));
        for client in [&alice, &again] {
            assert_eq!(client.send_with_cid("#lobby", cid, Body::text(cid)).await.unwrap().seq, seq);
        }
    }
    let seq = there[0].send("#lobby", Body::text("from the other node")).await.unwrap().seq;
    assert_eq!(next(&mut events).await, offline("bob", "carol", seq, 3));
    let room = RoomId::new("lobby").unwrap();
    alice.kick(&room, &user("bob")).await.unwrap();
    alice.send("#lobby", Body::text("not for bob")).await.unwrap();
    alice.invite(&room, &user("eve")).await.unwrap();
    alice.send("#lobby", Body::text("eve is no member yet")).await.unwrap();
    let eve = client(&mesh, 1, "eve").await;
    eve.join_room(&room).await.unwrap();
    eve.close().await;
    until("eve is away", async || is_away(&alice, "eve").await).await;
    let seq = alice.send("#lobby", Body::text("for eve")).await.unwrap().seq;
    assert_eq!(next(&mut events).await, offline("eve", "alice", seq, 1), "and nobody of what was in between");
}

/// What comes while the room was told of a moment ago is told together, to those who were in, and a node that ends does not
/// wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_room_is_told_of_now_and_then() {
    let mut mesh = TestMesh::tuned(2, |config| {
        config.timing.push_coalesce_ms = 600_000;
        config.presence.everybody = true;
    })
    .await;
    let (alice, _there) = lobby(&mesh, &["bob"]).await;
    let mut events = events(&mesh).await;
    let first = alice.send("#lobby", Body::text("first")).await.unwrap().seq;
    assert_eq!(next(&mut events).await, offline("bob", "alice", first, 1), "at once");
    let mut last = first;
    for n in 0..20 {
        last = alice.send("#lobby", Body::text(&n.to_string())).await.unwrap().seq;
    }
    let amy = client(&mesh, 1, "amy").await;
    amy.join_room(&RoomId::new("lobby").unwrap()).await.unwrap();
    amy.close().await;
    until("amy is away", async || is_away(&alice, "amy").await).await;
    assert!(mesh.nodes.remove(0).drain().await);
    assert_eq!(
        next(&mut events).await,
        offline("bob", "alice", last, 21),
        "all of them once, and nobody who joined later"
    );
}

/// Of a large room one event tells, and besides only those hear of it who are mentioned and are members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_room_is_one_event_and_those_who_are_mentioned() {
    let mesh = TestMesh::tuned(2, |config| {
        config.limits.push_members = 3;
        config.timing.push_coalesce_ms = 10;
        config.presence.everybody = true;
    })
    .await;
    let (alice, _there) = lobby(&mesh, &["bob", "carol", "eve"]).await;
    let mut events = events(&mesh).await;
    let of_room = |seq: Seq| {
        ("room_message".to_owned(), json!({"conv": "room:lobby", "from": "alice", "seq": seq, "members": 4}))
    };
    let seq = alice.send("#lobby", Body::text("hi")).await.unwrap().seq;
    assert_eq!(next(&mut events).await, of_room(seq));
    let mentions = ["bob", "carol", "mallory"].map(user).to_vec();
    let options = SendOptions { mentions, ..SendOptions::default() };
    let seq = alice.send_with("#lobby", "c", Body::text("bob!"), options).await.unwrap().seq;
    let mentioned = told("bob", "alice", seq, true, 2);
    let mut told = [next(&mut events).await, next(&mut events).await];
    told.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(told, [mentioned, of_room(seq)], "carol is there, mallory is no member");
    let seq = alice.send("#lobby", Body::text("ho")).await.unwrap().seq;
    assert_eq!(next(&mut events).await, of_room(seq));
}
