//! One node in this process, on a free port.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use natter::{bus::Bus, config::Config, gateway::Gateway, metrics::Metrics, node::Node, store::Store};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::harness::{http, until};

/// A running node. Dropping it cuts it off, as a crash would; [`TestNode::drain`] stops it in an orderly way.
pub struct TestNode {
    /// Where it listens.
    pub addr: SocketAddr,
    bus: Weak<dyn Bus>,
    gateway: Weak<Gateway>,
    shutdown: CancellationToken,
    run: JoinHandle<bool>,
}

impl TestNode {
    /// Starts a node and waits until it says that it is ready.
    pub async fn start(config: &Config, store: Store) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let node = Node::build(config, store, Metrics::new(config.node.name.as_str())).await.unwrap();
        let (bus, gateway) = (Arc::downgrade(node.bus()), Arc::downgrade(node.gateway()));
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(node.run(listener, shutdown.clone()));
        until("the node is ready", async || http::get(addr, "/readyz").await.is_some_and(|r| r.status == 200)).await;
        Self { addr, bus, gateway, shutdown, run }
    }

    /// The WebSocket's address.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.addr)
    }

    /// Sessions on the node now.
    pub fn sessions(&self) -> usize {
        self.gateway.upgrade().map_or(0, |gateway| gateway.sessions())
    }

    /// Its connections, without keeping them alive.
    pub fn weak_gateway(&self) -> Weak<Gateway> {
        self.gateway.clone()
    }

    /// What is left of its connection to NATS when it has ended: nothing, if nothing keeps the node alive.
    pub fn weak_bus(&self) -> Weak<dyn Bus> {
        self.bus.clone()
    }

    /// Drains; true if everything under way ended in time.
    pub async fn drain(mut self) -> bool {
        self.shutdown.cancel();
        (&mut self.run).await.unwrap()
    }

    /// The sum of its metrics whose name and labels start like this.
    pub async fn metric(&self, prefix: &str) -> f64 {
        http::metric(self.addr, prefix).await
    }

    /// Whether the node has a connection to NATS now.
    pub fn is_on_nats(&self) -> bool {
        self.bus.upgrade().is_some_and(|bus| bus.connected().is_some())
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.run.abort();
    }
}
