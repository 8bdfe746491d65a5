//! A mesh to break: a real nats-server, the embedded store, and any number of nodes in this process, each with its own
//! connection to NATS. Used by every end-to-end test.
//!
//! The periodic reconcile is off and the recheck far away unless a test wants them: they make up for everything, so a
//! test with them could not see a broken rule (`docs/rules.md`).

pub mod gone;
pub mod held;
pub mod held_marks;
pub mod hook;
pub mod ledger;
pub mod node;
pub mod peer;
mod peer_task;
pub mod serve;

pub mod absences;
mod blocks;
mod cells;
mod churn;
mod crash;
mod devices;
mod events;
mod freed;
mod key_set;
mod kinds;
mod nats_down;
mod offline;
mod outage;
mod panics;
mod people_ops;
mod presence;
mod pushes;
mod queue;
mod refused;
mod reload;
mod replaced;
pub mod resumed;
mod room_ops;
mod rooms;
mod rooms_large;
mod rules_alone;
mod scenarios;
mod scylla;
pub mod sealing;
mod service_ops;
mod services;
mod sessions;
mod slow_reader;
mod truncated;
mod walk;
mod webhooks;

use std::{sync::Arc, time::Duration};

use natter::{
    auth::Minter,
    config::{Config, Secret, ServerUrl},
    model::UserId,
    nats_server::{NatsServer, ServerOptions},
    protocol::Encoding,
    store::{
        Store,
        embedded::{EmbeddedOptions, EmbeddedStore},
    },
};
use tempfile::TempDir;

pub use self::{node::TestNode, peer::Peer};

/// The secret that tokens are signed with.
pub const SECRET: &str = "a-secret-of-the-tests-long-enough-for-hs256";

/// Nodes, their NATS server and their store.
pub struct TestMesh {
    /// The server, to be killed, stopped and started again.
    pub nats: NatsServer,
    /// The one store that all nodes share.
    pub store: Arc<EmbeddedStore>,
    /// The configuration that every node starts with.
    pub config: Config,
    /// The nodes that were started and not yet stopped.
    pub nodes: Vec<TestNode>,
    _folder: TempDir,
}

impl TestMesh {
    /// A mesh of `count` nodes in which nothing is repaired by time alone.
    pub async fn start(count: usize) -> Self {
        Self::tuned(count, |_| ()).await
    }

    /// The same with another configuration.
    pub async fn tuned(count: usize, tune: impl FnOnce(&mut Config)) -> Self {
        let mut mesh = Self::bare(tune).await;
        for _ in 0..count {
            let nats = mesh.nats.client_url();
            mesh.add_node(nats).await;
        }
        mesh
    }

    /// The server and the store, no nodes yet.
    pub async fn bare(tune: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
        let mut config = quiet_config();
        config.nats.password = Some(Secret::new(nats.passwords().node.clone()));
        tune(&mut config);
        let store = EmbeddedStore::open(&folder.path().join("store"), EmbeddedOptions::from(&config)).unwrap();
        Self { nats, store, config, nodes: Vec::new(), _folder: folder }
    }

    /// Starts one more node that reaches NATS at `nats`: the server itself, or something in front of it.
    pub async fn add_node(&mut self, nats: String) -> &TestNode {
        let store = Store::of(self.store.clone());
        self.add_node_on(nats, store).await
    }

    /// The same on a store that wraps the shared one.
    pub async fn add_node_on(&mut self, nats: String, store: Store) -> &TestNode {
        let mut config = self.config.clone();
        config.node.name = UserId::new(&format!("n{}", self.nodes.len() + 1)).unwrap();
        if config.nats.cells.is_empty() {
            config.nats.urls = vec![ServerUrl::new(nats)];
        }
        let node = TestNode::start(&config, store).await;
        self.nodes.push(node);
        &self.nodes[self.nodes.len() - 1]
    }

    /// A client of node `node`, JSON.
    pub async fn json(&self, node: usize, user: &str, device: &str) -> Peer {
        self.peer(node, user, device, Encoding::Json).await
    }

    /// A client of node `node`, MessagePack.
    pub async fn msgpack(&self, node: usize, user: &str, device: &str) -> Peer {
        self.peer(node, user, device, Encoding::MsgPack).await
    }

    /// A client in either encoding, already welcomed.
    pub async fn peer(&self, node: usize, user: &str, device: &str, encoding: Encoding) -> Peer {
        Peer::join(&self.nodes[node].url(), user, device, encoding).await
    }
}

/// The configuration of the tests: nothing is repaired by time alone, no rate limits.
pub fn quiet_config() -> Config {
    let mut config = Config::default();
    config.nats.user = Some("node".into());
    config.auth.hs256_secret = Some(Secret::new(SECRET));
    config.limits.sends_per_sec = 0;
    config.limits.send_burst = 0;
    config.timing.reconcile_secs = 0;
    config.timing.recheck_ms = 600_000;
    config.timing.drain_secs = 5;
    config
}

/// A token that every mesh accepts, also where clocks are an hour ahead.
pub fn token(user: &str) -> String {
    token_for(user, Duration::from_secs(3 * 3600))
}

/// A service's token that every mesh accepts.
pub fn service_token(service: &str) -> String {
    let minter = Minter::new(&Secret::new(SECRET)).unwrap();
    minter.mint_service(&UserId::new(service).unwrap(), Duration::from_secs(3 * 3600)).unwrap()
}

/// A token that expires after `ttl`, in whole seconds.
pub fn token_for(user: &str, ttl: Duration) -> String {
    let minter = Minter::new(&Secret::new(SECRET)).unwrap();
    minter.mint(&UserId::new(user).unwrap(), ttl).unwrap()
}
