//! Keyspaces of tests. Each test has its own; those that leave nothing behind but rows lend theirs and give it back, for making
//! all tables takes a second, and emptying them a quarter of that.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::join_all;
use natter::store::scylla::ScyllaOptions;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tokio::sync::{RwLock, RwLockReadGuard};

/// Given back, the one that rested longest first.
static FREE: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
/// Cassandra 5.0 stands still for ever when a table is emptied while another is made, at the first flush of its life: the one holds
/// the lock of the system tables and waits for that of gossip, the other holds that and waits for the first. So nobody empties a
/// table while somebody makes one, and [`warm`] has the first flush over before there are tests.
static MAKING: RwLock<()> = RwLock::const_new(());
/// So many rest before one is lent again: a write that was under way when its test ended has arrived by then.
const RESTING: usize = 3;

thread_local! {
    /// Each test has a thread of its own, which ends after the test's runtime and with it the test's stores.
    static LENT: RefCell<Lent> = const { RefCell::new(Lent(Vec::new())) };
}

struct Lent(Vec<String>);

impl Drop for Lent {
    fn drop(&mut self) {
        FREE.lock().unwrap().extend(self.0.drain(..));
    }
}

/// A keyspace name that no other test uses.
pub fn keyspace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Until this test's thread ends, `keyspace` is its own.
pub fn lend(keyspace: &str) {
    LENT.with_borrow_mut(|lent| lent.0.push(keyspace.to_owned()));
}

/// One that was given back, if enough were.
pub fn rested() -> Option<String> {
    let mut free = FREE.lock().unwrap();
    (free.len() >= RESTING).then(|| free.pop_front()).flatten()
}

/// While this is held tables may be made.
pub async fn making() -> RwLockReadGuard<'static, ()> {
    MAKING.read().await
}

/// Empties a table of a new server, as the first thing that is done with it.
pub async fn warm(options: &ScyllaOptions) {
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let ks = &options.keyspace;
    for cql in [
        format!(
            "CREATE KEYSPACE {ks} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"
        ),
        format!("CREATE TABLE {ks}.probe (id int PRIMARY KEY)"),
        format!("INSERT INTO {ks}.probe (id) VALUES (1)"),
        format!("TRUNCATE {ks}.probe"),
    ] {
        session.query_unpaged(cql, &[]).await.unwrap();
    }
}

/// Empties all tables but those that say what the schema is.
pub async fn empty(options: &ScyllaOptions) {
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let keyspace = &options.keyspace;
    let tables = tables(&session, keyspace).await;
    assert!(tables.len() > 10, "{tables:?}");
    let emptied =
        tables.iter().filter(|table| !matches!(table.as_str(), "schema_version" | "schema_lock" | "settings"));
    let emptied = emptied.map(async |table| session.query_unpaged(format!("TRUNCATE {keyspace}.{table}"), &[]).await);
    let _nobody_makes = MAKING.write().await;
    for done in join_all(emptied).await {
        done.expect("a table must be emptied");
    }
}

async fn tables(session: &Session, keyspace: &str) -> Vec<String> {
    let all = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let rows = session.query_unpaged(all, (keyspace,)).await.unwrap().into_rows_result().unwrap();
    rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect()
}
