//! The store on ScyllaDB (and, in tests, on Apache Cassandra 5), shared by any number of nodes.
//!
//! `traits` bounds each call's time. `replies` looks whether what a message replies to is there; `homes` appends, and holds the right to; `pages` reads logs, as far as `heads` say
//! that they are settled; `inbox` reads what a list shows, `registers` cursors and marks, `devices` the users' devices,
//! `rooms` what is known of rooms, `beside` what was made of messages, `people` who was last seen when, and who blocks whom; `old_stamps` removes what nodes
//! that are gone left there; identical reads share one query (`shared_query`). `scan` finds all conversations. `schema`
//! makes the tables, `replication` knows their copies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use scylla::client::session::Session;

use self::{homes::Homes, known::HeadsSeen, shared_query::SharedQuery, statements::Statements};
use super::{STORE_DEADLINE, StoreError, StoreFuture, StoreResult, fence::Head};
use crate::{
    metrics::StoreDriver,
    model::{ConvId, Counts, Row, Seq},
};

mod beside;
mod devices;
mod error;
mod heads;
mod homes;
mod inbox;
mod inspect;
mod keys;
mod known;
mod lwt;
mod metrics;
mod old_stamps;
mod options;
mod pages;
mod people;
mod registers;
mod replication;
mod replies;
mod retry;
mod rooms;
mod rows;
mod scan;
mod schema;
mod shared_query;
mod statements;
mod traits;

pub use self::{
    error::ScyllaError,
    inspect::{Answers, HomeSeen, HomeState, Homed, Inspection, Server, inspect},
    options::{ScyllaOptions, Step, TlsOptions},
    replication::{Replicated, Replication, replication},
    scan::Conversations,
    schema::{Migrated, migrate},
};

/// Seqs per partition of `messages`.
const BUCKET: Seq = 4096;

/// ScyllaDB takes at most 100 keys in an IN.
const MAX_IN: usize = 64;

/// The partition that holds `seq`.
fn bucket_of(seq: Seq) -> Seq {
    seq.saturating_sub(1) / BUCKET
}

/// CQL has signed integers only; seqs and times stay far below where that matters.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A limit of rows, at least one.
fn at_most(limit: usize) -> i32 {
    i32::try_from(limit.max(1)).unwrap_or(i32::MAX)
}

/// What a shared query returns when the runtime shuts down.
fn shutting_down<T>() -> StoreResult<T> {
    Err(StoreError::unavailable("the node is shutting down"))
}

/// The engine. Cheap to share; one per node.
pub struct ScyllaStore {
    inner: Arc<Inner>,
    keyspace: String,
    closed: AtomicBool,
}

struct Inner {
    session: Session,
    cql: Statements,
    homes: Homes,
    heads_seen: HeadsSeen,
    pages: SharedQuery<pages::PageKey, StoreResult<Arc<[Row]>>>,
    heads: SharedQuery<ConvId, StoreResult<Head>>,
    counts: SharedQuery<(ConvId, Seq), StoreResult<Counts>>,
    gone_after: Duration,
    stop_after: Option<Step>,
}

impl ScyllaStore {
    /// Connects, checks the schema and prepares every statement.
    ///
    /// # Errors
    /// When no contact point answers, an option is wrong, or the schema is missing, older or newer.
    pub async fn connect(options: ScyllaOptions) -> Result<Arc<Self>, ScyllaError> {
        let session = options.session(options.request_timeout).await?;
        schema::check_schema(&session, &options).await?;
        if let Some(there) = replication::look(&session, &options.keyspace).await?.filter(Replicated::differs) {
            replication::warn(&there);
        }
        let lwt = options.lwt_profile().into_handle();
        let inner = Inner {
            cql: Statements::prepare(&session, &options.keyspace, &lwt).await?,
            session,
            homes: Homes::new(&options.node, options.writes_at_once, options.rooms),
            heads_seen: HeadsSeen::default(),
            pages: SharedQuery::default(),
            heads: SharedQuery::default(),
            counts: SharedQuery::default(),
            gone_after: options.gone_after,
            stop_after: options.stop_after,
        };
        let inner = Arc::new(inner);
        let begun = inner.begin_life().await;
        begun.map_err(|cause| ScyllaError::Statement {
            cql: "a new incarnation".to_owned(),
            cause: cause.to_string(),
        })?;
        Ok(Arc::new(Self { inner, keyspace: options.keyspace, closed: AtomicBool::new(false) }))
    }

    /// What the driver counts, for [`crate::metrics::Metrics::show_driver`].
    pub fn driver(&self) -> Arc<dyn StoreDriver> {
        Arc::new(metrics::ScyllaDriver(self.inner.session.get_metrics()))
    }

    /// How many copies of each row the keyspace keeps in `datacenter`, `None` where the driver does not know.
    pub fn replication_factor(&self, datacenter: &str) -> Option<usize> {
        inspect::replicas(&self.inner.session, &self.keyspace, datacenter)
    }

    /// Runs one call within the time any engine may take.
    fn bounded<'a, T: Send + 'a>(
        &'a self,
        call: impl Future<Output = StoreResult<T>> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.check_open()?;
            let answered = tokio::time::timeout(STORE_DEADLINE, call).await;
            answered.unwrap_or_else(|_| Err(StoreError::unavailable("no answer in time")))
        })
    }

    fn check_open(&self) -> StoreResult<()> {
        if self.closed.load(Ordering::Relaxed) { Err(StoreError::unavailable("the store is closed")) } else { Ok(()) }
    }
}
