//! Whole nodes with homes: clients chat over them, and a drain hands over.

use futures_util::{FutureExt as _, future::BoxFuture};
use natter::{
    config::Config,
    model::{Row, Seq},
    protocol::Encoding,
    store::{Span, Store, StoreFuture, embedded::EmbeddedStore},
};

use super::*;
use crate::{
    harness::http,
    mesh::{Peer, TestMesh},
    operators::{Site, objects},
};

/// The embedded store as an engine with homes: it appends only what this node is home of.
struct AtHome {
    slots: Arc<Engine>,
    store: Arc<EmbeddedStore>,
}

impl Logs for AtHome {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        if self.slots.holds(Slot::of(conv)) {
            return self.store.append(conv, batch);
        }
        let away = vec![Err(StoreError::NotHome); batch.len()];
        async move { away }.boxed()
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_after(conv, after, span)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.store.read_before(conv, before, span)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.store.top(conv)
    }
}

async fn add_node(mesh: &mut TestMesh, record: &Record) {
    let slots = Engine::new(record, &format!("n{}", mesh.nodes.len() + 1));
    let logs = Arc::new(AtHome { slots: slots.clone(), store: mesh.store.clone() });
    let store = Store { logs, slots: Some(slots), ..Store::of(mesh.store.clone()) };
    mesh.add_node_on(mesh.nats.client_url(), store).await;
}

async fn held(mesh: &TestMesh, node: usize) -> usize {
    http::metric(mesh.nodes[node].addr, "natter_slots_held ").await as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_has_one_home_and_a_drain_hands_it_over() {
    let (mut mesh, record) = (TestMesh::bare(|_: &mut Config| ()).await, Record::default());
    add_node(&mut mesh, &record).await;
    add_node(&mut mesh, &record).await;
    let alice = mesh.peer(0, "alice", "phone", Encoding::Json).await;
    let bob = mesh.peer(1, "bob", "phone", Encoding::MsgPack).await;
    for peer in [&alice, &bob] {
        peer.caught_up().await;
    }
    for round in 0..10 {
        alice.send("@bob", &format!("a{round}"), "to bob").await;
        bob.send("@alice", &format!("b{round}"), "to alice").await;
    }
    for peer in [&alice, &bob] {
        peer.message("dm:alice:bob", 20).await;
        assert_eq!(peer.seqs("dm:alice:bob"), (1..=20).collect::<Vec<_>>());
    }
    assert_eq!(record.homes().len(), 1, "one slot was needed, and taken");
    until_within(PATIENCE * 2, "every slot has its home", async || {
        held(&mesh, 0).await + held(&mesh, 1).await == 1024 && held(&mesh, 0).await.min(held(&mesh, 1).await) > 256
    })
    .await;
    let leaver = mesh.nodes.remove(0);
    assert!(leaver.drain().await);
    assert!(record.homes().values().all(|home| home.node == "n2"), "a drain left slots behind");
    until("the other one knows", async || held(&mesh, 0).await == 1024).await;
    let again = Peer::join(&mesh.nodes[0].url(), "alice", "phone", Encoding::Json).await;
    again.send("@bob", "after", "from elsewhere").await;
    bob.message("dm:alice:bob", 21).await;
    assert_eq!(record.fenced(), []);
}

/// Nodes with homes know each other: one that is gone without a word is missed by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_is_shown_to_operators() {
    let (mut mesh, record) = (TestMesh::bare(|_: &mut Config| ()).await, Record::default());
    add_node(&mut mesh, &record).await;
    add_node(&mut mesh, &record).await;
    let mut site = Site::of(mesh);
    let shown = async |site: &Site, args: &[&str]| {
        let output = site.run(args).await;
        (output.status.code(), objects(&output.stdout))
    };
    let nodes = ["nodes", "--json"];
    until("both are there and know each other", async || {
        let (code, found) = shown(&site, &nodes).await;
        let peers: Vec<_> = found.iter().map(|node| node["peers"].to_string()).collect();
        code == Some(0) && peers == [r#"["n2"]"#, r#"["n1"]"#] && found[0]["slots"].is_number()
    })
    .await;
    drop(site.mesh.nodes.pop());
    let why = ["why", "dm:alice:bob", "1", "bob", "--json"];
    until("it is missed", async || {
        let (code, found) = shown(&site, &nodes).await;
        let (_, report) = shown(&site, &why).await;
        let states: Vec<_> = found.iter().map(|node| (node["node"].as_str(), node["state"].as_str())).collect();
        code == Some(1)
            && states == [(Some("n1"), Some("serving")), (Some("n2"), Some("silent"))]
            && report.first().is_some_and(|report| report["silent"][0] == "n2")
    })
    .await;
}

/// A store that belongs to one process has no homes, and nothing is asked of NATS for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_slots_nothing_is_started() {
    let mesh = TestMesh::start(1).await;
    // The bus's own two, the claim's two, the services' three, one of presence for whom other nodes watch, and five for
    // operators.
    let subscriptions = http::metric(mesh.nodes[0].addr, "natter_subscriptions ").await;
    assert!((subscriptions - 13.0).abs() < 0.5, "{subscriptions}");
    let alice = mesh.json(0, "alice", "phone").await;
    alice.send("@bob", "c", "hi").await;
    for metric in ["natter_slots_held ", "natter_appends_routed_total ", "natter_takeovers_total "] {
        assert!(http::metric(mesh.nodes[0].addr, metric).await < 0.5, "{metric}");
    }
}
