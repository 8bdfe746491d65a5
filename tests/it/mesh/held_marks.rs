//! Marks behind a gate: devices are entered only while it is open, so that logins are under way for as long as
//! a test wants.

use std::{sync::Arc, time::Duration};

use natter::{
    model::{ConvId, Device, DeviceId, ReadMark, Seq, UserId},
    store::{Entered, KnownDevice, Marks, Store, StoreFuture},
};
use tokio::sync::watch;

/// Marks that take logins only while they are open.
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
    fn enter<'a>(&'a self, device: &'a Device, most: usize) -> StoreFuture<'a, Entered> {
        Box::pin(async move {
            let _ = self.closed.subscribe().wait_for(|closed| !closed).await;
            self.inner.enter(device, most).await
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
    fn devices<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, Vec<KnownDevice>> {
        self.inner.devices(user)
    }
    fn refresh<'a>(&'a self, device: &'a Device, within: Duration) -> StoreFuture<'a, ()> {
        self.inner.refresh(device, within)
    }
    fn retire<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> StoreFuture<'a, bool> {
        self.inner.retire(user, device)
    }
}
