//! The real store with appends that fail where the test says so: before anything is written, as where a home is not found.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use natter::{
    model::{ConvId, NewMessage, Row, Seq},
    store::{Appended, Engine, Logs, Span, Store, StoreError, StoreFuture, StoreResult},
};
use parking_lot::Mutex;

/// Fails for one cid, or for all while it is away.
#[derive(Clone)]
pub(super) struct Failing(Arc<Inner>);

struct Inner {
    store: Store,
    cid: Mutex<Option<String>>,
    away: AtomicBool,
    refused: AtomicUsize,
}

impl Failing {
    pub(super) fn before(store: &Store) -> Self {
        let inner = Inner {
            store: store.clone(),
            cid: Mutex::new(None),
            away: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
        };
        Self(Arc::new(inner))
    }

    pub(super) fn store(&self) -> Store {
        Store { logs: Arc::new(self.clone()), engine: Arc::new(self.clone()), ..self.0.store.clone() }
    }

    /// Fails for this cid from now on.
    pub(super) fn refuse(&self, cid: &str) {
        *self.0.cid.lock() = Some(cid.to_owned());
    }

    /// Fails for none.
    pub(super) fn allow(&self) {
        *self.0.cid.lock() = None;
    }

    /// Takes no writes, and says so.
    pub(super) fn go_away(&self) {
        self.0.away.store(true, Ordering::Release);
    }

    pub(super) fn come_back(&self) {
        self.0.away.store(false, Ordering::Release);
    }

    /// How many messages failed.
    pub(super) fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Acquire)
    }

    fn fails(&self, message: &NewMessage) -> bool {
        self.0.away.load(Ordering::Acquire) || self.0.cid.lock().as_deref() == Some(message.cid.as_str())
    }
}

impl Logs for Failing {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        let failing = batch.iter().filter(|message| self.fails(message)).count();
        if failing == 0 {
            return self.0.store.logs.append(conv, batch);
        }
        self.0.refused.fetch_add(failing, Ordering::AcqRel);
        let none = batch.iter().map(|_| Err(StoreError::Unavailable("on purpose".into()))).collect();
        Box::pin(async move { none })
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.store.logs.read_after(conv, after, span)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.store.logs.read_before(conv, before, span)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.store.logs.top(conv)
    }
}

impl Engine for Failing {
    fn health(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if self.0.away.load(Ordering::Acquire) {
                return Err(StoreError::Unavailable("on purpose".into()));
            }
            self.0.store.engine.health().await
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.0.store.engine.close()
    }
}
