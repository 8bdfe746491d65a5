//! The real store behind a gate: pages of logs are read, and their answers held back until the test opens the gate.
//! So what a page says is older than what was heard meanwhile (R5).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use natter::{
    model::{ConvId, DeviceId, Seq, UserId},
    store::{Appended, Gap, Head, NewMessage, Page, Row, Span, Store, StoreResult},
};
use tokio::sync::watch;

/// A store whose pages wait at a gate.
pub struct HeldStore {
    inner: Arc<dyn Store>,
    closed: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl HeldStore {
    /// An open gate before `inner`.
    pub fn before(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, closed: watch::Sender::new(false), waiting: AtomicUsize::new(0) })
    }

    /// Holds back the answers from now on.
    pub fn hold(&self) {
        self.closed.send_replace(true);
    }

    /// Lets them go.
    pub fn release(&self) {
        self.closed.send_replace(false);
    }

    /// Pages that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

type Answer<'a, T> = BoxFuture<'a, StoreResult<T>>;

impl Store for HeldStore {
    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> Answer<'a, Vec<Row>> {
        Box::pin(async move {
            let page = self.inner.read_after(conv, after, span).await;
            self.waiting.fetch_add(1, Ordering::AcqRel);
            // Fails only when the gate is gone, and it is part of this.
            let _ = self.closed.subscribe().wait_for(|closed| !closed).await;
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            page
        })
    }

    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        self.inner.append(conv, batch)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> Answer<'a, Vec<Row>> {
        self.inner.read_before(conv, before, span)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> Answer<'a, Seq> {
        self.inner.top(conv)
    }

    fn inbox<'a>(&'a self, user: &'a UserId, after: Option<&'a ConvId>, limit: usize) -> Answer<'a, Page<Head>> {
        self.inner.inbox(user, after, limit)
    }

    fn gaps<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> Answer<'a, Page<Gap>> {
        self.inner.gaps(user, device, after, limit)
    }

    fn cursor<'a>(&'a self, user: &'a UserId, device: &'a DeviceId, conv: &'a ConvId) -> Answer<'a, Seq> {
        self.inner.cursor(user, device, conv)
    }

    fn raise_cursor<'a>(
        &'a self,
        user: &'a UserId,
        device: &'a DeviceId,
        conv: &'a ConvId,
        seq: Seq,
    ) -> Answer<'a, ()> {
        self.inner.raise_cursor(user, device, conv, seq)
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> Answer<'a, Seq> {
        self.inner.delivered(user, conv)
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> Answer<'a, Seq> {
        self.inner.read_mark(user, conv)
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, seq: Seq) -> Answer<'a, ()> {
        self.inner.raise_read_mark(user, conv, seq)
    }

    fn register_device<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> Answer<'a, bool> {
        self.inner.register_device(user, device)
    }

    fn health(&self) -> Answer<'_, ()> {
        self.inner.health()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner.close()
    }
}
