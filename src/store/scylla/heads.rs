//! Finding the top of a log (R1) and raising its heads (R2, R3, R4). Called by the append and by the readers.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};

use super::{
    BUCKET, Inner, bucket_of,
    known::{Head, Known, Log, Raise},
    options::Step,
    rows, signed, unsigned,
};
use crate::{
    model::{ConvId, Millis, Seq, UserId},
    store::{StoreError, StoreResult, audience_of},
};

/// Rows of one scan query. When one query does not reach the top, other nodes wrote much: then the heads are read.
const SCAN_ROWS: usize = 512;

/// A message row without its body.
#[derive(Debug, Clone)]
pub(super) struct LightRow {
    pub(super) seq: Seq,
    pub(super) sender: String,
    pub(super) cid: String,
    pub(super) ts: Millis,
}

impl Inner {
    /// The highest seq that exists, by reading forward from the highest known to exist; a node that knows
    /// nothing starts at the recorded head, whose row it reads too. Every row read on the way goes to `on_row`.
    pub(super) async fn scan_to_top(
        self: &Arc<Self>,
        log: &Log<'_>,
        mut on_row: impl FnMut(&LightRow),
    ) -> StoreResult<Seq> {
        let mut after = self.known.get(log.id).top;
        let mut may_jump = after > 0;
        if after == 0 {
            after = self.load_heads(log.id).await?.saturating_sub(1);
        }
        loop {
            let rows = self.light_rows(log.id, after).await?;
            if rows.is_empty() && after > self.known.get(log.id).top {
                tracing::error!(conv = %log.id, head = after + 1, "a head stands above its log; reading the log whole");
                after = 0;
                continue;
            }
            self.see(log, &rows);
            rows.iter().for_each(&mut on_row);
            let Some(last) = rows.last().map(|row| row.seq) else { break };
            after = last;
            if rows.len() == SCAN_ROWS && may_jump {
                may_jump = false;
                after = after.max(self.load_heads(log.id).await?.saturating_sub(1));
            } else if rows.len() < SCAN_ROWS && last % BUCKET != 0 {
                break;
            }
        }
        Ok(self.known.get(log.id).top)
    }

    /// [`Inner::scan_to_top`] for those who only want to know.
    pub(super) async fn find_top(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        self.scan_to_top(&Log::of(conv)?, |_| ()).await
    }

    /// Makes sure that all heads are at or above `upto`, a row that exists. With `ask_first` the heads are read before
    /// they are written: for callers whose rows some other node has usually announced already.
    pub(super) async fn ensure_heads(self: &Arc<Self>, log: &Log<'_>, upto: Seq, ask_first: bool) -> StoreResult<()> {
        let mut known = self.known.get(log.id);
        if known.heads >= upto {
            return Ok(());
        }
        if ask_first || known.seen_from > known.heads {
            let heads = self.load_heads(log.id).await?;
            if heads >= upto {
                return Ok(());
            }
            known = self.known.get(log.id);
        }
        if known.seen_from > known.heads {
            known = self.see_from_heads(log, known.heads, upto).await?;
        }
        let (raises, reached) = known.raises(&log.audience);
        self.raise_in_order(log.id, &raises).await?;
        self.known.update(log.id, |known| known.heads = known.heads.max(reached));
        Ok(())
    }

    /// Reads who wrote what between the heads and `upto`, where this node has not seen all of it.
    async fn see_from_heads(self: &Arc<Self>, log: &Log<'_>, heads: Seq, upto: Seq) -> StoreResult<Known> {
        let mut known = Known::starting_at(heads);
        while known.top < upto {
            let rows = self.light_rows(log.id, known.top.max(heads)).await?;
            if rows.is_empty() {
                return Err(StoreError::unavailable("rows below one that was read are not visible yet"));
            }
            rows.iter().for_each(|row| known.see(log.place_of(&row.sender), row.head()));
        }
        Ok(known)
    }

    async fn raise_in_order(self: &Arc<Self>, conv: &ConvId, raises: &[Raise<'_>]) -> StoreResult<()> {
        for (number, (user, head)) in raises.iter().enumerate() {
            if number == 1 && self.stop_after == Some(Step::FirstHead) {
                return Err(StoreError::unavailable("stopped after the first head"));
            }
            self.raise_head(user, conv, *head).await?;
        }
        Ok(())
    }

    async fn raise_head(&self, user: &UserId, conv: &ConvId, head: Head) -> StoreResult<()> {
        let seq = signed(head.seq);
        let values = (user.as_str(), conv.as_str(), seq, signed(head.ts), seq);
        self.ask(&self.cql.raise_head, values).await?;
        Ok(())
    }

    /// The lowest of the users' heads, 0 where one has none; remembered.
    async fn load_heads(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        let (inner, key) = (self.clone(), conv.clone());
        let query = move || -> BoxFuture<'static, StoreResult<Seq>> {
            let (inner, conv) = (inner.clone(), key.clone());
            Box::pin(async move { inner.read_heads(&conv).await })
        };
        let heads = self.heads.share(conv.clone(), query).await.unwrap_or_else(super::shutting_down)?;
        self.known.update(conv, |known| known.heads = known.heads.max(heads));
        Ok(heads)
    }

    async fn read_heads(&self, conv: &ConvId) -> StoreResult<Seq> {
        let audience = audience_of(conv)?;
        let heads = try_join_all(audience.users().map(|user| self.read_head(user, conv))).await?;
        Ok(heads.into_iter().min().unwrap_or(0))
    }

    async fn read_head(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let row = rows::first::<(i64,)>(self.ask(&self.cql.head, (user.as_str(), conv.as_str())).await?)?;
        Ok(row.map_or(0, |(head,)| unsigned(head)))
    }

    /// The rows after a seq within its bucket, at most [`SCAN_ROWS`], cut at the first that is not the next.
    async fn light_rows(&self, conv: &ConvId, after: Seq) -> StoreResult<Vec<LightRow>> {
        let bucket = signed(bucket_of(after + 1));
        let values = (conv.as_str(), bucket, signed(after), i32::try_from(SCAN_ROWS).unwrap_or(i32::MAX));
        let found = rows::all::<(i64, String, String, i64)>(self.ask(&self.cql.light_rows_after, values).await?)?;
        let rows = found.into_iter().map(|(seq, sender, cid, ts)| LightRow {
            seq: unsigned(seq),
            sender,
            cid,
            ts: unsigned(ts),
        });
        Ok(rows.zip(after + 1..).take_while(|(row, next)| row.seq == *next).map(|(row, _)| row).collect())
    }

    fn see(&self, log: &Log<'_>, rows: &[LightRow]) {
        self.known.update(log.id, |known| {
            rows.iter().for_each(|row| known.see(log.place_of(&row.sender), row.head()));
        });
    }
}

impl LightRow {
    fn head(&self) -> Head {
        Head { seq: self.seq, ts: self.ts }
    }
}
