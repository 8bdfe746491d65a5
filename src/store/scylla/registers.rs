//! Everything that only grows: inboxes, cursors, read marks, devices. Each write says USING TIMESTAMP its value,
//! so the largest stays in whatever order the writes arrive, and writing again is harmless (R19).

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::pager::QueryPager,
    deserialize::row::DeserializeRow,
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
};
use tokio::time::timeout;

use super::{
    Inner,
    known::Direct,
    lwt,
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::model::{ConvId, DeviceId, Seq, UserId, now_millis};
use crate::store::{Gap, Head, Page, StoreError, StoreResult};

/// Cursors written at once for a new device; all in the user's partition.
const CURSOR_BATCH: usize = 64;
/// Such batches in flight.
const CURSOR_BATCHES: usize = 4;
/// Stands for all devices of a user; no device can have this name. What its rows hold is [`Inner::delivered`].
const ANY_DEVICE: &str = "";
/// Rows that health checks write to.
const HEALTH_SLOTS: i32 = 16;

impl Inner {
    pub(super) async fn inbox(&self, user: &UserId, after: Option<&ConvId>, limit: usize) -> StoreResult<Page<Head>> {
        let limit = limit.max(1);
        let from = after.map_or("", ConvId::as_str);
        // One row more than asked for tells whether there is a next page.
        let asked = (user.as_str(), from, i32::try_from(limit + 1).unwrap_or(i32::MAX));
        let found: Vec<(String, i64, i64)> = self.all_pages(&self.cql.inbox, asked).await?;
        let more = found.len() > limit;
        let items = found.into_iter().take(limit).map(|(conv, head, ts)| {
            let conv = ConvId::new(&conv).map_err(CqlError::new)?;
            Ok(Head { conv, head: unsigned(head), ts: unsigned(ts) })
        });
        let items = items.collect::<Result<Vec<Head>, CqlError>>()?;
        let next = items.last().filter(|_| more).map(|head| head.conv.clone());
        Ok(Page { scanned: items.len(), items, next })
    }

    /// Two reads in the user's partitions per page: a stretch of the inbox, and the cursors of the same stretch.
    pub(super) async fn gaps(
        &self,
        user: &UserId,
        device: &DeviceId,
        after: Option<&ConvId>,
        limit: usize,
    ) -> StoreResult<Page<Gap>> {
        let heads = self.inbox(user, after, limit).await?;
        let Some(last) = heads.items.last().map(|head| head.conv.clone()) else {
            return Ok(Page { items: Vec::new(), next: None, scanned: 0 });
        };
        let from = after.map_or("", ConvId::as_str);
        let asked = (user.as_str(), device.as_str(), from, last.as_str());
        let found: Vec<(String, i64)> = self.all_pages(&self.cql.cursors_between, asked).await?;
        let scanned = heads.scanned + found.len();
        let cursors: HashMap<String, Seq> = found.into_iter().map(|(conv, seq)| (conv, unsigned(seq))).collect();
        let gap = |Head { conv, head, .. }: Head| {
            let cursor = cursors.get(conv.as_str()).copied().unwrap_or(0);
            (head > cursor).then_some(Gap { conv, head, cursor })
        };
        Ok(Page { items: heads.items.into_iter().filter_map(gap).collect(), next: heads.next, scanned })
    }

    pub(super) async fn cursor(&self, user: &UserId, device: &DeviceId, conv: &ConvId) -> StoreResult<Seq> {
        let direct = Direct::of(conv)?;
        self.register(&self.cql.cursor, (user.as_str(), device.as_str(), direct.id.as_str())).await
    }

    pub(super) async fn raise_cursor(
        &self,
        user: &UserId,
        device: &DeviceId,
        conv: &ConvId,
        seq: Seq,
    ) -> StoreResult<()> {
        let direct = Direct::of(conv)?;
        if seq == 0 {
            return Ok(());
        }
        self.raise_cursors(user, device, &[(direct.id.as_str(), signed(seq))]).await
    }

    /// The highest of the cursors that the user's devices have in the conversation.
    pub(super) async fn delivered(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let direct = Direct::of(conv)?;
        self.register(&self.cql.cursor, (user.as_str(), ANY_DEVICE, direct.id.as_str())).await
    }

    pub(super) async fn read_mark(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let direct = Direct::of(conv)?;
        self.register(&self.cql.read_mark, (user.as_str(), direct.id.as_str())).await
    }

    /// Nothing is written for 0: no register starts below it.
    pub(super) async fn raise_read_mark(&self, user: &UserId, conv: &ConvId, seq: Seq) -> StoreResult<()> {
        let direct = Direct::of(conv)?;
        if seq > 0 {
            let value = signed(seq);
            self.ask(&self.cql.raise_read_mark, (user.as_str(), direct.id.as_str(), value, value)).await?;
        }
        Ok(())
    }

    /// The marks are read before the device is seen to be unknown, and the device is added last. So no cursor is
    /// ever taken from a mark that the person moved after the device became known: it would skip what the device
    /// never had. And a device that is known has its cursors.
    pub(super) async fn register_device(&self, user: &UserId, device: &DeviceId) -> StoreResult<bool> {
        if self.knows_device(user, device).await? {
            return Ok(false);
        }
        let marks: Vec<(String, i64)> = self.all_pages(&self.cql.read_marks, (user.as_str(),)).await?;
        if self.knows_device(user, device).await? {
            return Ok(false);
        }
        let marks: Vec<(&str, i64)> = marks.iter().map(|(conv, seq)| (conv.as_str(), *seq)).collect();
        let writes: Vec<_> = marks.chunks(CURSOR_BATCH).map(|some| self.raise_cursors(user, device, some)).collect();
        stream::iter(writes).buffer_unordered(CURSOR_BATCHES).try_collect::<()>().await?;
        let added = self.ask(&self.cql.add_device, (user.as_str(), device.as_str())).await?;
        Ok(lwt::applied(&rows::rows_of(added)?)?)
    }

    async fn knows_device(&self, user: &UserId, device: &DeviceId) -> StoreResult<bool> {
        let known = self.ask(&self.cql.device, (user.as_str(), device.as_str())).await?;
        Ok(rows::first::<(String,)>(known)?.is_some())
    }

    /// Raises cursors of one device, and with each the highest of all the user's devices. One partition, so the
    /// batch is one write.
    async fn raise_cursors(&self, user: &UserId, device: &DeviceId, marks: &[(&str, i64)]) -> StoreResult<()> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        let mut values = Vec::with_capacity(marks.len() * 2);
        for (conv, seq) in marks {
            for device in [device.as_str(), ANY_DEVICE] {
                batch.append_statement(self.cql.raise_cursor.clone());
                values.push((user.as_str(), device, *conv, *seq, *seq));
            }
        }
        self.session.batch(&batch, values).await.map_err(CqlError::new)?;
        Ok(())
    }

    /// A write that a quorum takes. Each check writes to another place of the ring.
    pub(super) async fn health(&self) -> StoreResult<()> {
        let values = (rand::random_range(0..HEALTH_SLOTS), signed(now_millis()));
        let written = timeout(Duration::from_secs(1), self.ask(&self.cql.beat, values)).await;
        written.map_err(|_| StoreError::unavailable("a test write got no answer within a second"))??;
        Ok(())
    }

    async fn register(&self, statement: &PreparedStatement, key: impl SerializeRow) -> StoreResult<Seq> {
        let row = rows::first::<(i64,)>(self.ask(statement, key).await?)?;
        Ok(row.map_or(0, |(value,)| unsigned(value)))
    }

    async fn all_pages<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Send + 'static,
    {
        let pager: QueryPager = self.session.execute_iter(statement.clone(), values).await.map_err(CqlError::new)?;
        pager.rows_stream::<R>().map_err(CqlError::new)?.map_err(CqlError::new).try_collect().await
    }
}
