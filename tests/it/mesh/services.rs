//! The entrance for services, used as one of them: account billing on the deployed configuration of the NATS server.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use natter::{
    config::{Config, SendAs, Service},
    model::{ConvId, UserId},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ErrorCode, ServerFrame, client::Outgoing, server::OnBus},
    store::{Inbox as _, Logs as _, Span},
    subject::Subject,
};
use serde::Deserialize;

use crate::{
    harness::until,
    mesh::{Peer, TestMesh, serve::ServeProcess},
};

const CONV: &str = "dm:billing:bob";

/// What a node answers, in either encoding.
#[derive(Debug, Deserialize)]
struct Reply {
    conv: Option<String>,
    seq: Option<u64>,
    ts: Option<u64>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: ErrorCode,
    message: String,
    retry: bool,
}

impl Reply {
    fn place(&self) -> (&str, u64) {
        assert!(self.error.is_none() && self.ts > Some(1_600_000_000_000), "{self:?}");
        (self.conv.as_deref().unwrap(), self.seq.unwrap())
    }
}

async fn connect(nats: &NatsServer, account: &str, password: &str) -> Client {
    ConnectOptions::with_user_and_password(account.into(), password.into())
        .custom_inbox_prefix(format!("_INBOX_{account}"))
        .connect(nats.client_url())
        .await
        .unwrap()
}

async fn billing(nats: &NatsServer) -> Client {
    connect(nats, "billing", &nats.passwords().billing).await
}

async fn request(client: &Client, to: &str, payload: impl Into<Bytes>) -> Reply {
    let subject = format!("{}{to}", subject(""));
    let answer = tokio::time::timeout(Duration::from_secs(10), client.request(subject, payload.into()));
    let payload = answer.await.expect("no node answered").unwrap().payload;
    Encoding::sniff(&payload).decode(&payload).unwrap_or_else(|e| panic!("{e}: {payload:?}"))
}

/// Whether billing may send as `user` on the nodes of this server.
pub(super) async fn may_send_as(nats: &NatsServer, user: &str) -> bool {
    let payload = format!(r#"{{"cid":"once","body":1,"from":"{user}"}}"#);
    let reply = request(&billing(nats).await, "bob", payload).await;
    assert!(reply.error.as_ref().is_none_or(|error| error.code == ErrorCode::Unauthorized), "{reply:?}");
    reply.error.is_none()
}

/// The subject that billing publishes to for a user; made like the node's own where the name is valid.
fn subject(user: &str) -> String {
    let name = |text| UserId::new(text).unwrap();
    let whole = Subject::send_user(&name("billing"), &name("x"));
    format!("{}{user}", whole.as_str().strip_suffix('x').unwrap())
}

fn services(config: &mut Config) {
    let users = ["alice", "carol"].map(|user| UserId::new(user).unwrap()).to_vec();
    config
        .services
        .insert(UserId::new("billing").unwrap(), Service { may_send_as: SendAs::Users(users), ..Service::default() });
}

#[tokio::test]
async fn a_service_is_answered_when_its_message_is_durable() {
    let mesh = TestMesh::start(2).await;
    let bob = mesh.json(1, "bob", "d").await;
    let client = billing(&mesh.nats).await;
    let bodies = [Body::text("pay"), Encoding::Json.decode(br#"{"amount":[1,2.5,null]}"#).unwrap()];
    for (i, body) in bodies.iter().enumerate() {
        #[derive(serde::Serialize)]
        struct Send<'a> {
            cid: String,
            body: &'a Body,
        }
        let encoding = [Encoding::Json, Encoding::MsgPack][i];
        let seq = i as u64 + 1;
        let reply = request(&client, "bob", encoding.encode(&Send { cid: format!("c{i}"), body })).await;
        assert_eq!(reply.place(), (CONV, seq));
        let rows = mesh.store.read_after(&ConvId::new(CONV).unwrap(), 0, Span { rows: 10, bytes: 9999 }).await.unwrap();
        assert_eq!(rows.len() as u64, seq, "answered before it was stored");
        let message = bob.message(CONV, seq).await;
        assert_eq!((message.from.as_str(), message.body.as_ref(), Some(message.ts)), ("billing", Some(body), reply.ts));
    }
}

#[tokio::test]
async fn the_answer_is_in_the_encoding_of_the_request() {
    let mesh = TestMesh::start(1).await;
    let client = billing(&mesh.nats).await;
    for (request, first) in [
        (&br#"{"cid":"a","body":1}"#[..], b'{'),
        (b"\x82\xa3cid\xa1b\xa4body\x01", 0x83),
        (b"{}", b'{'),
        (b"\x80", 0x81),
        (b"", b'{'),
    ] {
        let answer = client.request(subject("bob"), Bytes::from_static(request)).await.unwrap().payload;
        assert_eq!(answer[0], first, "{request:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_retry_has_the_same_seq_whichever_node_takes_it() {
    let mesh = TestMesh::start(3).await;
    let client = billing(&mesh.nats).await;
    let payload = |cid: &str| format!(r#"{{"cid":"{cid}","body":"x"}}"#);
    let tries = futures_util::future::join_all((0..30).map(|_| request(&client, "bob", payload("same")))).await;
    assert!(tries.iter().all(|reply| reply.place() == (CONV, 1)), "{tries:?}");
    assert_eq!(request(&client, "bob", payload("next")).await.place(), (CONV, 2));
    assert_eq!(request(&client, "bob", payload("same")).await.place(), (CONV, 1));
    let reused = request(&client, "bob", r#"{"cid":"same","body":"y"}"#).await.error.unwrap();
    assert_eq!((reused.code, reused.retry), (ErrorCode::CidReused, false));
    let mut takers = 0;
    for node in &mesh.nodes {
        takers += usize::from(node.metric("natter_service_requests_total{outcome=\"ok\"").await > 0.0);
    }
    assert!(takers > 1, "one node took all requests: this shows nothing");
}

#[tokio::test]
async fn bad_requests_are_answered_with_what_is_wrong() {
    let mesh = TestMesh::tuned(1, |config| config.limits.body_bytes = 100).await;
    let client = billing(&mesh.nats).await;
    let large = format!(r#"{{"cid":"c","body":"{}"}}"#, "x".repeat(101));
    let long = format!(r#"{{"cid":"{}","body":1}}"#, "x".repeat(65));
    let nan = b"\x82\xa3cid\xa1c\xa4body\xcb\x7f\xf8\0\0\0\0\0\0";
    for (to, payload, code) in [
        ("bob", &b"nonsense"[..], ErrorCode::BadFrame),
        ("bob", br#"{"body":1}"#, ErrorCode::BadFrame),
        ("bob", br#"{"cid":"c"}"#, ErrorCode::BadFrame),
        ("bob", br#"{"cid":1,"body":1}"#, ErrorCode::BadFrame),
        ("bob", br#"{"cid":"c","body":1} "#.trim_ascii_end().split_last().unwrap().1, ErrorCode::BadFrame),
        ("bob", br#"{"cid":"","body":1}"#, ErrorCode::BadName),
        ("bob", long.as_bytes(), ErrorCode::BadName),
        ("bob", br#"{"cid":"c","body":1,"from":"a b"}"#, ErrorCode::BadName),
        ("b$b", br#"{"cid":"c","body":1}"#, ErrorCode::BadName),
        ("bob.more", br#"{"cid":"c","body":1}"#, ErrorCode::BadName),
        ("bob", large.as_bytes(), ErrorCode::TooLarge),
        ("bob", br#"{"cid":"c","body":1,"from":"eve"}"#, ErrorCode::Unauthorized),
        ("bob", nan, ErrorCode::BadBody),
        ("bob", br#"["c",1,null]"#, ErrorCode::BadFrame),
        ("bob", br#"{"cid":"c","body":1,"form":"alice"}"#, ErrorCode::BadFrame),
        ("bob", br#"{"cid":"c","body":{"order":18446744073709551616}}"#, ErrorCode::BadBody),
    ] {
        let reply = request(&client, to, payload.to_vec()).await;
        let refusal = reply.error.unwrap_or_else(|| panic!("{payload:?} was taken"));
        assert_eq!((refusal.code, refusal.retry), (code, code.retry()), "{payload:?}: {}", refusal.message);
        assert!(refusal.message.len() > 5, "{}", refusal.message);
    }
    assert_eq!(request(&client, "bob", r#"{"cid":"c","body":1}"#).await.place(), (CONV, 1), "nothing bad was stored");
}

#[tokio::test]
async fn a_service_speaks_as_a_user_only_where_that_is_configured() {
    let mesh = TestMesh::tuned(2, services).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    let client = billing(&mesh.nats).await;
    let reply = request(&client, "bob", r#"{"cid":"c1","body":"x","from":"alice"}"#).await;
    assert_eq!(reply.place(), ("dm:alice:bob", 1));
    for peer in [&alice, &bob] {
        assert_eq!(peer.message("dm:alice:bob", 1).await.from.as_str(), "alice");
    }
    assert_eq!(request(&client, "bob", r#"{"cid":"c1","body":"x","from":"billing"}"#).await.place(), (CONV, 1));
    let refused = request(&client, "bob", r#"{"cid":"c2","body":"x","from":"bob"}"#).await.error.unwrap();
    assert_eq!(refused.code, ErrorCode::Unauthorized);
    assert!(refused.message.contains("services.billing.may_send_as"), "{}", refused.message);
}

#[tokio::test]
async fn nobody_but_a_node_reaches_a_users_subject_not_even_by_asking_for_an_answer_there() {
    let mesh = TestMesh::start(2).await;
    let bob = mesh.json(0, "bob", "d").await;
    let of_bob = Subject::user(&UserId::new("bob").unwrap()).to_string();
    // Sees what a node sees.
    let node = connect(&mesh.nats, "node", &mesh.nats.passwords().node).await;
    let mut seen = node.subscribe(of_bob.clone()).await.unwrap();
    node.flush().await.unwrap();
    let client = billing(&mesh.nats).await;
    let forged = Encoding::Json.encode(&ServerFrame::CaughtUp { since: None });
    client.publish(of_bob.clone(), forged).await.unwrap();
    client.publish_with_reply(subject("bob"), of_bob, r#"{"cid":"c","body":"real"}"#.into()).await.unwrap();
    bob.message(CONV, 1).await;
    // What follows the answer on the same connection.
    assert_eq!(request(&client, "bob", r#"{"cid":"d","body":"end"}"#).await.place(), (CONV, 2));
    bob.message(CONV, 2).await;
    let mut payloads = Vec::new();
    until("the last message was seen", async || {
        while let Some(message) = seen.next().now_or_never() {
            payloads.push(message.unwrap().payload);
        }
        payloads.iter().any(|payload| matches!(OnBus::decode(payload), Ok(OnBus::Message { seq: 2, .. })))
    })
    .await;
    assert!(payloads.iter().all(|payload| OnBus::decode(payload).is_ok()), "{payloads:?}");
    assert_eq!(bob.seqs(CONV), [1, 2]);
}

#[tokio::test]
async fn a_signal_of_a_service_reaches_all_devices_and_is_not_stored() {
    let mesh = TestMesh::start(2).await;
    let devices = [mesh.json(0, "bob", "d1").await, mesh.msgpack(1, "bob", "d2").await];
    for device in &devices {
        device.caught_up().await;
    }
    let client = billing(&mesh.nats).await;
    let signal = subject("bob").replace(".send.", ".signal.");
    client.publish(signal, r#"{"type":"invoice","body":{"due":3}}"#.into()).await.unwrap();
    for device in &devices {
        let found = device.wait("the signal", |frames| {
            frames
                .iter()
                .find_map(|frame| if let ServerFrame::Signal(signal) = frame { Some(signal.clone()) } else { None })
        });
        let signal = found.await;
        assert_eq!((signal.from.as_str(), signal.kind.as_str()), ("billing", "invoice"));
    }
    assert_eq!(mesh.store.top(&ConvId::new(CONV).unwrap()).await.unwrap(), 0);
}

/// Nobody listens in a service's name and nobody reads its inbox: what it sends leaves nothing there. (A session with that
/// name is only here to see it.)
#[tokio::test]
async fn what_a_service_sends_leaves_nothing_in_its_own_name() {
    let mesh = TestMesh::start(1).await;
    let (bob, named) = (mesh.json(0, "bob", "d").await, mesh.json(0, "billing", "d").await);
    named.caught_up().await;
    let client = billing(&mesh.nats).await;
    let payloads = [r#"{"cid":"c1","body":"x"}"#, r#"{"cid":"c2","body":"x","from":"billing"}"#];
    for (payload, seq) in payloads.into_iter().zip(1..) {
        assert_eq!(request(&client, "bob", payload).await.place(), (CONV, seq));
        bob.message(CONV, seq).await;
    }
    let inbox = async |name: &str| mesh.store.conversations(&UserId::new(name).unwrap(), None, 9).await.unwrap().items;
    assert_eq!((inbox("billing").await.len(), inbox("bob").await.len()), (0, 1));
    // What was published before this would be here before it.
    bob.say(&Outgoing::Signal { to: "@billing", kind: "typing", body: None });
    let is_signal = |frame: &ServerFrame| matches!(frame, ServerFrame::Signal(_));
    named.wait("the signal", |frames| frames.iter().find(|frame| is_signal(frame)).map(drop)).await;
    assert!(named.messages().is_empty(), "{:?}", named.messages());
    // Whoever writes to the name writes to a user.
    bob.send("@billing", "b1", "why?").await;
    named.message(CONV, 3).await;
    assert_eq!(inbox("billing").await[0].head, 3);
}

#[tokio::test]
async fn a_signal_of_a_service_keeps_to_the_limits_of_a_clients() {
    let mesh = TestMesh::tuned(1, |config| config.limits.body_bytes = 100).await;
    let client = billing(&mesh.nats).await;
    let signal = |user: &str| subject(user).replace(".send.", ".signal.");
    let large = format!(r#"{{"type":"x","body":"{}"}}"#, "x".repeat(101));
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(1000));
    for (to, payload, code) in [
        ("bob", large.as_str(), ErrorCode::TooLarge),
        ("bob", long.as_str(), ErrorCode::BadName),
        ("bob", r#"{"type":7}"#, ErrorCode::BadFrame),
        ("bob", "{}", ErrorCode::BadFrame),
        ("bob", r#"{"cid":"c"}"#, ErrorCode::BadFrame),
        ("bob", r#"["typing",1]"#, ErrorCode::BadFrame),
        ("bob", r#"{"body":18446744073709551616}"#, ErrorCode::BadBody),
        ("b$b", r#"{"type":"typing"}"#, ErrorCode::BadName),
    ] {
        let answer = client.request(signal(to), payload.to_owned().into()).await.unwrap().payload;
        let reply: Reply = serde_json::from_slice(&answer).unwrap();
        let refusal = reply.error.unwrap_or_else(|| panic!("{payload} was taken"));
        assert_eq!(refusal.code, code, "{payload}: {}", refusal.message);
    }
    let answer = client.request(signal("bob"), r#"{"type":"typing"}"#.into()).await.unwrap().payload;
    assert_eq!(answer, "{}");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Offline {
    user: String,
    from: String,
    conv: String,
    seq: u64,
}

/// Collects `natter.event.offline`.
async fn events(client: &Client) -> async_nats::Subscriber {
    let events = client.subscribe(Subject::event("offline").to_string()).await.unwrap();
    // A request is answered only after the server has processed the subscription.
    assert!(request(client, "nobody", "{}").await.error.is_some());
    events
}

async fn next(events: &mut async_nats::Subscriber) -> Offline {
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("no event came").unwrap();
    serde_json::from_slice(&event.payload).unwrap()
}

#[tokio::test]
async fn push_services_hear_of_messages_for_nobody() {
    let mesh = TestMesh::start(2).await;
    let alice = mesh.json(0, "alice", "d").await;
    let client = billing(&mesh.nats).await;
    let mut events = events(&client).await;
    let conv = |user: &str| format!("dm:alice:{user}");
    let offline = |user: &str, seq| Offline { user: user.into(), from: "alice".into(), conv: conv(user), seq };
    alice.send("@bob", "c1", "x").await;
    assert_eq!(next(&mut events).await, offline("bob", 1));
    // Online on the other node, or on the same node: nobody is told.
    let elsewhere = mesh.json(1, "bob", "d").await;
    alice.send("@bob", "c2", "x").await;
    elsewhere.message("dm:alice:bob", 2).await;
    elsewhere.vanish();
    until("bob is gone", async || mesh.nodes[1].sessions() == 0).await;
    let here = mesh.json(0, "bob", "d").await;
    alice.send("@bob", "c3", "x").await;
    here.message("dm:alice:bob", 3).await;
    alice.send("@carol", "c4", "x").await;
    assert_eq!(next(&mut events).await, offline("carol", 1), "the events between were for somebody online");
}

#[tokio::test]
async fn push_services_hear_of_a_message_once_however_often_it_is_sent() {
    let mesh = TestMesh::start(2).await;
    let client = billing(&mesh.nats).await;
    let mut events = events(&client).await;
    for _ in 0..5 {
        let first = request(&client, "bob", r#"{"cid":"c1","body":1}"#).await;
        assert_eq!(first.place(), (CONV, 1));
    }
    assert_eq!(request(&client, "bob", r#"{"cid":"c2","body":2}"#).await.place(), (CONV, 2));
    let of = |seq| Offline { user: "bob".into(), from: "billing".into(), conv: CONV.into(), seq };
    let mut told = vec![next(&mut events).await, next(&mut events).await];
    // Two nodes tell, in any order.
    told.sort_by_key(|event| event.seq);
    assert_eq!(told, [of(1), of(2)]);
}

#[tokio::test]
async fn push_services_hear_of_sessions_that_acknowledge_nothing() {
    let mesh = TestMesh::tuned(2, |config| config.timing.offline_after_secs = 1).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    alice.send("@bob", "c1", "x").await;
    bob.message("dm:alice:bob", 1).await;
    alice.receipt("the ack", |r| r.delivered == Some(1)).await;
    bob.hold_acks();
    let client = billing(&mesh.nats).await;
    let mut events = events(&client).await;
    let begin = std::time::Instant::now();
    alice.send("@bob", "c2", "x").await;
    alice.send("@bob", "c3", "x").await;
    let told = next(&mut events).await;
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let offline = |seq| Offline { user: "bob".into(), from: "alice".into(), conv: "dm:alice:bob".into(), seq };
    assert_eq!(told, offline(3), "both of them, once");
    // The session is still there, and acknowledges nothing that follows either.
    alice.send("@bob", "c4", "x").await;
    assert_eq!(next(&mut events).await, offline(4));
    // It ends before the time is over: nobody else will tell of this one.
    alice.send("@bob", "c5", "x").await;
    bob.message("dm:alice:bob", 5).await;
    bob.vanish();
    assert_eq!(next(&mut events).await, offline(5));
}

/// What waits behind a full window is handed to nobody.
#[tokio::test]
async fn push_services_hear_of_what_a_session_was_never_handed() {
    let mesh = TestMesh::tuned(2, |config| {
        config.timing.offline_after_secs = 1;
        config.limits.window = 2;
    })
    .await;
    let (alice, carol) = (mesh.json(0, "alice", "d").await, mesh.json(0, "carol", "d").await);
    let bob = mesh.json(1, "bob", "d").await;
    bob.caught_up().await;
    bob.hold_acks();
    let client = billing(&mesh.nats).await;
    let mut events = events(&client).await;
    for seq in 1..=5 {
        alice.send("@bob", &format!("c{seq}"), "x").await;
    }
    carol.send("@bob", "c1", "x").await;
    let offline =
        |from: &str, conv: &str, seq| Offline { user: "bob".into(), from: from.into(), conv: conv.into(), seq };
    let mut told = vec![next(&mut events).await, next(&mut events).await];
    told.sort_by(|one, other| one.from.cmp(&other.from));
    assert_eq!(told, [offline("alice", "dm:alice:bob", 5), offline("carol", "dm:bob:carol", 1)]);
    assert_eq!(bob.messages().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_was_answered_survives_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let mut serve = ServeProcess::start(folder.path(), &nats, "").await;
    let client = billing(&nats).await;
    for round in 1..=3 {
        let reply = request(&client, "bob", format!(r#"{{"cid":"c{round}","body":{round}}}"#)).await;
        assert_eq!(reply.place(), (CONV, round));
        serve.restart().await;
    }
    let bob = Peer::join(&serve.url(), "bob", "d", Encoding::Json).await;
    bob.message(CONV, 3).await;
    assert_eq!(bob.seqs(CONV), [1, 2, 3]);
}
