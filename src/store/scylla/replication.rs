//! How the keyspace is replicated, and how natter knows it: a change of it makes copies that are empty until a repair, and
//! a quorum of those shows logs that begin anew. So what was there at `natter migrate` is on record, and another one is
//! told by `natter doctor` and by each node that starts, until somebody says that the repair was made.

use std::{collections::BTreeMap, fmt};

use scylla::client::session::Session;

use super::{ScyllaError, ScyllaOptions};

/// Where it is recorded: in `settings`, a table of the bookkeeping.
const NAME: &str = "replication";

/// The strategy and its options, as the keyspace has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication(String);

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Replication {
    /// In one form, whatever the order of the options and however the class is written.
    pub fn of(options: &BTreeMap<String, String>) -> Self {
        let class = options.get("class").map_or("", String::as_str);
        let class = class.rsplit('.').next().unwrap_or(class);
        let rest = options.iter().filter(|(name, _)| *name != "class").map(|(name, value)| format!(" {name}={value}"));
        Self(std::iter::once(class.to_owned()).chain(rest).collect())
    }
}

/// What is, and what is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicated {
    /// The keyspace's replication.
    pub now: Replication,
    /// That of the last `natter migrate` that recorded it; `None` before the first.
    pub recorded: Option<Replication>,
}

impl Replicated {
    /// Whether it was changed, and nobody has said that the copies were repaired since.
    pub fn differs(&self) -> bool {
        self.recorded.as_ref().is_some_and(|recorded| *recorded != self.now)
    }
}

/// The replication of the options' keyspace. With `repaired` it is recorded as it is now.
///
/// # Errors
/// When the cluster does not answer, or there is no keyspace with a schema.
pub async fn replication(options: &ScyllaOptions, repaired: bool) -> Result<Replicated, ScyllaError> {
    let session = options.session(options.request_timeout).await?;
    let missing = || ScyllaError::SchemaMissing { keyspace: options.keyspace.clone() };
    if repaired {
        let now = now(&session, &options.keyspace).await?.ok_or_else(missing)?;
        record(&session, &options.keyspace, &now).await?;
    }
    look(&session, &options.keyspace).await?.ok_or_else(missing)
}

/// `None` without a keyspace; nothing is on record where there is no table for it.
pub(super) async fn look(session: &Session, ks: &str) -> Result<Option<Replicated>, ScyllaError> {
    let Some(now) = now(session, ks).await? else { return Ok(None) };
    let cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'settings'";
    let there = session.query_unpaged(cql, (ks,)).await.map_err(ScyllaError::statement(cql))?;
    if there.into_rows_result().map_err(ScyllaError::statement(cql))?.rows_num() == 0 {
        return Ok(Some(Replicated { now, recorded: None }));
    }
    let cql = format!("SELECT value FROM {ks}.settings WHERE id = 0 AND name = '{NAME}'");
    let result = session.query_unpaged(cql.as_str(), &[]).await.map_err(ScyllaError::statement(&cql))?;
    let rows = result.into_rows_result().map_err(ScyllaError::statement(&cql))?;
    let row = rows.maybe_first_row::<(Option<String>,)>().map_err(ScyllaError::statement(&cql))?;
    Ok(Some(Replicated { now, recorded: row.and_then(|(value,)| value).map(Replication) }))
}

/// Records what is, where nothing is on record: called by each migration, which makes the keyspace.
pub(super) async fn record_first(session: &Session, ks: &str) -> Result<(), ScyllaError> {
    match look(session, ks).await? {
        Some(Replicated { now, recorded: None }) => record(session, ks, &now).await,
        Some(there) if there.differs() => {
            warn(&there);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// For the log of whoever starts.
pub(super) fn warn(Replicated { now, recorded }: &Replicated) {
    let recorded = recorded.as_ref().map_or("", |recorded| &recorded.0);
    tracing::warn!(
        %now,
        recorded,
        "the keyspace's replication was changed: until its copies are repaired, messages may look lost and their seqs be \
         given twice; stop the nodes, run nodetool repair -full on each server, then natter migrate --repaired"
    );
}

async fn now(session: &Session, ks: &str) -> Result<Option<Replication>, ScyllaError> {
    let cql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let result = session.query_unpaged(cql, (ks,)).await.map_err(ScyllaError::statement(cql))?;
    let rows = result.into_rows_result().map_err(ScyllaError::statement(cql))?;
    let row = rows.maybe_first_row::<(BTreeMap<String, String>,)>().map_err(ScyllaError::statement(cql))?;
    Ok(row.map(|(options,)| Replication::of(&options)))
}

async fn record(session: &Session, ks: &str, now: &Replication) -> Result<(), ScyllaError> {
    let cql = format!("INSERT INTO {ks}.settings (id, name, value) VALUES (0, '{NAME}', ?)");
    session.query_unpaged(cql.as_str(), (&now.0,)).await.map_err(ScyllaError::statement(&cql))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Replication {
        Replication::of(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_form_is_one_and_every_change_shows() {
        let three =
            of(&[("class", "org.apache.cassandra.locator.NetworkTopologyStrategy"), ("dc1", "3"), ("dc2", "1")]);
        assert_eq!(three.to_string(), "NetworkTopologyStrategy dc1=3 dc2=1");
        assert_eq!(three, of(&[("dc2", "1"), ("dc1", "3"), ("class", "NetworkTopologyStrategy")]));
        for other in [
            of(&[("class", "NetworkTopologyStrategy"), ("dc1", "2"), ("dc2", "1")]),
            of(&[("class", "NetworkTopologyStrategy"), ("dc1", "3")]),
            of(&[("class", "SimpleStrategy"), ("dc1", "3"), ("dc2", "1")]),
        ] {
            assert!(Replicated { now: other, recorded: Some(three.clone()) }.differs());
        }
        assert!(!Replicated { now: three.clone(), recorded: Some(three.clone()) }.differs());
        assert!(!Replicated { now: three, recorded: None }.differs());
    }
}
