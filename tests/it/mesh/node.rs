//! One node in this process, on a free port.

use std::{net::SocketAddr, sync::Arc};

use natter::{config::Config, gateway::Gateway, node::Node, store::Store};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::until;
use crate::harness::http;

/// A running node. Cut off when dropped, as a crash would; [`TestNode::drain`] stops it in order.
pub struct TestNode {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What its connections share.
    pub gateway: Arc<Gateway>,
    shutdown: CancellationToken,
    run: JoinHandle<bool>,
}

impl TestNode {
    /// Starts a node and waits until it says that it is ready.
    pub async fn start(config: &Config, store: Arc<dyn Store>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let node = Node::build(config, store).await.unwrap();
        let gateway = node.gateway().clone();
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(node.run(listener, shutdown.clone()));
        until("the node is ready", async || http::get(addr, "/readyz").await.is_some_and(|r| r.status == 200)).await;
        Self { addr, gateway, shutdown, run }
    }

    /// The WebSocket's address.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.addr)
    }

    /// Drains; true when everything under way ended in time.
    pub async fn drain(mut self) -> bool {
        self.shutdown.cancel();
        (&mut self.run).await.unwrap()
    }

    /// A counter or gauge of `/metrics` whose name and labels start like this, or 0.
    pub async fn metric(&self, prefix: &str) -> f64 {
        let answer = http::get(self.addr, "/metrics").await.unwrap();
        let line = answer.body.lines().find(|line| line.starts_with(prefix) && !line.starts_with('#'));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Whether the node has a connection to NATS now.
    pub fn is_on_nats(&self) -> bool {
        self.gateway.bus.connected().is_some()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.run.abort();
    }
}
