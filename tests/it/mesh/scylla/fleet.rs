//! The `natter serve` processes of a test, each with its own connections to NATS and to the CQL server.

use std::{net::SocketAddr, sync::Arc};

use natter::{
    nats_server::{NatsServer, ServerOptions, free_ports},
    store::scylla::{ScyllaOptions, ScyllaStore},
};
use tempfile::TempDir;

use super::people::patiently;
use crate::{
    harness::http,
    mesh::{SECRET, serve::ServeProcess},
};

/// How one node reaches what it needs.
#[derive(Clone)]
pub struct Ways {
    /// NATS servers.
    pub nats: Vec<String>,
    /// CQL servers.
    pub cql: Vec<String>,
}

impl Ways {
    /// Through one NATS server and all CQL servers of the options.
    pub fn straight(nats: &NatsServer, options: &ScyllaOptions) -> Self {
        Self { nats: vec![nats.client_url()], cql: options.contact_points.clone() }
    }
}

/// The nodes, and a separate store for the test on their keyspace.
pub struct Fleet {
    /// The processes, killed when dropped.
    pub nodes: Vec<ServeProcess>,
    /// Reads what they wrote, bypassing every fault between them and the server.
    pub store: Arc<ScyllaStore>,
    _folder: TempDir,
}

impl Fleet {
    /// One node for each of `ways`, on the keyspace of `options`; `more` is added to each configuration.
    pub async fn start(ways: &[Ways], password: &str, options: &ScyllaOptions, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ScyllaStore::connect(options.clone()).await.unwrap();
        let starts = ways.iter().enumerate().map(|(i, ways)| {
            let folder = folder.path().join(format!("p{}", i + 1));
            async move {
                std::fs::create_dir_all(&folder).unwrap();
                let addr = SocketAddr::from(([127, 0, 0, 1], free_ports(1).unwrap()[0]));
                let text = configuration(i + 1, addr, ways, password, &options.keyspace) + more;
                ServeProcess::configured(&folder, addr, &text).await
            }
        });
        Self { nodes: futures_util::future::join_all(starts).await, store, _folder: folder }
    }

    /// `count` nodes on one NATS server, everything reached directly.
    pub async fn simple(count: usize, options: &ScyllaOptions) -> (Self, NatsServer, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
        let ways = vec![Ways::straight(&nats, options); count];
        (Self::start(&ways, &nats.passwords().node, options, QUICK).await, nats, folder)
    }

    /// The addresses of all nodes, `first` first.
    pub fn urls(&self, first: usize) -> Vec<String> {
        let mut urls: Vec<_> = self.nodes.iter().map(ServeProcess::url).collect();
        urls.rotate_left(first);
        urls
    }

    /// Whether a node says that it is ready; `None` when nothing answers.
    pub async fn ready(&self, node: usize) -> Option<bool> {
        http::get(self.nodes[node].addr, "/readyz").await.map(|answer| answer.status == 200)
    }

    /// Waits until every node says that it is ready.
    pub async fn until_ready(&self, wanted: bool) {
        for node in 0..self.nodes.len() {
            let as_wanted = async || self.ready(node).await == Some(wanted);
            patiently(&format!("/readyz of node {node} says {wanted}"), as_wanted).await;
        }
    }

    /// The sum of a node's metrics whose name and labels start like this.
    pub async fn metric(&self, node: usize, prefix: &str) -> f64 {
        http::metric(self.nodes[node].addr, prefix).await
    }

    /// Checks that no process has ended by itself.
    pub fn all_live(&mut self) {
        for node in &mut self.nodes {
            let ended = node.process.exited();
            assert!(ended.is_none(), "a node ended: {ended:?}");
        }
    }
}

/// Short times, so that reconcile makes up for losses soon and requests give up early.
pub const QUICK: &str = "timing.reconcile_secs = 5\ntiming.reconcile_spread_secs = 1\ntiming.drain_secs = 1\n\
                         store.scylla.request_timeout_ms = 2000\n";

fn configuration(number: usize, addr: SocketAddr, ways: &Ways, password: &str, keyspace: &str) -> String {
    format!(
        "http.listen = \"{addr}\"\nnode.name = \"p{number}\"\nauth.hs256_secret = \"{SECRET}\"\n\
         nats.urls = {nats:?}\nnats.user = \"node\"\nnats.password = \"{password}\"\n\
         store.kind = \"scylla\"\nstore.scylla.contact_points = {cql:?}\nstore.scylla.keyspace = \"{keyspace}\"\n\
         limits.sends_per_sec = 0\nlimits.send_burst = 0\n",
        nats = ways.nats,
        cql = ways.cql,
    )
}
