//! A defect that makes a task panic costs the session that it belongs to, and nothing of it stays behind: no entry in the
//! registry, no subscription, no place, no count (I8).

use std::{sync::Arc, time::Duration};

use natter::{
    client::Endpoint,
    model::{ConvId, Device, DeviceId, NewMessage, ReadMark, Row, Seq, UserId},
    protocol::{Answer, CloseReason, Encoding, Op, client::Outgoing},
    routing::Mail,
    store::{Appended, Entered, KnownDevice, Logs, Marks, Span, Store, StoreFuture, StoreResult},
};

use super::{Peer, TestMesh, TestNode, token};
use crate::harness::until;

/// A store that panics where a device is called `boom`, and where a page of history is asked for.
struct Broken(Store);

impl Broken {
    fn of(store: Store) -> Store {
        let broken = Arc::new(Self(store.clone()));
        Store { logs: broken.clone(), marks: broken, ..store }
    }
}

impl Logs for Broken {
    fn append<'a>(
        &'a self,
        conv: &'a ConvId,
        batch: Vec<NewMessage>,
    ) -> futures_util::future::BoxFuture<'a, Vec<StoreResult<Appended>>> {
        self.0.logs.append(conv, batch)
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.logs.read_after(conv, after, span)
    }

    fn read_before<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async { panic!("a defect on purpose: history") })
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.logs.top(conv)
    }
}

impl Marks for Broken {
    fn cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.marks.cursor(device, conv)
    }

    fn raise_cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, ()> {
        self.0.marks.raise_cursor(device, conv, seq)
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.marks.delivered(user, conv)
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.marks.read_mark(user, conv)
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, mark: ReadMark) -> StoreFuture<'a, ()> {
        self.0.marks.raise_read_mark(user, conv, mark)
    }

    fn enter<'a>(&'a self, device: &'a Device, most: usize) -> StoreFuture<'a, Entered> {
        Box::pin(async move {
            assert!(device.device.as_str() != "boom", "a defect on purpose: greeting");
            self.0.marks.enter(device, most).await
        })
    }

    fn devices<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, Vec<KnownDevice>> {
        self.0.marks.devices(user)
    }

    fn refresh<'a>(&'a self, device: &'a Device, within: Duration) -> StoreFuture<'a, ()> {
        self.0.marks.refresh(device, within)
    }
    fn retire<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> StoreFuture<'a, bool> {
        self.0.marks.retire(user, device)
    }
}

async fn broken_mesh() -> TestMesh {
    let mut mesh = TestMesh::bare(|_| ()).await;
    let (nats, store) = (mesh.nats.client_url(), Broken::of(Store::of(mesh.store.clone())));
    mesh.add_node_on(nats, store).await;
    mesh
}

/// Nothing of any session is left on the node.
async fn nothing_is_left(node: &TestNode, subscriptions: f64) {
    until("no session is left", async || node.sessions() == 0).await;
    for (metric, left) in [
        ("natter_sessions", 0.0),
        ("natter_users", 0.0),
        ("natter_behind_conversations", 0.0),
        ("natter_subscriptions", subscriptions),
    ] {
        let prefix = format!("{metric} ");
        until(metric, async || node.metric(&prefix).await <= left).await;
    }
}

/// Has the session of `user` take an answer to nothing: its count of what is under way runs below zero.
fn break_session(node: &TestNode, user: &str) {
    let gateway = node.weak_gateway().upgrade().unwrap();
    gateway.registry().for_all(|session| {
        if session.identity.device.user.as_str() == user {
            session.mailbox.push(Mail::Outcome { op: Op::Send, reference: None, outcome: Ok(Answer::Done) });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_costs_its_own_session_only() {
    let mesh = broken_mesh().await;
    let node = &mesh.nodes[0];
    let before = node.metric("natter_subscriptions ").await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    bob.caught_up().await;
    break_session(node, "bob");
    let (code, words) = bob.closed().await;
    assert_eq!((code, words.as_str()), (CloseReason::Internal.code(), CloseReason::Internal.text()));
    until("it is counted", async || node.metric("natter_sessions_closed_total{reason=\"internal\"").await == 1.0).await;
    until("only alice is left", async || node.sessions() == 1).await;
    // Everybody else goes on, and the user of the broken session comes again.
    alice.send("@bob", "c1", "x").await;
    let again = mesh.json(0, "bob", "d").await;
    again.message("dm:alice:bob", 1).await;
    for peer in [alice, again] {
        peer.vanish();
    }
    nothing_is_left(node, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_greeting_leaves_nothing_behind() {
    let mesh = broken_mesh().await;
    let node = &mesh.nodes[0];
    let before = node.metric("natter_subscriptions ").await;
    for _ in 0..3 {
        let refused = Peer::join_as(&node.url(), &token("bob"), "boom", Encoding::Json, 0).await;
        assert!(refused.is_err(), "no welcome");
    }
    nothing_is_left(node, before).await;
    // Nor does it hold a place of those that have no session.
    let silent = Peer::silent(&Endpoint::new(node.url(), Encoding::Json)).await;
    drop(silent);
    mesh.json(0, "bob", "d").await.caught_up().await;
}

/// The session would wait for the answer for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_what_a_session_asked_for_ends_the_session() {
    let mesh = broken_mesh().await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    bob.caught_up().await;
    bob.say(&Outgoing::History {
        reference: Some(7),
        conv: "dm:alice:bob",
        before: Some(9),
        after: None,
        around: None,
        limit: 3,
        raw: true,
    });
    assert_eq!(bob.closed().await.0, CloseReason::Internal.code());
    alice.round_trip().await;
}
