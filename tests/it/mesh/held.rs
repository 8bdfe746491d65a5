//! Logs behind a gate: pages are read, and their answers held back until the test opens the gate. What a page says is
//! then older than what was heard in the meantime (R5).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use natter::{
    model::{ConvId, NewMessage, Row, Seq},
    store::{Appended, Logs, Span, Store, StoreFuture, StoreResult},
};
use tokio::sync::watch;

/// Logs whose forward pages wait at a gate.
pub struct HeldLogs {
    inner: Arc<dyn Logs>,
    closed: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl HeldLogs {
    /// An open gate in front of `inner`.
    pub fn before(inner: Arc<dyn Logs>) -> Arc<Self> {
        Arc::new(Self { inner, closed: watch::Sender::new(false), waiting: AtomicUsize::new(0) })
    }

    /// The same store with its logs behind this gate.
    pub fn of(self: &Arc<Self>, store: Store) -> Store {
        Store { logs: self.clone(), ..store }
    }

    /// Holds back answers from now on.
    pub fn hold(&self) {
        self.closed.send_replace(true);
    }

    /// Lets them through.
    pub fn release(&self) {
        self.closed.send_replace(false);
    }

    /// How many pages are waiting now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

/// One page that waits; also when nobody waits for it any more.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Logs for HeldLogs {
    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move {
            let page = self.inner.read_after(conv, after, span).await;
            let _waiting = Waiting::one_more(&self.waiting);
            // Fails only when the gate is gone, and the gate is part of this.
            let _ = self.closed.subscribe().wait_for(|closed| !closed).await;
            page
        })
    }

    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        self.inner.append(conv, batch)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.inner.read_before(conv, before, span)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.top(conv)
    }
}
