//! Everything that only grows: inboxes, cursors, read marks. Each write says USING TIMESTAMP its value,
//! so the largest stays in whatever order the writes arrive, and writing again is harmless (R19).

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{TryStreamExt, future::try_join};
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
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{ConvId, Device, Gap, Seq, UserId, now_millis},
    store::{Compared, InboxRow, Page, StoreError, StoreResult, level::Level},
};

/// Rows that health checks write to.
const HEALTH_SLOTS: i32 = 16;

impl Inner {
    pub(super) async fn conversations(
        &self,
        user: &UserId,
        after: Option<&ConvId>,
        limit: usize,
    ) -> StoreResult<Page<InboxRow>> {
        let limit = limit.max(1);
        let from = after.map_or("", ConvId::as_str);
        // One row more than asked for tells whether there is a next page.
        let asked = (user.as_str(), from, i32::try_from(limit + 1).unwrap_or(i32::MAX));
        let found: Vec<(String, Option<i64>, Option<i64>)> = self.all_pages(&self.cql.inbox, asked).await?;
        let more = found.len() > limit;
        let rows = found.into_iter().take(limit).map(|(conv, head, ts)| {
            let conv = ConvId::new(&conv).map_err(CqlError::new)?;
            Ok(InboxRow { conv, head: head.map_or(0, unsigned), ts: ts.map_or(0, unsigned) })
        });
        let mut items = rows.collect::<Result<Vec<InboxRow>, CqlError>>()?;
        let (scanned, next) = (items.len(), items.last().filter(|_| more).map(|row| row.conv.clone()));
        // A read mark may be there before its head.
        items.retain(|row| row.head > 0);
        Ok(Page { scanned, items, next })
    }

    /// Two reads per page, a slice of one partition each: a stretch of the user's inbox, and the device's cursors of the
    /// same stretch.
    pub(super) async fn gaps(
        &self,
        device: &Device,
        after: Option<&ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreResult<Compared> {
        let heads = self.conversations(&device.user, after, scan).await?;
        let Some(last) = heads.next.clone().or_else(|| heads.items.last().map(|row| row.conv.clone())) else {
            return Ok(Compared { items: Vec::new(), level: Vec::new(), next: None, scanned: heads.scanned });
        };
        let from = after.map_or("", ConvId::as_str);
        let asked = (device.user.as_str(), device.device.as_str(), signed(device.life), from, last.as_str());
        let found: Vec<(String, i64)> = self.all_pages(&self.cql.cursors_between, asked).await?;
        let scanned = heads.scanned + found.len();
        let cursors: HashMap<String, Seq> = found.into_iter().map(|(conv, seq)| (conv, unsigned(seq))).collect();
        let (mut items, mut level, mut next) = (Vec::new(), Level::default(), heads.next);
        for InboxRow { conv, head, ts, .. } in heads.items {
            let cursor = cursors.get(conv.as_str()).copied().unwrap_or(0);
            if head <= cursor {
                level.add(ts, Gap { conv, head, cursor });
                continue;
            }
            if items.len() == limit.max(1) {
                // Where there are more than the page may hold, the next one begins behind the last of this one.
                next = items.last().map(|gap: &Gap| gap.conv.clone());
                break;
            }
            // Whoever asks for gaps reads the logs next, and then needs no other look at the head.
            self.know(&conv, head, None);
            items.push(Gap { conv, head, cursor });
        }
        Ok(Compared { items, level: level.into_gaps(), next, scanned })
    }

    pub(super) async fn cursor(&self, device: &Device, conv: &ConvId) -> StoreResult<Seq> {
        let life = signed(device.life);
        self.register(&self.cql.cursor, (device.user.as_str(), device.device.as_str(), life, conv.as_str())).await
    }

    pub(super) async fn raise_cursor(self: &Arc<Self>, device: &Device, conv: &ConvId, seq: Seq) -> StoreResult<()> {
        if seq > 0 { self.write_cursor(device, conv, seq).await } else { Ok(()) }
    }

    pub(super) async fn read_mark(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        self.register(&self.cql.read_mark, (user.as_str(), conv.as_str())).await
    }

    /// Raises cursors of one device, and beside it in the inbox the highest of all the user's devices: two partitions.
    pub(super) async fn raise_cursors(&self, device: &Device, marks: &[(&str, i64)]) -> StoreResult<()> {
        let (user, name, life) = (device.user.as_str(), device.device.as_str(), signed(device.life));
        let cursors = marks.iter().map(|(conv, seq)| (user, name, life, *conv, *seq, *seq)).collect();
        let delivered = marks.iter().map(|(conv, seq)| (user, *conv, *seq, *seq)).collect();
        try_join(
            self.raise_together(&self.cql.raise_cursor, cursors),
            self.raise_together(&self.cql.raise_delivered, delivered),
        )
        .await?;
        Ok(())
    }

    /// Rows of one partition: one write.
    async fn raise_together<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        values: Vec<V>,
    ) -> Result<(), CqlError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        values.iter().for_each(|_| batch.append_statement(statement.clone()));
        self.session.batch(&batch, values).await.map_err(CqlError::new)?;
        Ok(())
    }

    /// A write that a quorum takes. Each check takes a random slot, so that checks reach all replicas in time.
    pub(super) async fn health(&self) -> StoreResult<()> {
        let values = (rand::random_range(0..HEALTH_SLOTS), signed(now_millis()));
        let written = timeout(Duration::from_secs(1), self.ask(&self.cql.beat, values)).await;
        written.map_err(|_| StoreError::unavailable("a test write got no answer within a second"))??;
        Ok(())
    }

    pub(super) async fn register(&self, statement: &PreparedStatement, key: impl SerializeRow) -> StoreResult<Seq> {
        let row = rows::first::<(Option<i64>,)>(self.ask(statement, key).await?)?;
        Ok(row.and_then(|(value,)| value).map_or(0, unsigned))
    }

    pub(super) async fn all_pages<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Send + 'static,
    {
        let pager: QueryPager = self.session.execute_iter(statement.clone(), values).await.map_err(CqlError::new)?;
        pager.rows_stream::<R>().map_err(CqlError::new)?.map_err(CqlError::new).try_collect().await
    }
}
