//! What an operator wants to know of a cluster before nodes run on it. Called by `natter doctor`, and by the store
//! for its replication factor.
//!
//! Reads system tables, and writes one row: slot −1 of `health`, which only the doctor uses.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use scylla::{
    client::session::Session,
    cluster::metadata::Strategy,
    deserialize::row::DeserializeRow,
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    statement::{SerialConsistency, unprepared::Statement},
};

use super::{Replicated, ScyllaError, ScyllaOptions, replication, schema};
use crate::model::now_millis;

mod homes;

pub use homes::{HomeSeen, HomeState, Homed};

/// How many reads the latency is taken from; the first is left out, it opens connections.
const READS: usize = 9;

/// What was found.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Whether it is ScyllaDB and not Apache Cassandra.
    pub is_scylladb: bool,
    /// The version of the schema there, 0 for none.
    pub schema: i32,
    /// The version that this build needs.
    pub schema_wanted: i32,
    /// Copies of each row by datacenter; empty where there is no keyspace.
    pub replication: BTreeMap<String, usize>,
    /// The keyspace's replication and what is on record of it; `None` where there is no keyspace.
    pub replicated: Option<Replicated>,
    /// Who is home of what, where there is a schema.
    pub homes: Option<Homed>,
    /// Whether the keyspace is on tablets.
    pub tablets: bool,
    /// Each server.
    pub servers: Vec<Server>,
    /// Median time of a quorum read, where there is a schema.
    pub read: Option<Duration>,
    /// How long one conditional write took, or why it failed; `None` where there is no schema.
    pub lwt: Option<Result<Duration, String>>,
}

impl Inspection {
    /// Whether the schema is so far ahead that this build does not run on it.
    pub fn is_schema_too_new(&self) -> bool {
        schema::is_too_new(self.schema, self.schema_wanted)
    }
}

/// One server of the cluster.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its answers, or why there are none.
    pub answers: Result<Answers, String>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Its release.
    pub version: String,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub ahead_ms: i64,
    /// How far that may be off: half the round trip.
    pub within_ms: i64,
    /// Its settings by name; those that are not set are left out, all where its tables do not show them.
    pub settings: BTreeMap<String, String>,
}

/// Looks at the cluster. Works without a keyspace and with any schema.
///
/// # Errors
/// When no server can be used at all, or the schema cannot be asked for.
pub async fn inspect(options: &ScyllaOptions) -> Result<Inspection, ScyllaError> {
    // Without a datacenter, so that a misspelt one can be reported as such.
    let anywhere = ScyllaOptions { datacenter: None, ..options.clone() };
    let session = anywhere.session(options.request_timeout).await?;
    let schema = schema::version(&session, options).await?;
    let is_scylladb = schema::is_scylladb(&session).await?;
    let state = session.get_cluster_state();
    let keyspace = state.get_keyspace(&options.keyspace);
    let made = schema > 0;
    Ok(Inspection {
        is_scylladb,
        schema,
        schema_wanted: schema::wanted(),
        replication: keyspace.map(|keyspace| copies(&keyspace.strategy)).unwrap_or_default(),
        tablets: keyspace.is_some_and(|keyspace| keyspace.tablet_based),
        replicated: replication::look(&session, &options.keyspace).await?,
        homes: if made { homes::look(&session, &options.keyspace).await.ok() } else { None },
        servers: servers(&session, is_scylladb).await,
        read: if made { read_latency(&session, &options.keyspace).await } else { None },
        lwt: if made { Some(conditional_write(&session, &options.keyspace).await) } else { None },
    })
}

/// How many copies of each row a keyspace keeps in a datacenter.
pub(super) fn replicas(session: &Session, keyspace: &str, datacenter: &str) -> Option<usize> {
    let state = session.get_cluster_state();
    let copies = copies(&state.get_keyspace(keyspace)?.strategy);
    copies.get(datacenter).or_else(|| copies.get("")).copied()
}

/// By datacenter; under the empty name where the strategy knows none.
fn copies(strategy: &Strategy) -> BTreeMap<String, usize> {
    match strategy {
        Strategy::NetworkTopologyStrategy { datacenter_repfactors } => {
            datacenter_repfactors.iter().map(|(dc, copies)| (dc.clone(), *copies)).collect()
        }
        Strategy::SimpleStrategy { replication_factor } => [(String::new(), *replication_factor)].into(),
        _ => BTreeMap::new(),
    }
}

async fn servers(session: &Session, is_scylladb: bool) -> Vec<Server> {
    let state = session.get_cluster_state();
    let ask = state.get_nodes_info().iter().map(async |node| {
        let at = At { session, node: NodeIdentifier::HostId(node.host_id) };
        Server {
            address: format!("{}:{}", node.address.ip(), node.address.port()),
            datacenter: node.datacenter.clone().unwrap_or_default(),
            answers: at.answers(is_scylladb).await,
        }
    });
    let mut servers = join_all(ask).await;
    servers.sort_by(|a, b| a.address.cmp(&b.address));
    servers
}

/// Questions to one server: its system tables are its own.
struct At<'a> {
    session: &'a Session,
    node: NodeIdentifier,
}

impl At<'_> {
    async fn answers(&self, is_scylladb: bool) -> Result<Answers, String> {
        let version = if is_scylladb {
            "SELECT version FROM system.versions WHERE key = 'local'"
        } else {
            "SELECT release_version FROM system.local WHERE key = 'local'"
        };
        let version = self.rows::<(String,)>(version).await?.pop().map(|row| row.0).unwrap_or_default();
        let (ahead_ms, within_ms) = self.clock().await?;
        let table = if is_scylladb { "system.config" } else { "system_views.settings" };
        // Not every version shows its settings, and a role may not be allowed to see them.
        let settings = self.rows::<(String, Option<String>)>(&format!("SELECT name, value FROM {table}")).await;
        let set = settings.unwrap_or_default().into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(Answers { version, ahead_ms, within_ms, settings: set.collect() })
    }

    async fn clock(&self) -> Result<(i64, i64), String> {
        let cql = "SELECT toUnixTimestamp(now()) FROM system.local WHERE key = 'local'";
        let (before, begin) = (now_millis(), Instant::now());
        let rows = self.rows::<(i64,)>(cql).await?;
        let half = i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX) / 2;
        let there = rows.first().ok_or("no time came back")?.0;
        Ok((there - super::signed(before) - half, half + 1))
    }

    async fn rows<R>(&self, cql: &str) -> Result<Vec<R>, String>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut statement = Statement::new(cql);
        statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(self.node.clone(), None)));
        // Tables of one server have one copy.
        statement.set_consistency(scylla::statement::Consistency::One);
        rows(self.session, statement, ()).await
    }
}

async fn rows<R>(
    session: &Session,
    statement: Statement,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Vec<R>, String>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let result = session.query_unpaged(statement, values).await.map_err(|e| e.to_string())?;
    let result = result.into_rows_result().map_err(|e| e.to_string())?;
    let rows = result.rows::<R>().map_err(|e| e.to_string())?;
    rows.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

async fn read_latency(session: &Session, keyspace: &str) -> Option<Duration> {
    let mut took = Vec::new();
    for _ in 0..READS {
        let begin = Instant::now();
        let cql = Statement::new(format!("SELECT beat FROM {keyspace}.health WHERE slot = -1"));
        rows::<(Option<i64>,)>(session, cql, ()).await.ok()?;
        took.push(begin.elapsed());
    }
    took.remove(0);
    took.sort();
    took.get(took.len() / 2).copied()
}

/// Whether conditional writes work: each message is one.
async fn conditional_write(session: &Session, keyspace: &str) -> Result<Duration, String> {
    let mut insert = Statement::new(format!("INSERT INTO {keyspace}.health (slot, beat) VALUES (-1, 0) IF NOT EXISTS"));
    insert.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    let begin = Instant::now();
    // Applied or not, it went through Paxos.
    let result = session.query_unpaged(insert, ()).await.map_err(|e| e.to_string())?;
    let rows = result.into_rows_result().map_err(|e| e.to_string())?.rows_num();
    if rows == 0 { Err("it gave no answer".to_owned()) } else { Ok(begin.elapsed()) }
}
