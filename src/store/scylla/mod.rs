//! The store on ScyllaDB (and, in tests, on Apache Cassandra 5): many nodes, one truth.
//!
//! `append` decides every message's seq with one conditional batch per try (`lwt`); `heads` keeps what a node
//! knows of a log (`known`) and raises the heads; `pages` reads logs, `registers` cursors, read marks and
//! devices; identical reads share one query (`flight`). `schema` makes the tables.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use scylla::{
    client::{execution_profile::ExecutionProfileHandle, session::Session},
    policies::load_balancing::LoadBalancingPolicy,
};

use self::{flight::Flight, known::Registry, statements::Statements};
use super::{Appended, Gap, Head, NewMessage, Page, Row, STORE_DEADLINE, Span, Store, StoreError, StoreResult};
use crate::{
    metrics::StoreDriver,
    model::{ConvId, DeviceId, Seq, UserId},
};

mod append;
mod error;
mod flight;
mod heads;
mod inspect;
mod known;
mod lwt;
mod metrics;
mod options;
mod pages;
mod registers;
mod retry;
mod rows;
mod schema;
mod statements;
mod turn;
mod work;

pub use self::{
    error::ScyllaError,
    inspect::{Answers, Inspection, Server, inspect},
    options::{ScyllaOptions, Step, TlsOptions},
    schema::{Migrated, migrate},
};

/// Seqs per partition of `messages`.
const BUCKET: Seq = 4096;

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

/// What a shared query gives when the runtime ends under it.
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
    lwt: ExecutionProfileHandle,
    /// The replicas of a conversation, always in the same order.
    replicas: Arc<dyn LoadBalancingPolicy>,
    known: Registry,
    pages: Flight<pages::PageKey, StoreResult<Arc<[Row]>>>,
    heads: Flight<ConvId, StoreResult<Seq>>,
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
        let lwt = options.lwt_profile().into_handle();
        let inner = Inner {
            cql: Statements::prepare(&session, &options.keyspace, &lwt).await?,
            session,
            lwt,
            replicas: options.balancing(false),
            known: Registry::default(),
            pages: Flight::default(),
            heads: Flight::default(),
            stop_after: options.stop_after,
        };
        Ok(Arc::new(Self { inner: Arc::new(inner), keyspace: options.keyspace, closed: AtomicBool::new(false) }))
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
    ) -> BoxFuture<'a, StoreResult<T>> {
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

impl Store for ScyllaStore {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(async move {
            match self.check_open() {
                Ok(()) => self.inner.append(conv, batch).await,
                Err(e) => vec![Err(e); batch.len()],
            }
        })
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>> {
        self.bounded(self.inner.read_after(conv, after, span))
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> BoxFuture<'a, StoreResult<Vec<Row>>> {
        self.bounded(self.inner.read_before(conv, before, span))
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        self.bounded(self.inner.find_top(conv))
    }

    fn inbox<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Head>>> {
        self.bounded(self.inner.inbox(user, after, limit))
    }

    fn gaps<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page<Gap>>> {
        self.bounded(self.inner.gaps(user, device, after, limit))
    }

    fn cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
    ) -> BoxFuture<'a, StoreResult<Seq>> {
        self.bounded(self.inner.cursor(user, device, conv))
    }

    fn raise_cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
        seq: Seq,
    ) -> BoxFuture<'a, StoreResult<()>> {
        self.bounded(self.inner.raise_cursor(user, device, conv, seq))
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        self.bounded(self.inner.delivered(user, conv))
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> BoxFuture<'a, StoreResult<Seq>> {
        self.bounded(self.inner.read_mark(user, conv))
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, seq: Seq) -> BoxFuture<'a, StoreResult<()>> {
        self.bounded(self.inner.raise_read_mark(user, conv, seq))
    }

    fn register_device<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> BoxFuture<'a, StoreResult<bool>> {
        self.bounded(self.inner.register_device(user, device))
    }

    fn health(&self) -> BoxFuture<'_, StoreResult<()>> {
        self.bounded(self.inner.health())
    }

    fn close(&self) -> BoxFuture<'_, StoreResult<()>> {
        // Nothing is kept back here: every answer given is already durable.
        self.closed.store(true, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}
