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
    append::MAX_IN,
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::model::{ConvId, DeviceId, Seq, UserId, now_millis};
use crate::store::{Gap, Head, Page, StoreError, StoreResult};

/// Cursors written at once for a new device; all in the user's partition.
const CURSOR_BATCH: usize = 64;
/// Such batches in flight.
const CURSOR_BATCHES: usize = 4;
/// Rows that health checks write to.
const HEALTH_SLOTS: i32 = 16;

impl Inner {
    pub(super) async fn inbox(&self, user: &UserId, after: Option<&ConvId>, limit: usize) -> StoreResult<Page<Head>> {
        let limit = limit.max(1);
        let from = after.map_or("", ConvId::as_str);
        let asked = (user.as_str(), from, i32::try_from(limit).unwrap_or(i32::MAX));
        let found: Vec<(String, i64, i64)> = self.all_pages(&self.cql.inbox, asked).await?;
        let items = found.into_iter().map(|(conv, head, ts)| {
            let conv = ConvId::new(&conv).map_err(CqlError::new)?;
            Ok(Head { conv, head: unsigned(head), ts: unsigned(ts) })
        });
        let items = items.collect::<Result<Vec<Head>, CqlError>>()?;
        let next = if items.len() < limit { None } else { items.last().map(|head| head.conv.clone()) };
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
        self.register(&self.cql.cursor, (user.as_str(), device.as_str(), conv.as_str())).await
    }

    pub(super) async fn raise_cursor(
        &self,
        user: &UserId,
        device: &DeviceId,
        conv: &ConvId,
        seq: Seq,
    ) -> StoreResult<()> {
        let value = signed(seq);
        let values = (user.as_str(), device.as_str(), conv.as_str(), value, value);
        self.raise(&self.cql.raise_cursor, seq, values).await
    }

    /// The highest of the cursors that the user's devices have in the conversation.
    pub(super) async fn delivered(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let devices: Vec<(String,)> = self.all_pages(&self.cql.devices, (user.as_str(),)).await?;
        let mut highest = 0;
        for some in devices.chunks(MAX_IN) {
            let names: Vec<&str> = some.iter().map(|(device,)| device.as_str()).collect();
            let found = self.ask(&self.cql.cursors_of, (user.as_str(), names, conv.as_str())).await?;
            let cursors = rows::all::<(i64,)>(found)?;
            highest = cursors.into_iter().map(|(seq,)| unsigned(seq)).fold(highest, Seq::max);
        }
        Ok(highest)
    }

    pub(super) async fn read_mark(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        self.register(&self.cql.read_mark, (user.as_str(), conv.as_str())).await
    }

    pub(super) async fn raise_read_mark(&self, user: &UserId, conv: &ConvId, seq: Seq) -> StoreResult<()> {
        let value = signed(seq);
        self.raise(&self.cql.raise_read_mark, seq, (user.as_str(), conv.as_str(), value, value)).await
    }

    pub(super) async fn register_device(&self, user: &UserId, device: &DeviceId) -> StoreResult<bool> {
        let known = self.ask(&self.cql.device, (user.as_str(), device.as_str())).await?;
        if rows::first::<(String,)>(known)?.is_some() {
            return Ok(false);
        }
        let marks: Vec<(String, i64)> = self.all_pages(&self.cql.read_marks, (user.as_str(),)).await?;
        // The cursors first: a device that is known must have them.
        let writes: Vec<_> = marks.chunks(CURSOR_BATCH).map(|some| self.raise_cursors(user, device, some)).collect();
        stream::iter(writes).buffer_unordered(CURSOR_BATCHES).try_collect::<()>().await?;
        self.ask(&self.cql.add_device, (user.as_str(), device.as_str())).await?;
        Ok(true)
    }

    async fn raise_cursors(&self, user: &UserId, device: &DeviceId, marks: &[(String, i64)]) -> StoreResult<()> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        marks.iter().for_each(|_| batch.append_statement(self.cql.raise_cursor.clone()));
        let values: Vec<_> =
            marks.iter().map(|(conv, seq)| (user.as_str(), device.as_str(), conv.as_str(), *seq, *seq)).collect();
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

    /// Nothing is written for 0: no register starts below it.
    async fn raise(&self, statement: &PreparedStatement, seq: Seq, values: impl SerializeRow) -> StoreResult<()> {
        if seq > 0 {
            self.ask(statement, values).await?;
        }
        Ok(())
    }

    async fn all_pages<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Send + 'static,
    {
        let pager: QueryPager = self.session.execute_iter(statement.clone(), values).await.map_err(CqlError::new)?;
        pager.rows_stream::<R>().map_err(CqlError::new)?.map_err(CqlError::new).try_collect().await
    }
}
