//! Finding the top of a log (R1) and raising its heads (R2, R3, R4). Called by the append and by the readers.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join};

use super::{
    BUCKET, Inner, bucket_of,
    known::{Direct, Known, Mark, Raise},
    options::Step,
    rows, signed, unsigned,
};
use crate::model::{ConvId, Millis, Seq, UserId};
use crate::store::{StoreError, StoreResult};

/// Rows of one scan query. More than one means that other nodes wrote much: then the heads are asked.
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
    /// nothing starts at the recorded head, whose row it reads too. Every row met on the way goes to `seen`.
    pub(super) async fn scan_to_top(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        mut seen: impl FnMut(&LightRow),
    ) -> StoreResult<Seq> {
        let mut after = self.known.get(direct.id).top;
        let mut may_jump = after > 0;
        if after == 0 {
            after = self.load_heads(direct.id).await?.saturating_sub(1);
        }
        loop {
            let rows = self.light_rows(direct.id, after).await?;
            if rows.is_empty() && after > self.known.get(direct.id).top {
                tracing::error!(conv = %direct.id, head = after + 1, "a head stands above its log; reading the log whole");
                after = 0;
                continue;
            }
            self.meet(direct, &rows);
            rows.iter().for_each(&mut seen);
            let Some(last) = rows.last().map(|row| row.seq) else { break };
            after = last;
            if rows.len() == SCAN_ROWS && may_jump {
                may_jump = false;
                after = after.max(self.load_heads(direct.id).await?.saturating_sub(1));
            } else if rows.len() < SCAN_ROWS && last % BUCKET != 0 {
                break;
            }
        }
        Ok(self.known.get(direct.id).top)
    }

    /// [`Inner::scan_to_top`] for those who only want to know.
    pub(super) async fn find_top(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        self.scan_to_top(&Direct::of(conv)?, |_| ()).await
    }

    /// Makes sure that both heads are at or above `upto`, a row that exists. Where other nodes usually have done
    /// it already (`ask_first`), the heads are read before they are written.
    pub(super) async fn ensure_heads(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        upto: Seq,
        ask_first: bool,
    ) -> StoreResult<()> {
        let mut known = self.known.get(direct.id);
        if known.heads >= upto {
            return Ok(());
        }
        if ask_first || known.met_from > known.heads {
            let heads = self.load_heads(direct.id).await?;
            if heads >= upto {
                return Ok(());
            }
            known = self.known.get(direct.id);
        }
        if known.met_from > known.heads {
            known = self.meet_from_heads(direct, known.heads, upto).await?;
        }
        let (raises, reached) = known.raises();
        self.raise_in_order(direct, &raises).await?;
        self.known.learn(direct.id, |known| known.heads = known.heads.max(reached));
        Ok(())
    }

    /// Who wrote what between the heads and `upto`, where this node has not met all of it.
    async fn meet_from_heads(self: &Arc<Self>, direct: &Direct<'_>, heads: Seq, upto: Seq) -> StoreResult<Known> {
        let mut known = Known::starting_at(heads);
        while known.top < upto {
            let rows = self.light_rows(direct.id, known.top.max(heads)).await?;
            if rows.is_empty() {
                return Err(StoreError::unavailable("rows below one that was read are not visible yet"));
            }
            rows.iter().for_each(|row| known.meet(direct.slot_of(&row.sender), row.mark()));
        }
        Ok(known)
    }

    async fn raise_in_order(self: &Arc<Self>, direct: &Direct<'_>, raises: &[Raise]) -> StoreResult<()> {
        for (number, (slot, mark)) in raises.iter().enumerate() {
            if number == 1 && self.stop_after == Some(Step::FirstHead) {
                return Err(StoreError::unavailable("stopped after the first head"));
            }
            self.raise_head(&direct.users[*slot], direct.id, *mark).await?;
        }
        Ok(())
    }

    async fn raise_head(&self, user: &UserId, conv: &ConvId, mark: Mark) -> StoreResult<()> {
        let head = signed(mark.seq);
        let values = (user.as_str(), conv.as_str(), head, signed(mark.ts), head);
        self.ask(&self.cql.raise_head, values).await?;
        Ok(())
    }

    /// The lower of the two users' heads, 0 where one has none; remembered.
    async fn load_heads(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        let (inner, key) = (self.clone(), conv.clone());
        let query = move || -> BoxFuture<'static, StoreResult<Seq>> {
            let (inner, conv) = (inner.clone(), key.clone());
            Box::pin(async move { inner.read_heads(&conv).await })
        };
        let heads = self.heads.share(conv.clone(), query).await.unwrap_or_else(super::shutting_down)?;
        self.known.learn(conv, |known| known.heads = known.heads.max(heads));
        Ok(heads)
    }

    async fn read_heads(&self, conv: &ConvId) -> StoreResult<Seq> {
        let direct = Direct::of(conv)?;
        let [a, b] = &direct.users;
        let (a, b) = try_join(self.read_head(a, conv), self.read_head(b, conv)).await?;
        Ok(a.min(b))
    }

    async fn read_head(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let row = rows::first::<(i64,)>(self.ask(&self.cql.head, (user.as_str(), conv.as_str())).await?)?;
        Ok(row.map_or(0, |(head,)| unsigned(head)))
    }

    /// The rows after a seq within its bucket, at most [`SCAN_ROWS`], cut at the first that is not the next.
    async fn light_rows(&self, conv: &ConvId, after: Seq) -> StoreResult<Vec<LightRow>> {
        let bucket = signed(bucket_of(after + 1));
        let values = (conv.as_str(), bucket, signed(after), i32::try_from(SCAN_ROWS).unwrap_or(i32::MAX));
        let found = rows::all::<(i64, String, String, i64)>(self.ask(&self.cql.marks_after, values).await?)?;
        let rows = found.into_iter().map(|(seq, sender, cid, ts)| LightRow {
            seq: unsigned(seq),
            sender,
            cid,
            ts: unsigned(ts),
        });
        Ok(rows.zip(after + 1..).take_while(|(row, next)| row.seq == *next).map(|(row, _)| row).collect())
    }

    fn meet(&self, direct: &Direct<'_>, rows: &[LightRow]) {
        self.known.learn(direct.id, |known| {
            rows.iter().for_each(|row| known.meet(direct.slot_of(&row.sender), row.mark()));
        });
    }
}

impl LightRow {
    fn mark(&self) -> Mark {
        Mark { seq: self.seq, ts: self.ts }
    }
}
