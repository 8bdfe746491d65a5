//! The store's traits, implemented by the ScyllaDB engine: each call within the time that any engine may take.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ScyllaStore;
use crate::{
    model::{Cid, ConvId, Device, DeviceId, NewMessage, ReadMark, Row, Seq, UserId},
    store::{
        Appended, Compared, CountsAt, Engine, Entered, Inbox, InboxDetail, InboxRow, KnownDevice, Logs, Marks, Page,
        STORE_DEADLINE, Span, Stamps, StoreFuture, StoreResult, UserMarks,
    },
};

/// How long the end of an incarnation may hold up that of its process.
const ENDING: Duration = Duration::from_secs(2);

impl Logs for ScyllaStore {
    /// Bounds its time itself, because each message of a batch has an answer of its own.
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(async move {
            if let Err(e) = self.check_open() {
                return vec![Err(e); batch.len()];
            }
            self.inner.append_checked(conv, batch, Instant::now() + STORE_DEADLINE).await
        })
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.bounded(self.inner.read_after(conv, after, span))
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.bounded(self.inner.read_before(conv, before, span))
    }

    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        self.bounded(self.inner.placed(conv, sender, cid))
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.bounded(async { Ok(self.inner.load_heads(conv).await?.head) })
    }

    fn reaches<'a>(&'a self, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, Seq> {
        self.bounded(self.inner.settled(conv, seq))
    }

    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, known: Seq) -> StoreFuture<'a, CountsAt> {
        self.bounded(self.inner.counts_at(conv, seq, known))
    }

    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.bounded(self.inner.mend(conv))
    }
}

impl Inbox for ScyllaStore {
    fn conversations<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> StoreFuture<'a, Page<InboxRow>> {
        self.bounded(self.inner.conversations(user, after, limit))
    }

    fn details<'a>(&'a self, user: &'a UserId, convs: &'a [ConvId]) -> StoreFuture<'a, Vec<InboxDetail>> {
        self.bounded(self.inner.details(user, convs))
    }

    fn gaps<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreFuture<'a, Compared> {
        self.bounded(self.inner.gaps(device, after, limit, scan))
    }

    fn stamps<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, Stamps> {
        self.bounded(self.inner.stamps(device))
    }
}

impl Marks for ScyllaStore {
    fn cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.bounded(self.inner.cursor(device, conv))
    }

    fn raise_cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, ()> {
        self.bounded(self.inner.raise_cursor(device, conv, seq))
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.bounded(self.inner.delivered(user, conv))
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.bounded(self.inner.read_mark(user, conv))
    }

    fn of_user<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, UserMarks> {
        self.bounded(self.inner.marks_of(user, conv))
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, mark: ReadMark) -> StoreFuture<'a, ()> {
        self.bounded(self.inner.raise_read_mark(user, conv, mark))
    }

    fn enter<'a>(&'a self, device: &'a Device, most: usize) -> StoreFuture<'a, Entered> {
        self.bounded(self.inner.enter_device(device, most))
    }

    fn refresh<'a>(&'a self, device: &'a Device, within: Duration) -> StoreFuture<'a, ()> {
        self.bounded(self.inner.refresh_device(device, within))
    }

    fn devices<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, Vec<KnownDevice>> {
        self.bounded(self.inner.devices(user))
    }

    fn retire<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> StoreFuture<'a, bool> {
        self.bounded(self.inner.retire(user, device))
    }
}

impl Engine for ScyllaStore {
    fn health(&self) -> StoreFuture<'_, ()> {
        self.bounded(self.inner.health())
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        // Every answer given is already durable. What is left is to say that nothing more will come of this incarnation: its
        // stamps would stay for ever, and whoever takes what it was home of would have to ask.
        self.closed.store(true, Ordering::Relaxed);
        Box::pin(async {
            if tokio::time::timeout(ENDING, self.inner.end_life()).await.is_err() {
                tracing::debug!("the incarnation was not fenced by its own word; another node does it when it must");
            }
            Ok(())
        })
    }
}
