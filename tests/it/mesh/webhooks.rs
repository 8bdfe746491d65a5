//! Events posted to a real HTTP server: signed, in order, tried again, left alone when it fails, and in nobody's way.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use natter::{
    config::{Config, Secret, Webhook},
    model::{UserId, now_millis},
    protocol::event::{Event, EventKind, What},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use super::TestMesh;
use crate::harness::until;

const KEY: &[u8] = b"a key of the tests, long enough";

/// What came, and what is answered.
#[derive(Default)]
struct Board {
    posts: Vec<(String, Event)>,
    /// The answers to the next posts; 200 once there are none left.
    answers: VecDeque<u16>,
    always: Option<u16>,
    /// When posts came.
    tries: Vec<Instant>,
    connections: usize,
}

/// The endpoint of somebody who uses natter, until it is dropped.
struct Endpoint {
    addr: SocketAddr,
    board: Arc<Mutex<Board>>,
    /// A pass for each answer; many at the start.
    passes: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let (board, passes) = (Arc::<Mutex<Board>>::default(), Arc::new(Semaphore::new(1_000_000)));
        let (shared, gate) = (board.clone(), passes.clone());
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().connections += 1;
                let (board, gate) = (shared.clone(), gate.clone());
                let serve = service_fn(move |request| answer(board.clone(), gate.clone(), request));
                all.spawn(
                    async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await) },
                );
            }
        });
        Self { addr, board, passes, task }
    }

    fn url(&self) -> String {
        format!("http://{}/events?from=natter", self.addr)
    }

    /// The events that were taken, in the order in which they came.
    fn taken(&self) -> Vec<Event> {
        self.board.lock().posts.iter().map(|(_, event)| event.clone()).collect()
    }

    async fn has_taken(&self, count: usize) {
        until("the events are there", async || self.taken().len() >= count).await;
        assert_eq!(self.taken().len(), count);
    }
}

async fn answer(
    board: Arc<Mutex<Board>>,
    gate: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    gate.acquire().await.unwrap().forget();
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let (id, seconds, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "/events?from=natter"));
    assert_eq!(header("content-type"), "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    verify(&id, &seconds, &signature, &body);
    let event: Event = serde_json::from_slice(&body).unwrap();
    assert_eq!(event.id, id);
    let mut board = board.lock();
    board.tries.push(Instant::now());
    let status = board.always.or_else(|| board.answers.pop_front()).unwrap_or(200);
    if status == 200 {
        board.posts.push((id, event));
    }
    let moved = Response::builder().status(status).header("location", "http://127.0.0.1:1/");
    Ok(moved.body(Full::new(vec![b'x'; 100].into())).unwrap())
}

/// As the specification of Standard Webhooks says it, beside natter's own way of doing it.
fn verify(id: &str, seconds: &str, signature: &str, body: &[u8]) {
    assert!(!id.contains('.') && !id.is_empty(), "{id}");
    let sent: u64 = seconds.parse().unwrap();
    assert!((now_millis() / 1_000).abs_diff(sent) < 300, "{seconds}");
    let signed = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
    let given = BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &signed, &given).expect("the signature is not ours");
}

fn target(config: &mut Config, name: &str, url: String, tune: impl FnOnce(&mut Webhook)) {
    let mut webhook = Webhook {
        url,
        kinds: vec![EventKind::Message],
        secret: Some(Secret::new(format!("whsec_{}", BASE64.encode(KEY)))),
        retry_ms: 10,
        timeout_ms: 10_000,
        ..Webhook::default()
    };
    tune(&mut webhook);
    config.webhooks.insert(UserId::new(name).unwrap(), webhook);
}

fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match &event.what {
        What::Message(message) => serde_json::to_value(&message.body).unwrap().as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    events.iter().map(text).collect()
}

/// Two nodes, one target: each event is posted by the node where it happens, over a connection that is kept, in order; and
/// what fails comes again before what follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_posted_once_signed_and_in_order() {
    let endpoint = Endpoint::start().await;
    let mesh = TestMesh::tuned(2, |config| target(config, "search", endpoint.url(), |_| ())).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(1, "bob", "d").await);
    endpoint.board.lock().answers = [500, 503, 302, 404].into();
    let mut expected = Vec::new();
    for n in 0..20 {
        let text = format!("m{n}");
        alice.send("@bob", &text, &text).await;
        expected.push(text);
    }
    endpoint.has_taken(20).await;
    assert_eq!(texts(&endpoint.taken()), expected);
    assert_eq!(endpoint.board.lock().tries.len(), 24, "a redirect is not followed but tried again");
    assert_eq!(endpoint.board.lock().connections, 1);
    bob.send("@alice", "b1", "from the other node").await;
    endpoint.has_taken(21).await;
    let [one, two] = &mesh.nodes[..] else { panic!("two nodes") };
    for (node, outcome, count) in [(one, "ok", 20.0), (one, "refused", 4.0), (two, "ok", 1.0)] {
        let metric = format!("natter_webhook_posts_total{{outcome=\"{outcome}\"");
        until("it is counted", async || node.metric(&metric).await == count).await;
    }
    until("nothing waits", async || one.metric("natter_webhooks_waiting ").await == 0.0).await;
    assert_eq!(one.metric("natter_webhooks_dropped_total ").await, 0.0);
}

/// An event that the target refuses again and again is given up after pauses that grow, and those behind it come. Where any
/// event would be refused it is the target that fails: it is left alone, and gets what waited once it works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_is_given_up_and_a_target_that_fails_catches_up() {
    let endpoint = Endpoint::start().await;
    let mesh = TestMesh::tuned(1, |config| target(config, "search", endpoint.url(), |_| ())).await;
    let (alice, node) = (mesh.json(0, "alice", "d").await, &mesh.nodes[0]);
    endpoint.board.lock().answers = [400; 8].into();
    alice.send("@bob", "c1", "poison").await;
    alice.send("@bob", "c2", "good").await;
    endpoint.has_taken(1).await;
    assert_eq!(texts(&endpoint.taken()), ["good"]);
    assert_eq!(node.metric("natter_webhooks_dropped_total ").await, 1.0);
    assert_eq!(node.metric("natter_webhooks_paused ").await, 0.0, "a target that finds fault works");
    let tries = std::mem::take(&mut endpoint.board.lock().tries);
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Seven pauses from 10 ms on, each between half and all of twice the one before.
    assert!(tries.len() == 9 && pauses[6] >= Duration::from_millis(320), "{pauses:?}");

    endpoint.board.lock().always = Some(410);
    for n in 0..3 {
        alice.send("@bob", &format!("d{n}"), &format!("m{n}")).await;
    }
    until("it is left alone", async || node.metric("natter_webhooks_paused ").await == 1.0).await;
    assert!((5..8).contains(&endpoint.board.lock().tries.len()), "a few tries, then a pause");
    assert_eq!(node.metric("natter_webhooks_waiting ").await, 3.0);
    endpoint.board.lock().always = None;
    endpoint.has_taken(4).await;
    assert_eq!(texts(&endpoint.taken())[1..], ["m0", "m1", "m2"]);
    until("it works", async || node.metric("natter_webhooks_paused ").await == 0.0).await;
    assert_eq!(node.metric("natter_webhooks_dropped_total ").await, 1.0);
}

/// One target is dead, one answers nothing, and one works: messages take no longer, and the one that works has them all.
/// The queue of a dead one is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_target_costs_nobody_anything() {
    let (works, stuck) = (Endpoint::start().await, Endpoint::start().await);
    stuck.passes.forget_permits(1_000_000);
    let mesh = TestMesh::tuned(1, |config| {
        target(config, "works", works.url(), |_| ());
        target(config, "dead", "http://127.0.0.1:1/events?from=natter".into(), |of| of.queue = 5);
        target(config, "stuck", stuck.url(), |of| (of.queue, of.timeout_ms) = (5, 60_000));
    })
    .await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    let began = Instant::now();
    for n in 0..50 {
        alice.send("@bob", &format!("c{n}"), &format!("m{n}")).await;
    }
    bob.message("dm:alice:bob", 50).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    works.has_taken(50).await;
    let dropped = mesh.nodes[0].metric("natter_webhooks_dropped_total ").await;
    // Each has five that wait and perhaps one under way.
    assert!((88.0..=90.0).contains(&dropped), "{dropped}");
    assert!(mesh.nodes[0].metric("natter_webhooks_waiting ").await <= 12.0);
}

/// A target that comes up late gets what waited; a node that ends posts what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_posts_what_waits() {
    let endpoint = Endpoint::start().await;
    let mut mesh = TestMesh::tuned(1, |config| {
        target(config, "push", endpoint.url(), |of| {
            of.kinds = vec![EventKind::Session, EventKind::Message];
        })
    })
    .await;
    let alice = mesh.json(0, "alice", "d").await;
    endpoint.has_taken(1).await;
    endpoint.passes.forget_permits(1_000_000);
    alice.send("@bob", "c1", "last words").await;
    let ends = tokio::spawn(mesh.nodes.remove(0).drain());
    until("the session is over", async || alice.closed_now().is_some()).await;
    endpoint.passes.add_permits(1_000);
    assert!(ends.await.unwrap());
    let taken = endpoint.taken();
    let ended = taken
        .iter()
        .any(|event| matches!(&event.what, What::Session(session) if session.reason.as_deref() == Some("drain")));
    assert!(ended && taken.len() == 3, "{taken:?}");
}

/// A node does not start with a target that can never work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_cannot_be_read_is_told_at_the_start() {
    let mut config = super::quiet_config();
    target(&mut config, "push", "https://127.0.0.1:1/".into(), |of| of.ca_file = Some("/no/such/file.pem".into()));
    let mesh = TestMesh::bare(|_| ()).await;
    let (store, metrics) = (natter::store::Store::of(mesh.store.clone()), natter::metrics::Metrics::new("n1"));
    config.nats.password = Some(Secret::new(mesh.nats.passwords().node.clone()));
    config.nats.urls = vec![natter::config::ServerUrl::new(mesh.nats.client_url())];
    let refused = natter::node::Node::build(&config, store, metrics).await.unwrap_err().to_string();
    assert!(refused.contains("webhooks.push: ca_file /no/such/file.pem"), "{refused}");
}
