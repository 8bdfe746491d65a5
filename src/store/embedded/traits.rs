//! The store's traits, implemented by the embedded engine: each method copies what it needs, and hands the work to the writer thread or to a blocking read.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{EmbeddedStore, command::Command, commit::QueuedMessage, keys, reads};
use crate::{
    model::{Cid, ConvId, Device, DeviceId, MAX_SEQ, NewMessage, ReadMark, Row, Seq, UserId},
    store::{
        Appended, Compared, CountsAt, Engine, Entered, Inbox, InboxDetail, InboxRow, KnownDevice, Logs, Marks, Page,
        STORE_DEADLINE, Span, Stamps, StoreError, StoreFuture, StoreResult, UserMarks,
    },
};

/// How long [`Engine::health`] waits for the writer.
const HEALTH_DEADLINE: Duration = Duration::from_secs(1);

impl EmbeddedStore {
    async fn append_all(&self, conv: &ConvId, batch: Vec<NewMessage>) -> StoreResult<Vec<StoreResult<Appended>>> {
        let queued =
            |message: NewMessage| QueuedMessage { cid: keys::cid(conv, &message.sender, &message.cid), message };
        let messages = batch.into_iter().map(queued).collect();
        let conv = conv.clone();
        self.ask(STORE_DEADLINE, |reply| Command::Append { conv, messages, reply }).await
    }
}

impl Logs for EmbeddedStore {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(async move {
            let asked = batch.len();
            if asked == 0 {
                return Vec::new();
            }
            let answers = self.append_all(conv, batch).await.unwrap_or_else(|error| vec![Err(error); asked]);
            answers.into_iter().map(|answer| self.shared.noted(answer)).collect()
        })
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move {
            let conv = conv.clone();
            self.read(move |tables| reads::read_after(tables, &conv, after, span)).await
        })
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move {
            let conv = conv.clone();
            self.read(move |tables| reads::read_before(tables, &conv, before, span)).await
        })
    }

    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        let (conv, key) = (conv.clone(), keys::cid(conv, sender, cid));
        Box::pin(self.read(move |tables| reads::placed(tables, &conv, &key)))
    }

    fn next_row<'a>(&'a self, conv: &'a ConvId, after: Seq, upto: Seq) -> StoreFuture<'a, Option<Seq>> {
        Box::pin(async move {
            let conv = conv.clone();
            self.read(move |tables| reads::next_row(tables, &conv, after, upto)).await
        })
    }

    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, _known: Seq) -> StoreFuture<'a, CountsAt> {
        Box::pin(async move {
            let conv = conv.clone();
            self.read(move |tables| reads::counts_at(tables, &conv, seq)).await
        })
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(async move {
            let conv = conv.clone();
            self.read(move |tables| tables.top(&tables.db.snapshot(), &conv)).await
        })
    }
}

impl Inbox for EmbeddedStore {
    fn details<'a>(&'a self, user: &'a UserId, convs: &'a [ConvId]) -> StoreFuture<'a, Vec<InboxDetail>> {
        let (user, convs) = (user.clone(), convs.to_vec());
        Box::pin(self.read(move |tables| reads::details(tables, &user, &convs)))
    }

    fn conversations<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> StoreFuture<'a, Page<InboxRow>> {
        let (user, after) = (user.clone(), after.cloned());
        Box::pin(self.read(move |tables| reads::conversations(tables, &user, after.as_ref(), limit)))
    }

    fn gaps<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreFuture<'a, Compared> {
        let (device, after) = (device.clone(), after.cloned());
        Box::pin(self.read(move |tables| reads::gaps(tables, &device, after.as_ref(), limit, scan)))
    }

    fn stamps<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, Stamps> {
        Box::pin(async move {
            let stamps = self.shared.stamps.of(&device.user);
            Ok(Stamps { retired: self.is_retired(device), ..stamps })
        })
    }
}

impl Marks for EmbeddedStore {
    fn cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(async move {
            let key = keys::cursor(device, conv);
            self.read(move |tables| tables.cursor(&key)).await
        })
    }

    fn raise_cursor<'a>(&'a self, device: &'a Device, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (device, conv) = (device.clone(), conv.clone());
            self.request(STORE_DEADLINE, |reply| Command::RaiseCursor { device, conv, seq, reply }).await
        })
    }

    fn delivered<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(async move {
            let key = keys::delivered(user, conv);
            self.read(move |tables| tables.cursor(&key)).await
        })
    }

    fn read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(async move {
            let (user, conv) = (user.clone(), conv.clone());
            self.read(move |tables| tables.inbox_row(&user, &conv).map(|row| row.read.seq)).await
        })
    }

    fn of_user<'a>(&'a self, user: &'a UserId, conv: &'a ConvId) -> StoreFuture<'a, UserMarks> {
        Box::pin(async move {
            let (user, conv) = (user.clone(), conv.clone());
            self.read(move |tables| {
                let delivered = tables.cursor(&keys::delivered(&user, &conv))?;
                Ok(UserMarks { delivered, read: tables.inbox_row(&user, &conv)?.read.seq, noted: MAX_SEQ })
            })
            .await
        })
    }

    fn raise_read_mark<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, mark: ReadMark) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (user, conv) = (user.clone(), conv.clone());
            self.request(STORE_DEADLINE, |reply| Command::RaiseReadMark { user, conv, mark, reply }).await
        })
    }

    fn enter<'a>(&'a self, device: &'a Device, most: usize) -> StoreFuture<'a, Entered> {
        Box::pin(self.register(device.clone(), most))
    }

    fn refresh<'a>(&'a self, device: &'a Device, within: Duration) -> StoreFuture<'a, ()> {
        Box::pin(self.refresh_device(device.clone(), within))
    }

    fn devices<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, Vec<KnownDevice>> {
        let user = user.clone();
        Box::pin(self.read(move |tables| reads::devices(tables, &user)))
    }

    fn retire<'a>(&'a self, user: &'a UserId, device: &'a DeviceId) -> StoreFuture<'a, bool> {
        Box::pin(self.retire_device(user.clone(), device.clone()))
    }
}

impl Engine for EmbeddedStore {
    fn health(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.request(HEALTH_DEADLINE, Command::Ping).await?;
            self.shared.damage()
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let written = self.ask_anyway(STORE_DEADLINE, Command::Close).await.flatten();
            // Reads in flight hold the tables a moment longer; the last one to end releases the folder.
            let tables = self.shared.take_tables();
            let last = tokio::task::spawn_blocking(move || drop(tables));
            last.await.map_err(StoreError::unavailable)?;
            self.thread.ended().await;
            written
        })
    }
}
