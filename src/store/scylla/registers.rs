//! Everything that only grows: inboxes, cursors, read marks, devices. Each write says USING TIMESTAMP its value,
//! so the largest stays in whatever order the writes arrive, and writing again is harmless (R19).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_lc_rs::digest;
use compact_str::{CompactString, format_compact};

use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};
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
    Inner, lwt,
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{ConvId, Device, Gap, Seq, UserId, now_millis},
    store::{InboxRow, Page, Stamps, StoreError, StoreResult, audience_of},
};

/// Cursors written at once for a new device; all in the user's partition.
const CURSOR_BATCH: usize = 64;
/// Such batches in flight.
const CURSOR_BATCHES: usize = 4;
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

    /// Two reads in the user's partitions per page: a stretch of the inbox, and the cursors of the same stretch.
    pub(super) async fn gaps(
        &self,
        device: &Device,
        after: Option<&ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreResult<Page<Gap>> {
        let heads = self.conversations(&device.user, after, scan).await?;
        let Some(last) = heads.next.clone().or_else(|| heads.items.last().map(|row| row.conv.clone())) else {
            return Ok(Page { items: Vec::new(), next: None, scanned: heads.scanned });
        };
        let from = after.map_or("", ConvId::as_str);
        let asked = (device.user.as_str(), device.device.as_str(), from, last.as_str());
        let found: Vec<(String, i64)> = self.all_pages(&self.cql.cursors_between, asked).await?;
        let scanned = heads.scanned + found.len();
        let cursors: HashMap<String, Seq> = found.into_iter().map(|(conv, seq)| (conv, unsigned(seq))).collect();
        let gap = |InboxRow { conv, head, .. }: InboxRow| {
            let cursor = cursors.get(conv.as_str()).copied().unwrap_or(0);
            (head > cursor).then(|| {
                // Whoever asks for gaps reads the logs next, and then needs no other look at the head.
                self.know(&conv, head, None);
                Gap { conv, head, cursor }
            })
        };
        let mut gaps = heads.items.into_iter().filter_map(gap);
        let items: Vec<Gap> = gaps.by_ref().take(limit.max(1)).collect();
        // Where there are more than the page may hold, the next one begins behind the last of this one.
        let cut = gaps.next().and(items.last()).map(|gap| gap.conv.clone());
        Ok(Page { items, next: cut.or(heads.next), scanned })
    }

    /// A hash of all entries: an inbox has one for each incarnation that wrote to it.
    pub(super) async fn stamps(&self, user: &UserId) -> StoreResult<Stamps> {
        let row = rows::first::<(Option<BTreeMap<String, i64>>,)>(self.ask(&self.cql.stamps, (user.as_str(),)).await?)?;
        let entries = row.and_then(|(entries,)| entries).unwrap_or_default();
        let clean = entries.values().all(|stamp| stamp % 2 == 0);
        if entries.is_empty() {
            return Ok(Stamps { value: CompactString::default(), clean });
        }
        let mut digest = digest::Context::new(&digest::SHA256);
        for (life, stamp) in &entries {
            digest.update(life.as_bytes());
            digest.update(b"=");
            digest.update(&stamp.to_be_bytes());
        }
        let value = digest.finish().as_ref()[..16].iter().map(|byte| format_compact!("{byte:02x}")).collect();
        Ok(Stamps { value, clean })
    }

    pub(super) async fn cursor(&self, device: &Device, conv: &ConvId) -> StoreResult<Seq> {
        audience_of(conv)?;
        self.register(&self.cql.cursor, (device.user.as_str(), device.device.as_str(), conv.as_str())).await
    }

    pub(super) async fn raise_cursor(&self, device: &Device, conv: &ConvId, seq: Seq) -> StoreResult<()> {
        audience_of(conv)?;
        if seq == 0 {
            return Ok(());
        }
        self.raise_cursors(device, &[(conv.as_str(), signed(seq))]).await
    }

    pub(super) async fn read_mark(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        audience_of(conv)?;
        self.register(&self.cql.read_mark, (user.as_str(), conv.as_str())).await
    }

    /// The marks are read before a second look at whether the device is known, and the device is added last. So no
    /// cursor is taken from a mark that the person moved after the device became known, which would skip what the
    /// device never had. And a device that is known has its cursors.
    pub(super) async fn register_device(&self, device: &Device) -> StoreResult<bool> {
        if self.knows_device(device).await? {
            return Ok(false);
        }
        let marks: Vec<(String, Option<i64>)> = self.all_pages(&self.cql.read_marks, (device.user.as_str(),)).await?;
        if self.knows_device(device).await? {
            return Ok(false);
        }
        let marks: Vec<(&str, i64)> = marks.iter().filter_map(|(conv, seq)| Some((conv.as_str(), (*seq)?))).collect();
        let writes: Vec<_> = marks.chunks(CURSOR_BATCH).map(|some| self.raise_cursors(device, some)).collect();
        stream::iter(writes).buffer_unordered(CURSOR_BATCHES).try_collect::<()>().await?;
        let added = self.ask(&self.cql.add_device, (device.user.as_str(), device.device.as_str())).await?;
        Ok(lwt::applied(&rows::rows_of(added)?)?)
    }

    /// One above what a quorum knows, written to a quorum before it is used. Without a conditional write: two at the
    /// same moment may get the same number, and R11 has other means to tell those apart.
    pub(super) async fn next_connection(&self, device: &Device) -> StoreResult<u64> {
        let (user, device) = (device.user.as_str(), device.device.as_str());
        let number = self.register(&self.cql.connection, (user, device)).await? + 1;
        let value = signed(number);
        self.ask(&self.cql.raise_connection, (user, device, value, value)).await?;
        Ok(number)
    }

    async fn knows_device(&self, device: &Device) -> StoreResult<bool> {
        let known = self.ask(&self.cql.device, (device.user.as_str(), device.device.as_str())).await?;
        Ok(rows::first::<(String,)>(known)?.is_some())
    }

    /// Raises cursors of one device, and beside it in the inbox the highest of all the user's devices: two partitions.
    async fn raise_cursors(&self, device: &Device, marks: &[(&str, i64)]) -> StoreResult<()> {
        let (user, device) = (device.user.as_str(), device.device.as_str());
        let cursors = marks.iter().map(|(conv, seq)| (user, device, *conv, *seq, *seq)).collect();
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

    async fn all_pages<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>, CqlError>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Send + 'static,
    {
        let pager: QueryPager = self.session.execute_iter(statement.clone(), values).await.map_err(CqlError::new)?;
        pager.rows_stream::<R>().map_err(CqlError::new)?.map_err(CqlError::new).try_collect().await
    }
}
