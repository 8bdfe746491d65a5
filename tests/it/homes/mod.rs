//! Appends on their way to their homes, over a real NATS server: take-overs, hand-overs, and everything that can be
//! late or lost on the way. The store is one of the tests (`record`), so that its rules are seen to be kept from outside;
//! the same on the CQL store is in `mesh::scylla`.

mod mending;
mod moving;
mod nodes;
mod record;
mod routing;
mod silence;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use natter::{
    bus::{self, Bus},
    config::ServerUrl,
    homes::{Homes, Parts, is_heard},
    metrics::Metrics,
    model::{Body, Cid, ConvId, NewMessage, UserId},
    nats_server::{NatsServer, ServerOptions},
    store::{
        Appended, Logs, StoreError, StoreResult,
        slots::{Incarnation, Slot, Slots as _},
    },
};
use tempfile::TempDir;

use self::record::{Engine, Record};
use crate::harness::{
    PATIENCE,
    proxy::{Fault, Proxy},
    until,
    wait::until_within,
};

/// A node as far as homes go.
struct TestHome {
    engine: Arc<Engine>,
    logs: Arc<dyn Logs>,
    metrics: Arc<Metrics>,
    homes: Homes,
    bus: Arc<dyn Bus>,
    proxy: Proxy,
}

impl TestHome {
    fn who(&self) -> Incarnation {
        self.engine.incarnation()
    }

    /// As SIGSTOP: nothing comes in or goes out, and nothing goes on.
    fn stop(&self) {
        self.proxy.apply_both(Fault::Hold);
        self.engine.open(false);
    }

    /// As SIGCONT.
    fn go_on(&self) {
        self.engine.open(true);
        self.proxy.heal();
    }

    async fn send(&self, conv: &ConvId, cid: &str) -> StoreResult<Appended> {
        let mut results = self.logs.append(conv, vec![message(cid)]).await;
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// As a client: `unavailable` is repeated with the same cid.
    async fn send_until_stored(&self, conv: &ConvId, cid: &str) -> Appended {
        let begin = Instant::now();
        loop {
            match self.send(conv, cid).await {
                Ok(appended) => return appended,
                Err(StoreError::Unavailable(_)) if begin.elapsed() < Duration::from_secs(25) => {}
                other => panic!("{cid}: {other:?} after {:?}", begin.elapsed()),
            }
        }
    }
}

/// Nodes, their NATS server and their record.
struct TestHomes {
    nodes: Vec<TestHome>,
    record: Record,
    nats: NatsServer,
    _folder: TempDir,
}

impl TestHomes {
    /// So many nodes that know each other, and take slots from now on.
    async fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
        let mut mesh = Self { nodes: Vec::new(), record: Record::default(), nats, _folder: folder };
        for _ in 0..count {
            mesh.add().await;
        }
        mesh
    }

    /// The same, once every slot has the home that it should have.
    async fn settled(count: usize) -> Self {
        let mesh = Self::start(count).await;
        mesh.until_placed().await;
        mesh
    }

    async fn add(&mut self) -> &TestHome {
        let node = self.new_node(&format!("n{}", self.nodes.len() + 1), Homes::start).await;
        self.nodes.push(node);
        &self.nodes[self.nodes.len() - 1]
    }

    async fn new_node(&self, name: &str, start: fn(&mut Homes)) -> TestHome {
        let proxy = Proxy::to(self.nats.client_addr()).await;
        let mut options = bus::NatsOptions::new(name, Vec::<String>::new());
        options.urls = vec![ServerUrl::new(proxy.nats_url())];
        options = options.password("node", &self.nats.passwords().node);
        let metrics = Metrics::new(name);
        let bus = bus::connect(options, metrics.clone()).await.unwrap();
        let engine = Engine::new(&self.record, name);
        let mut homes = Homes::new(Parts {
            node: name.into(),
            bus: bus.clone(),
            logs: engine.clone(),
            slots: engine.clone(),
            metrics: metrics.clone(),
        });
        start(&mut homes);
        bus.fence().await.unwrap();
        TestHome { logs: homes.logs(), engine, metrics, homes, bus, proxy }
    }

    /// Waits until all slots are held, evenly enough that nothing more moves.
    async fn until_placed(&self) {
        let share = 1024 / self.nodes.len();
        until_within(PATIENCE * 2, "every slot is where it belongs", async || {
            let held: Vec<_> = self.nodes.iter().map(|node| node.engine.held().len()).collect();
            held.iter().sum::<usize>() == 1024 && held.iter().all(|held| *held > share / 2)
        })
        .await;
    }

    /// A conversation whose home is this node.
    fn conv_at(&self, node: usize) -> ConvId {
        let at = |conv: &ConvId| self.nodes[node].engine.holds(Slot::of(conv));
        (0..).map(conv).find(at).unwrap()
    }

    /// Ends a node as kill −9 does: its connection breaks, and nothing that it had begun goes on.
    fn kill(&mut self, node: usize) -> Incarnation {
        let dead = self.nodes.remove(node);
        dead.engine.open(false);
        dead.proxy.apply(Fault::Cut);
        dead.who()
    }

    /// Nobody was fenced, and no engine saw two appends of a conversation at once.
    fn in_order(&self, fenced: &[Incarnation]) {
        assert_eq!(self.record.fenced(), fenced);
        for node in &self.nodes {
            assert_eq!(node.engine.collisions.load(std::sync::atomic::Ordering::Acquire), 0);
        }
    }

    /// Each of these cids is in the log exactly once, and nothing else is.
    fn has_exactly(&self, conv: &ConvId, cids: impl IntoIterator<Item = String>) {
        let (mut stored, mut wanted) = (self.record.cids(conv), cids.into_iter().collect::<Vec<_>>());
        stored.sort();
        wanted.sort();
        assert_eq!(stored, wanted, "{conv}");
    }
}

fn conv(number: usize) -> ConvId {
    ConvId::new(&format!("dm:alice:bob{number}")).unwrap()
}

fn message(cid: &str) -> NewMessage {
    let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(cid).unwrap());
    NewMessage::of_user(sender, cid, 1, Body::text("hi"))
}

/// How long it took.
async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let outcome = what.await;
    (outcome, begin.elapsed())
}
