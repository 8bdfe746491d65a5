//! A service that is asked before messages are stored, on the deployed configuration of the NATS server: it lets pass,
//! changes, refuses, or says nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use natter::{
    config::{SendAs, Service, Unanswered},
    model::{ConvId, UserId},
    nats_server::NatsServer,
    protocol::{
        Body, Encoding, ErrorCode, ServerFrame,
        client::{Outgoing, Referring},
    },
    store::{Logs as _, Span},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use super::{Peer, TestMesh, service_token};
use crate::harness::{
    http,
    proxy::{Fault, Proxy},
    until,
};

/// The conversation of alice and bob.
pub const CONV: &str = "dm:alice:bob";

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// The service that checks, until it is dropped: what it answers depends on the text.
pub struct Moderator {
    asked: Arc<AtomicUsize>,
    gate: watch::Sender<bool>,
    last: watch::Receiver<Value>,
    task: JoinHandle<()>,
}

impl Drop for Moderator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As the service.
async fn billing(server: &NatsServer) -> async_nats::Client {
    let options = ConnectOptions::with_user_and_password("billing".into(), server.passwords().billing.clone());
    options.custom_inbox_prefix("_INBOX_billing").connect(server.client_url()).await.unwrap()
}

impl Moderator {
    /// Begins to answer.
    pub async fn start(server: &NatsServer) -> Self {
        let nats = billing(server).await;
        let mut questions = nats.subscribe("natter.hook.billing.send").await.unwrap();
        // The server takes what a connection writes in its order: with the answer to this it knows the subscription, also when it
        // says that there is no node.
        drop(nats.request("natter.do.billing.sessions", "{}".into()).await);
        let asked = Arc::<AtomicUsize>::default();
        let ((gate, open), (seen, last)) = (watch::channel(true), watch::channel(Value::Null));
        let counter = asked.clone();
        let task = tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let n = counter.fetch_add(1, Ordering::AcqRel);
                let about: Value = serde_json::from_slice(&question.payload).unwrap();
                let answer = answer_to(&about, n);
                let waits = about["body"] == "wait";
                seen.send_replace(about);
                let (nats, mut open, reply) = (nats.clone(), open.clone(), question.reply.unwrap());
                if let Some(answer) = answer {
                    tokio::spawn(async move {
                        let _ = open.wait_for(|open| *open || !waits).await;
                        nats.publish(reply, answer.into()).await.unwrap();
                    });
                }
            }
        });
        Self { asked, gate, last, task }
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }
}

/// `n`: how many it was asked about before. "wait" is answered when the gate is open.
fn answer_to(about: &Value, n: usize) -> Option<String> {
    let answer = match about["body"].as_str().unwrap_or_default() {
        "not for bob" => json!({"allow": !about["conv"].as_str().unwrap().contains("bob")}),
        "spam" => json!({"allow": false, "message": "no advertising"}),
        "damn" => json!({"allow": true, "body": "d***"}),
        "never twice the same" => json!({"allow": true, "body": format!("{n}")}),
        "too long" => json!({"allow": true, "body": "x".repeat(100_000)}),
        "nonsense" => return Some("nonsense".to_owned()),
        "silence" => return None,
        _ => json!({"allow": true}),
    };
    Some(answer.to_string())
}

async fn mesh(unanswered: Unanswered, timeout_ms: u64) -> TestMesh {
    TestMesh::tuned(2, |config| {
        config.hook.service = Some(user("billing"));
        config.hook.unanswered = unanswered;
        config.hook.timeout_ms = timeout_ms;
        let may_send_as = SendAs::Users(vec![user("alice")]);
        config.services.insert(user("billing"), Service { http: true, may_send_as, ..Service::default() });
    })
    .await
}

/// What concerns the first message.
fn first(reference: u64, cid: &str) -> Referring<'_> {
    Referring { reference: Some(reference), conv: CONV, re: 1, cid }
}

async fn refused(peer: &Peer, cid: &str, text: &str) -> (ErrorCode, String) {
    match peer.try_send("@bob", cid, &Body::text(text)).await {
        ServerFrame::Error { code, message, .. } => (code, message),
        other => panic!("{text} was not refused: {other:?}"),
    }
}

async fn texts(mesh: &TestMesh) -> Vec<Body> {
    let span = Span { rows: 100, bytes: usize::MAX };
    let rows = mesh.store.read_after(&ConvId::new(CONV).unwrap(), 0, span).await.unwrap();
    rows.into_iter().map(|row| row.body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_lets_messages_pass_changes_them_or_refuses_them() {
    let mesh = mesh(Unanswered::Refuse, 20_000).await;
    let moderator = Moderator::start(&mesh.nats).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    assert_eq!(alice.send("@bob", "c1", "hello").await.1, 1);
    let about = moderator.last.borrow().clone();
    let expected = json!({"v": 1, "conv": CONV, "kind": "message", "from": "alice", "service": false, "cid": "c1",
                          "ts": about["ts"], "body": "hello"});
    assert_eq!(about, expected);
    assert_eq!(refused(&alice, "c2", "spam").await, (ErrorCode::Rejected, "body: no advertising".to_owned()));
    assert_eq!(alice.send("@bob", "c3", "damn").await.1, 2);
    assert_eq!(bob.message(CONV, 2).await.body, Some(Body::text("d***")), "nothing of what was refused");
    // What cannot be used counts as no answer.
    for text in ["nonsense", "too long"] {
        assert_eq!(refused(&alice, text, text).await.0, ErrorCode::Unavailable);
    }
    // An edit is checked like a message; a deletion says nothing.
    let edit = async |cid: &str, text: &str| {
        let (reference, body) = (alice.fresh_ref(), Body::text(text));
        alice.say(&Outgoing::Edit { about: first(reference, cid), body: &body });
        alice.answer(reference).await
    };
    assert!(matches!(edit("e1", "spam").await, ServerFrame::Error { code: ErrorCode::Rejected, .. }));
    assert!(matches!(edit("e2", "hello!").await, ServerFrame::Sent(sent) if sent.seq == 3));
    assert_eq!(moderator.last.borrow()["re"], 1);
    let asked = moderator.asked();
    let reference = alice.fresh_ref();
    alice.say(&Outgoing::Delete(first(reference, "x1")));
    assert!(matches!(alice.answer(reference).await, ServerFrame::Sent(_)));
    assert_eq!(moderator.asked(), asked, "not about a deletion");
}

/// The other doors: over HTTP and NATS in a user's name, and to many at once, of whom it decides about each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_comes_through_the_service() {
    let mesh = mesh(Unanswered::Refuse, 10_000).await;
    let moderator = Moderator::start(&mesh.nats).await;
    let token = format!("Bearer {}", service_token("billing"));
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let post = async |path: &str, body: Value| {
        http::request(mesh.nodes[0].addr, "POST", path, &headers, body.to_string().as_bytes()).await.unwrap()
    };
    let answer = post("/v1/send", json!({"to": "@bob", "cid": "s1", "body": "spam", "from": "alice"})).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("rejected")));
    let request = json!({"cid": "s2", "body": "spam", "from": "alice"}).to_string();
    let answer = billing(&mesh.nats).await.request("natter.send.billing.user.bob", request.into()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&answer.payload).unwrap()["error"]["code"], "rejected");
    let many = json!({"users": ["carol", "bob", "dave"], "cid": "s3", "body": "not for bob", "from": "alice"});
    let answer = post("/v1/send_many", many).await.json();
    let items: Vec<_> = answer["items"].as_array().unwrap().iter().map(|item| item["error"]["code"].as_str()).collect();
    assert_eq!(items, [None, Some("rejected"), None], "{answer}");
    assert!(texts(&mesh).await.is_empty());
    assert_eq!(moderator.asked(), 5);
    // The service itself is not asked about what it writes.
    assert_eq!(post("/v1/send", json!({"to": "@bob", "cid": "s4", "body": "spam"})).await.status, 200);
    assert_eq!(moderator.asked(), 5);
}

/// A second try of what is stored is answered with its place, whatever the service says by now. On two nodes that ask it, and
/// take no answer for a refusal.
pub async fn stored_is_answered(urls: [&str; 2], nats: &NatsServer) {
    let alice = Peer::join(urls[0], "alice", "d", Encoding::Json).await;
    {
        let _moderator = Moderator::start(nats).await;
        assert_eq!(alice.send("@bob", "c1", "never twice the same").await.1, 1);
        assert_eq!(alice.send("@bob", "c1", "never twice the same").await.1, 1, "another body by now");
        assert_eq!(alice.send("@bob", "c2", "hello").await.1, 2);
    }
    let again = Peer::join(urls[1], "alice", "d2", Encoding::Json).await;
    for peer in [&alice, &again] {
        assert_eq!(peer.send("@bob", "c1", "never twice the same").await.1, 1);
        assert_eq!(peer.send("@bob", "c2", "hello").await.1, 2);
        assert_eq!(refused(peer, "c3", "hello").await.0, ErrorCode::Unavailable, "new ones need an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_answered_with_its_place_whatever_the_service_says() {
    let mesh = mesh(Unanswered::Refuse, 300).await;
    stored_is_answered([&mesh.nodes[0].url(), &mesh.nodes[1].url()], &mesh.nats).await;
    assert_eq!(texts(&mesh).await.len(), 2);
}

/// R3: the node that stored the message told nobody. The second try is refused elsewhere, and tells everyone all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_try_that_is_refused_is_published_like_any() {
    let mut mesh = TestMesh::bare(|config| {
        config.hook.service = Some(user("billing"));
        config.hook.unanswered = Unanswered::Allow;
    })
    .await;
    let link = Proxy::to(mesh.nats.client_addr()).await;
    mesh.add_node(link.nats_url()).await;
    mesh.add_node(mesh.nats.client_url()).await;
    let moderator = Moderator::start(&mesh.nats).await;
    let (alice, elsewhere) = (mesh.json(0, "alice", "d").await, mesh.json(1, "alice", "e").await);
    let bob = mesh.json(1, "bob", "d").await;
    link.apply(Fault::Cut);
    until("the node noticed", async || !mesh.nodes[0].is_on_nats()).await;
    let first = alice.send("@bob", "c1", "spam").await;
    bob.round_trip().await;
    assert!(bob.messages().is_empty() && moderator.asked() == 0, "there was no way to bob, nor to the service");
    assert_eq!(elsewhere.send("@bob", "c1", "spam").await, first);
    bob.message(CONV, 1).await;
    assert_eq!(moderator.asked(), 1);
}

/// Both defaults, without anybody who listens and with somebody who does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_the_stated_default_holds() {
    for unanswered in [Unanswered::Refuse, Unanswered::Allow] {
        let mesh = mesh(unanswered, 200).await;
        let alice = mesh.json(0, "alice", "d").await;
        let outcome = async |cid: &str| match alice.try_send("@bob", cid, &Body::text("silence")).await {
            ServerFrame::Sent(_) => Unanswered::Allow,
            ServerFrame::Error { code: ErrorCode::Unavailable, retry: true, .. } => Unanswered::Refuse,
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome("c1").await, unanswered, "nobody is there");
        let _moderator = Moderator::start(&mesh.nats).await;
        let began = Instant::now();
        assert_eq!(outcome("c2").await, unanswered, "nobody answers");
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert_eq!(mesh.nodes[0].metric("natter_hook_answers_total{outcome=\"unanswered\"").await, 2.0);
    }
}

/// The messages of a conversation keep their order whatever the order of the answers, and other conversations do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_holds_up_its_conversation_and_no_other() {
    let mesh = mesh(Unanswered::Refuse, 10_000).await;
    let moderator = Moderator::start(&mesh.nats).await;
    moderator.gate.send_replace(false);
    let (alice, carol) = (mesh.json(0, "alice", "d").await, mesh.json(0, "carol", "d").await);
    let first = alice.begin_send("@bob", "c1", &Body::text("wait"));
    let second = alice.begin_send("@bob", "c2", &Body::text("second"));
    until("both are asked about at the same time", async || moderator.asked() == 2).await;
    carol.send("@bob", "c1", "another conversation").await;
    assert!(texts(&mesh).await.is_empty(), "carol's did not wait, alice's second did");
    moderator.gate.send_replace(true);
    for (reference, seq) in [(first, 1), (second, 2)] {
        assert!(matches!(alice.answer(reference).await, ServerFrame::Sent(sent) if sent.seq == seq));
    }
    assert_eq!(texts(&mesh).await, [Body::text("wait"), Body::text("second")]);
}

/// A node that ends awaits what is being asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_stores_what_was_asked_about() {
    let mut mesh = mesh(Unanswered::Refuse, 10_000).await;
    let moderator = Moderator::start(&mesh.nats).await;
    let alice = mesh.json(0, "alice", "d").await;
    moderator.gate.send_replace(false);
    let reference = alice.begin_send("@bob", "c1", &Body::text("wait"));
    until("it is asked", async || moderator.asked() == 1).await;
    let ends = tokio::spawn(mesh.nodes.remove(0).drain());
    moderator.gate.send_replace(true);
    assert!(matches!(alice.answer(reference).await, ServerFrame::Sent(sent) if sent.seq == 1));
    assert!(ends.await.unwrap());
}
