//! How far a log may be read: up to a head (F9). A row above every head may not be part of the log, and only the
//! home looks there. Called by the readers, and by a recovery.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};

use super::{BUCKET, Inner, bucket_of, known::Seen, pages::to_counts, rows, shutting_down, signed, unsigned};
use crate::{
    model::{ConvId, Counts, RoomId, Seq, Side, UserId},
    store::{CountsAt, StoreResult, audience_of, fence::Head},
};

/// Columns that nobody has written yet are 0.
pub(super) fn to_head(seq: Option<i64>, first: Option<i64>, second: Option<i64>) -> Head {
    Head { seq: seq.map_or(0, unsigned), counts: to_counts(first.unwrap_or(0), second.unwrap_or(0)) }
}

impl Inner {
    /// A seq up to which the log is settled: as far as `wanted` where that is known already, else as far as the heads.
    /// What is read must be read after this: a row may change until a head has reached it.
    pub(super) async fn settled(self: &Arc<Self>, conv: &ConvId, wanted: Seq) -> StoreResult<Seq> {
        let known = self.heads_seen.get(conv).head;
        if known >= wanted { Ok(known) } else { Ok(self.load_heads(conv).await?.head) }
    }

    /// The larger of the heads there are; remembered.
    pub(super) async fn load_heads(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seen> {
        let (inner, key) = (self.clone(), conv.clone());
        let query = move || -> BoxFuture<'static, StoreResult<Head>> {
            let (inner, conv) = (inner.clone(), key.clone());
            Box::pin(async move { inner.read_heads(&conv).await })
        };
        let head = self.heads.share(conv.clone(), query).await.unwrap_or_else(shutting_down)?;
        Ok(self.know(conv, head.seq, Some(head.counts)))
    }

    /// A head stands at `head`, or stood there once. Returns the highest that is known.
    pub(super) fn know(&self, conv: &ConvId, head: Seq, counts: Option<Counts>) -> Seen {
        if head == 0 { Seen::default() } else { self.heads_seen.raise(conv, head, counts) }
    }

    /// A head is raised when every row up to it is acknowledged and validated, so any head will do.
    pub(super) async fn read_heads(&self, conv: &ConvId) -> StoreResult<Head> {
        if let Some(room) = conv.as_room() {
            return self.read_room_head(&room).await;
        }
        let audience = audience_of(conv)?;
        let heads = try_join_all(audience.users().map(|user| self.read_head(user, conv))).await?;
        Ok(heads.into_iter().max_by_key(|head| head.seq).unwrap_or_default())
    }

    async fn read_head(&self, user: &UserId, conv: &ConvId) -> StoreResult<Head> {
        type Columns = (Option<i64>, Option<i64>, Option<i64>);
        let row = rows::first::<Columns>(self.ask(&self.cql.head, (user.as_str(), conv.as_str())).await?)?;
        let (seq, first, second) = row.unwrap_or_default();
        Ok(to_head(seq, first, second))
    }

    /// A room has one head for all.
    async fn read_room_head(&self, room: &RoomId) -> StoreResult<Head> {
        let row = rows::first::<(Option<i64>, Option<i64>)>(self.ask(&self.cql.room_head, (room.as_str(),)).await?)?;
        let (seq, count) = row.unwrap_or_default();
        Ok(to_head(seq, count, None))
    }

    /// The lowest of a conversation's heads, 0 where one is missing. A service need not have any for what it wrote itself.
    pub(super) async fn lowest_head(&self, conv: &ConvId) -> StoreResult<Seq> {
        if let Some(room) = conv.as_room() {
            return Ok(self.read_room_head(&room).await?.seq);
        }
        let audience = audience_of(conv)?;
        let heads = try_join_all(audience.users().map(|user| self.read_head(user, conv))).await?;
        let top = heads.iter().copied().max_by_key(|head| head.seq).unwrap_or_default();
        let last = if top.seq == 0 { None } else { self.row_at(conv, top.seq).await? };
        let service = last.filter(|row| row.service).map(|row| row.sender);
        let wrote_the_rest = |user: &UserId, head: &Head| {
            let other = match Side::of(conv, user) {
                Some(Side::First) => Side::Second,
                _ => Side::First,
            };
            service.as_ref() == Some(user) && head.counts.of(other) == top.counts.of(other)
        };
        let behind = audience.users().zip(&heads).filter(|(user, head)| !wrote_the_rest(user, head));
        Ok(behind.map(|(_, head)| head.seq).min().unwrap_or(top.seq))
    }

    /// What the log has counted at `seq`, without asking for the heads where it is known to go that far: `known` is a seq
    /// that the caller knows to exist.
    pub(super) async fn counts_at(self: &Arc<Self>, conv: &ConvId, seq: Seq, known: Seq) -> StoreResult<CountsAt> {
        let mut seen = self.heads_seen.get(conv);
        if seq > seen.head.max(known) {
            seen = self.load_heads(conv).await?;
            if seq > seen.head {
                return Ok(CountsAt::AboveTop(seen.head));
            }
        }
        if seq == 0 {
            return Ok(CountsAt::Known(Counts::default()));
        }
        if let Some(counts) = seen.counts.filter(|_| seen.head == seq) {
            return Ok(CountsAt::Known(counts));
        }
        let (inner, key) = (self.clone(), (conv.clone(), seq));
        let query = move || -> BoxFuture<'static, StoreResult<Counts>> {
            let (inner, (conv, seq)) = (inner.clone(), key.clone());
            Box::pin(async move { inner.read_counts(&conv, seq).await })
        };
        let counts = self.counts.share((conv.clone(), seq), query).await.unwrap_or_else(shutting_down)?;
        Ok(CountsAt::Known(counts))
    }

    /// Where the row is lost, the last one below it tells: in the bucket before as well, no further.
    async fn read_counts(&self, conv: &ConvId, seq: Seq) -> StoreResult<Counts> {
        let (bucket, mut upto) = (bucket_of(seq), seq);
        for bucket in [Some(bucket), bucket.checked_sub(1)].into_iter().flatten() {
            let asked = (conv.as_str(), signed(bucket), signed(upto));
            let found = rows::first::<(i64, i64)>(self.ask(&self.cql.counts_until, asked).await?)?;
            if let Some((first, second)) = found {
                return Ok(to_counts(first, second));
            }
            upto = bucket * BUCKET;
        }
        Ok(Counts::default())
    }
}
