//! The `natter serve` processes of a test, each with its own connections to NATS and to the CQL server.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use natter::{
    model::ConvId,
    nats_server::{NatsServer, ServerOptions, free_ports},
    store::{
        scylla::{ScyllaOptions, ScyllaStore},
        slots::{Incarnation, Slot, Slots as _},
    },
};
use tempfile::TempDir;

use super::people::patiently;
use crate::{
    harness::{http, preload},
    mesh::{
        SECRET,
        serve::{Around, ServeProcess},
    },
};

/// How one node reaches what it needs.
#[derive(Clone)]
pub struct Ways {
    /// NATS servers.
    pub nats: Vec<String>,
    /// CQL servers.
    pub cql: Vec<String>,
    /// How many seconds its clock is ahead of this one.
    pub ahead: i64,
}

impl Ways {
    /// Through one NATS server and all CQL servers of the options.
    pub fn straight(nats: &NatsServer, options: &ScyllaOptions) -> Self {
        Self { nats: vec![nats.client_url()], cql: options.contact_points.clone(), ahead: 0 }
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
                let clock = (ways.ahead != 0).then(|| preload::clock_ahead(ways.ahead));
                let variables = clock.map(|clock| clock.expect("skewed clocks need cc")).unwrap_or_default();
                ServeProcess::configured_with(&folder, addr, &text, Around { variables, ..Around::default() }).await
            }
        });
        Self { nodes: join_all(starts).await, store, _folder: folder }
    }

    /// `count` nodes on one NATS server, everything reached directly.
    pub async fn simple(count: usize, options: &ScyllaOptions) -> (Self, NatsServer, TempDir) {
        Self::with(count, options, QUICK).await
    }

    /// The same; `more` is added to each configuration.
    pub async fn with(count: usize, options: &ScyllaOptions, more: &str) -> (Self, NatsServer, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(ServerOptions::new(folder.path())).await.unwrap();
        let ways = vec![Ways::straight(&nats, options); count];
        (Self::start(&ways, &nats.passwords().node, options, more).await, nats, folder)
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

    /// The same, of these nodes together.
    pub async fn metric_of(&self, nodes: &[usize], prefix: &str) -> f64 {
        join_all(nodes.iter().map(|node| self.metric(*node, prefix))).await.into_iter().sum()
    }

    /// The incarnation that is home of a conversation, if one is.
    pub async fn home_of(&self, conv: &ConvId) -> Option<Incarnation> {
        self.store.term(Slot::of(conv)).await.unwrap().map(|term| term.home)
    }

    /// Kills all nodes at once, and starts them again at once.
    pub async fn restart_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.process.kill9());
        join_all(self.nodes.iter_mut().map(ServeProcess::restart)).await;
    }

    /// Checks that no process has ended by itself.
    pub fn all_live(&mut self) {
        for node in &mut self.nodes {
            let ended = node.process.exited();
            assert!(ended.is_none(), "a node ended: {ended:?}");
        }
    }
}

/// No comparison but those of logins: what is heard in time was published in time.
pub const QUIET: &str = "timing.reconcile_secs = 0\ntiming.recheck_ms = 60000\ntiming.drain_secs = 1\n\
                         store.scylla.request_timeout_ms = 2000\n";

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
