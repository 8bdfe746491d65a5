//! The schema in numbered CQL files, and how a cluster gets it. Called by `natter migrate` and, to refuse a
//! schema that is not this build's, by the store's `connect`.

use std::time::Duration;

use scylla::{
    client::session::Session,
    errors::ExecutionError,
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    response::query_result::QueryResult,
    statement::unprepared::Statement,
};
use tokio::time::{Instant, sleep};

use super::{
    ScyllaError, ScyllaOptions, replication,
    retry::{AFTER_ERROR, Backoff},
};
use crate::model::now_millis;

/// All migrations, the oldest first; a file's place in this list is its version. Files are added, never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../schema/001_logs.cql"),
    include_str!("../../../schema/002_homes.cql"),
    include_str!("../../../schema/003_rooms.cql"),
    include_str!("../../../schema/004_people.cql"),
    include_str!("../../../schema/005_kinds.cql"),
    include_str!("../../../schema/006_keys.cql"),
];

/// Schema changes take seconds on a loaded cluster.
const DDL_TIMEOUT: Duration = Duration::from_secs(60);
/// A migrating node that died gives the lock back after this.
const LOCK_SECONDS: i32 = 120;
/// Before a statement the lock is renewed unless it was within this, so that it outlasts any statement.
const RENEWED_WITHIN: Duration = Duration::from_secs(15);
/// A table that another node is making must answer within this.
const TABLE_WAIT: Duration = Duration::from_secs(15);
/// A read at the start of a node is asked this often before the start fails, and the lock renewed before it is given up.
const TRIES: usize = 5;
const LOCK_WAIT: Duration = Duration::from_secs(150);

/// What [`migrate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version found, 0 for none.
    pub from: i32,
    /// The version now.
    pub to: i32,
}

/// Whether this build can run on the schema of the keyspace: its own, or the next one, so that an upgrade can be taken
/// back. That works because a migration only adds what older builds do not look at; a test below holds the files to it.
///
/// # Errors
/// [`ScyllaError::SchemaMissing`], [`ScyllaError::SchemaOlder`] or [`ScyllaError::SchemaNewer`], each saying what to do.
pub(super) async fn check_schema(session: &Session, options: &ScyllaOptions) -> Result<(), ScyllaError> {
    match version(session, options).await? {
        0 => Err(ScyllaError::SchemaMissing { keyspace: options.keyspace.clone() }),
        have if have < wanted() => Err(ScyllaError::SchemaOlder { have, want: wanted() }),
        have if is_too_new(have, wanted()) => Err(ScyllaError::SchemaNewer { have, want: wanted() }),
        have => {
            warn_if_newer(have);
            Ok(())
        }
    }
}

/// More than one version ahead of `wanted`: what such a schema means is unknown to a build of that version.
pub(super) fn is_too_new(have: i32, wanted: i32) -> bool {
    have > wanted + 1
}

fn warn_if_newer(have: i32) {
    if have > wanted() {
        tracing::warn!(
            have,
            knows = wanted(),
            "the schema is one version newer than this build, which runs on it all the same: \
             go on with the upgrade, or stay on this build until you do"
        );
    }
}

/// The version of the keyspace's schema, 0 for none.
pub(super) async fn version(session: &Session, options: &ScyllaOptions) -> Result<i32, ScyllaError> {
    if has_table(session, options, "schema_version").await? {
        recorded_version(session, &options.keyspace).await
    } else {
        Ok(0)
    }
}

/// Brings the keyspace to the schema of this build, and makes it where it is missing. May be run again, and from
/// several nodes at once: one does the work while the others wait.
///
/// # Errors
/// When the cluster cannot be reached, refuses a statement, or has a schema more than one version newer than this build.
/// One that is one version newer is left as it is.
pub async fn migrate(options: &ScyllaOptions) -> Result<Migrated, ScyllaError> {
    let session = options.session(DDL_TIMEOUT).await?;
    let migration = Migration { coordinator: coordinator(&session), session: &session, options };
    migration.make_keyspace().await?;
    migration.make_bookkeeping().await?;
    let owner = format!("{:016x}", rand::random::<u64>());
    migration.lock(&owner).await?;
    let done = migration.apply(&owner).await;
    if let Err(error) = migration.unlock(&owner).await {
        tracing::warn!(%error, "the lock of the schema stays for {LOCK_SECONDS} s: a migration until then waits for that");
    }
    done
}

pub(super) fn wanted() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Two servers that make the same table at the same moment make two tables of one name; so every node
/// sends its migration to the same server, the one with the smallest id.
fn coordinator(session: &Session) -> Option<NodeIdentifier> {
    let state = session.get_cluster_state();
    let up = state.get_nodes_info().iter().filter(|node| node.is_connected());
    up.map(|node| node.host_id).min().map(NodeIdentifier::HostId)
}

struct Migration<'a> {
    session: &'a Session,
    options: &'a ScyllaOptions,
    coordinator: Option<NodeIdentifier>,
}

impl Migration<'_> {
    /// `IF NOT EXISTS` is sent even where the system tables show that there is nothing to make: its answer comes after
    /// a change that another node has under way, and a look at the system tables does not wait for that.
    async fn make_keyspace(&self) -> Result<(), ScyllaError> {
        let Self { session, options, .. } = self;
        let (ks, rf) = (&options.keyspace, options.replication_factor);
        let dc = match &options.datacenter {
            Some(dc) => dc.clone(),
            None => local_datacenter(session).await?,
        };
        // ScyllaDB before 2025.4 has no conditional writes on tablets; Cassandra does not know the word.
        let tablets = if is_scylladb(session).await? { " AND tablets = {'enabled': false}" } else { "" };
        self.ddl(&format!(
            "CREATE KEYSPACE IF NOT EXISTS {ks} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{dc}': {rf}}}{tablets}"
        ))
        .await?;
        if rf == 1 {
            tracing::warn!(
                keyspace = ks,
                "replication factor 1: a lost disk loses messages; use 3 outside development"
            );
        }
        Ok(())
    }

    async fn make_bookkeeping(&self) -> Result<(), ScyllaError> {
        let ks = &self.options.keyspace;
        for (table, columns) in [
            ("schema_lock", "id int PRIMARY KEY, owner text"),
            ("schema_version", "id int, version int, applied_at bigint, PRIMARY KEY (id, version)"),
            ("settings", "id int, name text, value text, PRIMARY KEY (id, name)"),
        ] {
            // Read at the start of each node, also while a replica is frozen; the reason stands in 001_logs.cql.
            let speculative = "speculative_retry = '100ms'";
            self.ddl(&format!("CREATE TABLE IF NOT EXISTS {ks}.{table} ({columns}) WITH {speculative}")).await?;
            self.wait_for(table).await?;
        }
        Ok(())
    }

    /// A server lists a table a moment before the table can be queried, which matters when another node makes it.
    async fn wait_for(&self, table: &str) -> Result<(), ScyllaError> {
        let cql = format!("SELECT id FROM {}.{table} WHERE id = 0", self.options.keyspace);
        let deadline = Instant::now() + TABLE_WAIT;
        loop {
            match rows_exist(self.session, &cql, ()).await {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn apply(&self, owner: &str) -> Result<Migrated, ScyllaError> {
        let ks = &self.options.keyspace;
        let from = recorded_version(self.session, ks).await?;
        if is_too_new(from, wanted()) {
            return Err(ScyllaError::SchemaNewer { have: from, want: wanted() });
        }
        // Deploying the version before starts with a migration as well.
        warn_if_newer(from);
        self.session.use_keyspace(ks, false).await.map_err(ScyllaError::statement("USE"))?;
        let mut renewed: Option<Instant> = None;
        for (version, text) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
            for statement in statements(text) {
                if self.has_column_of(&statement).await? {
                    continue;
                }
                if renewed.is_none_or(|at| at.elapsed() > RENEWED_WITHIN) {
                    let at = Instant::now();
                    self.renew(owner).await?;
                    renewed = Some(at);
                }
                self.ddl(&statement).await?;
            }
            let done = format!("INSERT INTO {ks}.schema_version (id, version, applied_at) VALUES (0, ?, ?)");
            let at = i64::try_from(now_millis()).unwrap_or(i64::MAX);
            let recorded = self.session.query_unpaged(done.as_str(), (version, at)).await;
            recorded.map_err(ScyllaError::statement(&done))?;
            tracing::info!(keyspace = ks, version, "schema migrated");
        }
        replication::record_first(self.session, ks).await?;
        Ok(Migrated { from, to: from.max(wanted()) })
    }

    /// Whether an `ALTER TABLE … ADD …` was carried out by a node that died before it had recorded the version: ScyllaDB knows
    /// no `IF NOT EXISTS` there.
    async fn has_column_of(&self, statement: &str) -> Result<bool, ScyllaError> {
        let Some((table, column)) = added_column(statement) else { return Ok(false) };
        let cql = "SELECT column_name FROM system_schema.columns \
                   WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
        rows_exist(self.session, cql, (&self.options.keyspace, table, column)).await
    }

    /// One statement; the driver then waits until all servers agree on the schema.
    async fn ddl(&self, cql: &str) -> Result<(), ScyllaError> {
        let mut statement = Statement::new(cql);
        if let Some(node) = &self.coordinator {
            statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(node.clone(), None)));
        }
        self.session.query_unpaged(statement, &[]).await.map_err(ScyllaError::statement(cql))?;
        Ok(())
    }

    async fn lock(&self, owner: &str) -> Result<(), ScyllaError> {
        let ks = &self.options.keyspace;
        let take =
            format!("INSERT INTO {ks}.schema_lock (id, owner) VALUES (0, ?) IF NOT EXISTS USING TTL {LOCK_SECONDS}");
        let deadline = Instant::now() + LOCK_WAIT;
        // An owner that finds its own name took the lock with an insert that was not answered in time.
        while !self.conditional(&take, (owner,)).await.is_ok_and(|applied| applied) && !self.renewed(owner).await? {
            if Instant::now() > deadline {
                return Err(ScyllaError::Locked);
            }
            sleep(Duration::from_millis(rand::random_range(100..400))).await;
        }
        Ok(())
    }

    async fn renew(&self, owner: &str) -> Result<(), ScyllaError> {
        if self.renewed(owner).await? { Ok(()) } else { Err(ScyllaError::LockLost) }
    }

    async fn renewed(&self, owner: &str) -> Result<bool, ScyllaError> {
        let ks = &self.options.keyspace;
        let renew = format!("UPDATE {ks}.schema_lock USING TTL {LOCK_SECONDS} SET owner = ? WHERE id = 0 IF owner = ?");
        // A server that is busy with new tables may not answer a conditional write in time; this one may be tried again.
        patiently(|_| true, || self.conditional(&renew, (owner, owner))).await
    }

    async fn unlock(&self, owner: &str) -> Result<(), ScyllaError> {
        let ks = &self.options.keyspace;
        self.conditional(&format!("DELETE FROM {ks}.schema_lock WHERE id = 0 IF owner = ?"), (owner,)).await.map(drop)
    }

    async fn conditional(
        &self,
        cql: &str,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<bool, ScyllaError> {
        let result = self.session.query_unpaged(cql, values).await.map_err(ScyllaError::statement(cql))?;
        super::lwt::applied(&result.into_rows_result().map_err(ScyllaError::statement(cql))?)
            .map_err(ScyllaError::statement(cql))
    }
}

async fn recorded_version(session: &Session, ks: &str) -> Result<i32, ScyllaError> {
    let cql = format!("SELECT version FROM {ks}.schema_version WHERE id = 0");
    let result = read_patiently(session, &cql).await.map_err(ScyllaError::statement(&cql))?;
    let rows = result.into_rows_result().map_err(ScyllaError::statement(&cql))?;
    let versions = rows.rows::<(i32,)>().map_err(ScyllaError::statement(&cql))?;
    let mut newest = 0;
    for version in versions {
        newest = newest.max(version.map_err(ScyllaError::statement(&cql))?.0);
    }
    Ok(newest)
}

/// Tries again a few times what ended so that it may be tried again.
async fn patiently<T, E, F>(may_again: impl Fn(&E) -> bool, once: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new();
    for _ in 1..TRIES {
        match once().await {
            Err(error) if may_again(&error) => backoff.wait(AFTER_ERROR).await,
            done => return done,
        }
    }
    once().await
}

/// A read at the start of a node, which may come while a server has just died or is busy with its return. The driver goes
/// to another replica by itself; where no answer came at all, it is asked again, a few times.
async fn read_patiently(session: &Session, cql: &str) -> Result<QueryResult, ExecutionError> {
    let mut statement = Statement::new(cql);
    statement.set_is_idempotent(true);
    let is_late = |error: &ExecutionError| matches!(error, ExecutionError::RequestTimeout(_));
    patiently(is_late, || session.query_unpaged(statement.clone(), &[])).await
}

async fn has_table(session: &Session, options: &ScyllaOptions, table: &str) -> Result<bool, ScyllaError> {
    let cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    rows_exist(session, cql, (&options.keyspace, table)).await
}

pub(super) async fn is_scylladb(session: &Session) -> Result<bool, ScyllaError> {
    let cql = "SELECT table_name FROM system_schema.tables \
               WHERE keyspace_name = 'system_schema' AND table_name = 'scylla_tables'";
    rows_exist(session, cql, ()).await
}

async fn local_datacenter(session: &Session) -> Result<String, ScyllaError> {
    let cql = "SELECT data_center FROM system.local WHERE key = 'local'";
    let result = session.query_unpaged(cql, &[]).await.map_err(ScyllaError::statement(cql))?;
    let rows = result.into_rows_result().map_err(ScyllaError::statement(cql))?;
    Ok(rows.single_row::<(String,)>().map_err(ScyllaError::statement(cql))?.0)
}

async fn rows_exist(
    session: &Session,
    cql: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<bool, ScyllaError> {
    let result = session.query_unpaged(cql, values).await.map_err(ScyllaError::statement(cql))?;
    Ok(result.into_rows_result().map_err(ScyllaError::statement(cql))?.rows_num() > 0)
}

/// The statements of a file: comments are cut, and a semicolon at the end of a line ends one.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    code.split(";\n").map(|s| s.trim().trim_end_matches(';').to_owned()).filter(|s| !s.is_empty()).collect()
}

/// Table and column of an `ALTER TABLE … ADD …`.
fn added_column(statement: &str) -> Option<(&str, &str)> {
    let (table, column) = statement.strip_prefix("ALTER TABLE ")?.split_once(" ADD ")?;
    Some((table, column.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_server_is_asked_a_few_times() {
        for (failures, answer) in [(0, Ok(1)), (TRIES - 1, Ok(TRIES)), (TRIES, Err(TRIES))] {
            let asked = std::cell::Cell::new(0);
            let once = async || {
                asked.set(asked.get() + 1);
                if asked.get() > failures { Ok(asked.get()) } else { Err(asked.get()) }
            };
            assert_eq!(patiently(|_| true, once).await, answer);
        }
    }

    #[test]
    fn files_split_into_whole_statements() {
        for file in MIGRATIONS {
            let all = statements(file);
            assert_eq!(
                all.len(),
                file.matches("\nCREATE TABLE").count() + file.matches("\nALTER TABLE").count(),
                "{all:#?}"
            );
            let only_adds = |s: &String| s.starts_with("CREATE TABLE IF NOT EXISTS ") || added_column(s).is_some();
            assert!(all.iter().all(|s| only_adds(s) && !s.contains(';')), "{all:#?}");
        }
    }

    #[test]
    fn an_added_column_is_read_from_its_statement() {
        assert_eq!(added_column("ALTER TABLE inbox ADD in_rooms boolean static"), Some(("inbox", "in_rooms")));
        assert_eq!(added_column("CREATE TABLE IF NOT EXISTS rooms (room text PRIMARY KEY)"), None);
        assert_eq!(added_column("ALTER TABLE inbox DROP head"), None);
    }

    /// What a server takes by default differs between ScyllaDB, Cassandra and their files of settings.
    #[test]
    fn the_large_tables_say_how_they_are_compacted() {
        let all: Vec<_> = MIGRATIONS.iter().flat_map(|file| statements(file)).collect();
        for (table, strategy) in [
            ("messages", "SizeTieredCompactionStrategy"),
            ("inbox", "LeveledCompactionStrategy"),
            ("cursors", "LeveledCompactionStrategy"),
            ("rooms", "LeveledCompactionStrategy"),
            ("members", "LeveledCompactionStrategy"),
        ] {
            let made = format!("CREATE TABLE IF NOT EXISTS {table} (");
            let statement = all.iter().find(|statement| statement.starts_with(&made)).unwrap();
            assert!(statement.contains(&format!("compaction = {{'class': '{strategy}'}}")), "{statement}");
        }
        assert!(all.iter().all(|statement| !statement.contains("TimeWindow")), "R19");
    }
}
