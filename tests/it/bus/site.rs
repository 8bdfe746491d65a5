//! Real NATS servers for the tests of the bus, nodes connected to them, and what those nodes heard.

use std::{ops::Deref, sync::Arc, time::Duration};

use natter::{
    bus::{self, Bus, BusError, NatsOptions, OnMessage},
    config::{NatsLink, ServerUrl},
    metrics::Metrics,
    model::UserId,
    nats_server::{NatsServer, ServerOptions},
    subject::Subject,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};

use crate::harness::{PATIENCE, nats::Cluster, until};

/// A server, or a cluster of three, and the folder they live in.
pub struct Site {
    /// The server that nodes connect to.
    pub server: NatsServer,
    /// The rest of the cluster.
    others: Vec<NatsServer>,
    /// How nodes connect.
    link: NatsLink,
    _folder: TempDir,
}

impl Site {
    /// One server on any free port.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ServerOptions::new(folder.path());
        Self::with(options, folder).await
    }

    /// One server with its own options, which name the folder.
    pub async fn with(options: ServerOptions, folder: TempDir) -> Self {
        let (server, others) = (NatsServer::start(options).await.unwrap(), Vec::new());
        Self { server, others, link: NatsOptions::new("n", ["x"]).link, _folder: folder }
    }

    /// The same, whose nodes connect over this link.
    pub fn over(self, link: NatsLink) -> Self {
        Self { link, ..self }
    }

    /// Three servers with routes to each other.
    pub async fn cluster() -> Self {
        let Cluster { mut servers, folder } = Cluster::start().await;
        Self { server: servers.remove(0), others: servers, link: NatsOptions::new("n", ["x"]).link, _folder: folder }
    }

    /// Where guests, who are not nodes, connect: another server, if there is one.
    pub fn guest_url(&self) -> String {
        self.others.last().unwrap_or(&self.server).client_url()
    }

    /// Returns when the guests' server knows every subscription that `node` made before.
    pub async fn settled(&self, node: &dyn Bus) {
        let (subject, heard) = (Subject::node("nobody", "settled"), Heard::default());
        let _sub = node.subscribe(&subject, heard.listen());
        node.fence().await.unwrap();
        let mut options = self.options("settling");
        options.urls = vec![ServerUrl::new(self.guest_url())];
        let far = connect(options).await.unwrap();
        // Subscriptions cross a route in order, so this one shows that those before it have arrived.
        until("the other server knows the subscriptions", async || {
            far.publish(&subject, "here".into());
            far.fence().await.unwrap();
            !heard.all().is_empty()
        })
        .await;
    }

    /// How a node connects that soon notices when the server is away.
    pub fn options(&self, node: &str) -> NatsOptions {
        let mut options =
            NatsOptions::new(node, [self.server.client_url()]).password("node", &self.server.passwords().node);
        options.ping_interval = Duration::from_secs(1);
        options.link = self.link;
        options
    }

    /// Connects a node.
    pub async fn bus(&self, node: &str) -> TestBus {
        connect(self.options(node)).await.unwrap()
    }
}

/// A bus with its own counters.
#[derive(Clone)]
pub struct TestBus {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
}

impl TestBus {
    /// What it counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Deref for TestBus {
    type Target = dyn Bus;

    fn deref(&self) -> &Self::Target {
        &*self.bus
    }
}

/// Connects over the link of the options.
///
/// # Errors
/// Those of the bus.
pub async fn connect(options: NatsOptions) -> Result<TestBus, BusError> {
    let metrics = Metrics::new(&options.node);
    Ok(TestBus { bus: bus::connect(options, metrics.clone()).await?, metrics })
}

/// Remembers what arrived. Clones share it.
#[derive(Clone, Default)]
pub struct Heard(Arc<Memory>);

#[derive(Default)]
struct Memory {
    texts: Mutex<Vec<String>>,
    changed: Notify,
}

impl Heard {
    /// Records what a subscription brings.
    pub fn listen(&self) -> OnMessage {
        let heard = self.clone();
        Arc::new(move |message| heard.push(std::str::from_utf8(&message.payload).unwrap()))
    }

    /// Records the tags of publishes that had no responders.
    pub fn listen_no_responders(&self, bus: &dyn Bus) {
        let heard = self.clone();
        bus.on_no_responders(Arc::new(move |tag| heard.push(tag)));
    }

    fn push(&self, text: &str) {
        self.0.texts.lock().push(text.to_owned());
        self.0.changed.notify_waiters();
    }

    /// What has arrived so far, in order.
    pub fn all(&self) -> Vec<String> {
        self.0.texts.lock().clone()
    }

    /// How much has arrived so far.
    pub fn count(&self) -> usize {
        self.0.texts.lock().len()
    }

    /// Waits until this has arrived.
    pub async fn has(&self, text: &str) {
        self.wait(&format!("{text} is heard"), |all| all.iter().any(|heard| heard == text)).await;
    }

    /// Waits until this much has arrived.
    pub async fn has_count(&self, count: usize) {
        self.wait(&format!("{count} messages are heard"), |all| all.len() >= count).await;
    }

    async fn wait(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let waiting = timeout(PATIENCE, async {
            loop {
                let changed = self.0.changed.notified();
                if holds(&self.0.texts.lock()) {
                    return;
                }
                changed.await;
            }
        });
        let vain = || panic!("waited in vain until {what}; {} came, the last {:?}", self.count(), self.all().last());
        waiting.await.unwrap_or_else(|_| vain());
    }
}

/// A user's subject.
pub fn user(name: &str) -> Subject {
    Subject::user(&UserId::new(name).unwrap())
}
