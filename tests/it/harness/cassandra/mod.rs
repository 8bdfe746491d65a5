//! A real CQL server for the tests: Apache Cassandra on loopback, fetched once, stopped with the tests.
//!
//! [`Cassandra::shared`] is one server for all tests of this process: each uses its own keyspace ([`keyspace`]). A test
//! that harms the server starts its own with [`Cassandra::start`]. Servers die with the test process, however it ends.

mod fetch;
mod keyspaces;
mod server;
mod taking;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use natter::store::scylla::{ScyllaOptions, migrate};
use tokio::sync::OnceCell;

use self::server::{Life, Server};
pub use self::{keyspaces::keyspace, taking::Taking};
use super::{
    skip::skip,
    wait::{until_ok, until_within},
};

/// How long servers may take to find one another.
const RING_PATIENCE: Duration = Duration::from_secs(120);

/// Whether the tests of this module can run here; `Err` says why not, worded to follow "skipped, because …". The first
/// call may download the server.
pub fn available() -> Result<(), String> {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    CHECKED.get_or_init(|| fetch::java().and_then(|_| fetch::jars()).map(drop)).clone()
}

/// Whether the tests of `part` must be skipped here; if so, says it.
pub async fn missing(part: &str) -> bool {
    let available = tokio::task::spawn_blocking(available).await.unwrap();
    available.is_err_and(|why| {
        skip(part, &why);
        true
    })
}

/// Run by the test command before the tests that need the server: if it fails they are skipped, for the reason it
/// prints.
#[test]
#[ignore = "asks whether Cassandra can be had here; it may download it"]
fn is_available() {
    available().unwrap_or_else(|why| panic!("{why}"));
}

/// One server or a cluster of three, all on one port of 127.0.0.1, .2 and .3.
pub struct Cassandra {
    servers: Vec<Server>,
}

impl Cassandra {
    /// Starts `nodes` servers one after the other and waits until each answers CQL and all see one another.
    pub async fn start(nodes: usize) -> Self {
        Self::start_for(nodes, Life::Again).await
    }

    async fn start_for(nodes: usize, life: Life) -> Self {
        assert!(matches!(nodes, 1 | 3), "1 or 3 nodes");
        let available = tokio::task::spawn_blocking(available).await.unwrap();
        available.unwrap_or_else(|why| panic!("no Cassandra here: {why}"));
        let cassandra = Self { servers: server::start_all(nodes, life).await };
        cassandra.see_each_other().await;
        cassandra
    }

    /// The server that all tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cassandra> = OnceCell::const_new();
        let start = async || {
            let cassandra = Self::start_for(1, Life::Once).await;
            keyspaces::warm(&cassandra.options(&keyspace())).await;
            cassandra
        };
        SHARED.get_or_init(start).await
    }

    /// The address where `node` (from 0) speaks CQL.
    pub fn addr(&self, node: usize) -> SocketAddr {
        self.servers[node].addr()
    }

    /// Options of a store in `keyspace` on these servers.
    pub fn options(&self, keyspace: &str) -> ScyllaOptions {
        ScyllaOptions {
            contact_points: self.servers.iter().map(|s| s.addr().to_string()).collect(),
            keyspace: keyspace.to_owned(),
            replication_factor: u8::try_from(self.servers.len()).unwrap(),
            // Shorter than a real node's, so that tests of outages end sooner.
            request_timeout: Duration::from_secs(2),
            ..ScyllaOptions::default()
        }
    }

    /// Makes a keyspace with the current schema and returns the options to reach it.
    pub async fn migrated(&self) -> ScyllaOptions {
        let options = self.options(&keyspace());
        let _making = keyspaces::making().await;
        migrate(&options).await.expect("a fresh keyspace must migrate");
        options
    }

    /// The same in no time, for a test that kills nothing and whose writes are done when it ends: the keyspace is another test's
    /// afterwards.
    pub async fn lent(&self) -> ScyllaOptions {
        let options = match keyspaces::rested() {
            Some(keyspace) => self.options(&keyspace),
            None => self.migrated().await,
        };
        keyspaces::empty(&options).await;
        keyspaces::lend(&options.keyspace);
        options
    }

    /// A separate store in such a keyspace.
    pub async fn store(&self) -> Arc<Taking> {
        Taking::connect(&self.lent().await).await
    }

    /// The processor time that a server has used.
    pub fn cpu(&self, node: usize) -> Duration {
        self.servers[node].process.cpu()
    }

    /// The process of a server.
    pub fn pid(&self, node: usize) -> u32 {
        self.servers[node].process.pid()
    }

    /// Freezes a server: it keeps its connections and answers nothing.
    pub fn pause(&self, node: usize) {
        self.servers[node].process.pause();
    }

    /// Lets a frozen server continue.
    pub fn resume(&self, node: usize) {
        self.servers[node].process.resume();
    }

    /// Kills a server without warning.
    pub fn kill9(&mut self, node: usize) {
        self.servers[node].process.kill9();
    }

    /// Starts a killed server on its old data and waits until it answers CQL.
    pub async fn restart(&mut self, node: usize) {
        self.servers[node].restart().await;
    }

    /// Copies the files of a killed server.
    pub fn save(&mut self, node: usize, to: &Path) {
        self.servers[node].save(to);
    }

    /// Puts such a copy in the place of its files.
    pub fn put_back(&mut self, node: usize, from: &Path) {
        self.servers[node].put_back(from);
    }

    fn all_seen_by(&self, server: &Server) -> bool {
        self.servers.iter().all(|other| other.addr() == server.addr() || server.sees(other.addr().ip()))
    }

    async fn see_each_other(&self) {
        if self.servers.len() == 1 {
            return;
        }
        // A schema change made before all servers see each other reaches the late ones only after a minute.
        let seen = async || self.servers.iter().all(|server| self.all_seen_by(server));
        until_within(RING_PATIENCE, "the servers see one another", seen).await;
        let options = self.options(&keyspace());
        let written = async || server::write_at_all(&options).await;
        until_ok(RING_PATIENCE, "all servers take a write", written).await;
    }
}

fn address(node: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, u8::try_from(node + 1).unwrap()))
}
