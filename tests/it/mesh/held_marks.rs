//! Marks behind a gate: connections get their numbers only while it is open, so that logins are under way for as long as
//! a test wants.

use std::sync::Arc;

use natter::{
    model::{ConvId, Device, ReadMark, Seq, UserId},
    store::{Marks, Store, StoreFuture},
};
use tokio::sync::watch;

/// Marks that give out numbers only while they are open.
pub struct HeldMarks {
    inner: Arc<dyn Marks>,
    closed: watch::Sender<bool>,
}

impl HeldMarks {
    /// A closed gate in front of `inner`.
    pub fn before(inner: Arc<dyn Marks>) -> Arc<Self> {
        Arc::new(Self { inner, closed: watch::Sender::new(true) })
    }

    /// The same store with its marks behind this gate.
    pub fn of(self: &Arc<Self>, store: Store) -> Store {
        Store { marks: self.clone(), ..store }
    }

    /// Lets everybody through.
    pub fn release(&self) {
        self.closed.send_replace(false);
    }
}

impl Marks for HeldMarks {
    fn next_connection<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let _ = self.closed.subscribe().wait_for(|closed| !closed).await;
            self.inner.next_connection(device).await
        })
    }
    fn cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.cursor(device, conv)
    }
    fn raise_cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, ()> {
        self.inner.raise_cursor(device, conv, seq)
    }
    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.delivered(user, conv)
    }
    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.read_mark(user, conv)
    }
    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, mark: ReadMark) -> StoreFuture<'a, ()> {
        self.inner.raise_read_mark(user, conv, mark)
    }
    fn register_device<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, bool> {
        self.inner.register_device(device)
    }
}
