//! Reading logs, forwards and backwards. Called through [`Logs`](crate::store::Logs).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use scylla::{
    response::{PagingState, PagingStateResponse},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};

use super::{
    BUCKET, Inner, at_most,
    beside::decode_refs,
    bucket_of,
    homes::key_of,
    rows::{self, CqlError},
    shutting_down, signed, unsigned,
};
use crate::{
    model::{Body, Cid, ConvId, Counts, Kind, MAX_SEQ, Row, Seq, UserId},
    store::{Span, StoreError, StoreResult},
};

/// What two calls must have in common to share a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    conv: ConvId,
    after: Seq,
    rows: usize,
    bytes: usize,
}

/// A message row: seq, kind, sender, whether that is a service, cid, time, body, counts of the first and the second side, and
/// what it refers to.
type Columns = (i64, i8, String, bool, String, i64, Vec<u8>, i64, i64, Option<Vec<u8>>);

/// How much of a span is left.
struct Remaining(Span);

impl Remaining {
    /// Takes a row off; false when it was the last that fits.
    fn take(&mut self, row: &Row) -> bool {
        self.0.rows = self.0.rows.saturating_sub(1);
        self.0.bytes = self.0.bytes.saturating_sub(row.body.size());
        self.0.rows > 0 && self.0.bytes > 0
    }

    fn rows(&self) -> i32 {
        i32::try_from(self.0.rows.max(1)).unwrap_or(i32::MAX)
    }
}

impl Inner {
    pub(super) async fn read_after(self: &Arc<Self>, conv: &ConvId, after: Seq, span: Span) -> StoreResult<Vec<Row>> {
        if after >= MAX_SEQ {
            return Ok(Vec::new());
        }
        let key = PageKey { conv: conv.clone(), after, rows: span.rows, bytes: span.bytes };
        let (inner, asked) = (self.clone(), key.clone());
        let query = move || -> BoxFuture<'static, StoreResult<Arc<[Row]>>> {
            let (inner, key) = (inner.clone(), asked.clone());
            Box::pin(async move { inner.page_after(&key.conv, key.after, span).await.map(Arc::from) })
        };
        let page = self.pages.share(key, query).await.unwrap_or_else(shutting_down)?;
        Ok(page.to_vec())
    }

    async fn page_after(self: &Arc<Self>, conv: &ConvId, after: Seq, span: Span) -> StoreResult<Vec<Row>> {
        // The head first: what is read after it is settled up to there (F9).
        let head = self.settled(conv, after.saturating_add(span.rows as Seq)).await?;
        let (mut page, mut remaining) = (Vec::new(), Remaining(span));
        loop {
            let last = page.last().map_or(after, |row: &Row| row.seq);
            if last >= head {
                break;
            }
            let most = remaining.rows().min(i32::try_from(head - last).unwrap_or(i32::MAX));
            let values = (conv.as_str(), signed(bucket_of(last + 1)), signed(last), most);
            let full =
                self.collect(&self.cql.rows_after, values, &mut page, &mut remaining, last + 1, |seq| seq + 1).await?;
            let reached = page.last().map_or(after, |row| row.seq);
            // The next bucket counts only after the last row of this one was handed out (R18).
            if full || reached == last || reached % BUCKET != 0 {
                break;
            }
        }
        page.truncate(usize::try_from(head.saturating_sub(after)).unwrap_or(usize::MAX));
        Ok(page)
    }

    pub(super) async fn read_before(self: &Arc<Self>, conv: &ConvId, before: Seq, span: Span) -> StoreResult<Vec<Row>> {
        let wanted = before.min(MAX_SEQ).saturating_sub(1);
        let top = self.settled(conv, wanted).await?;
        let (mut page, mut remaining) = (Vec::new(), Remaining(span));
        let mut next = wanted.min(top);
        while next > 0 {
            let values = (conv.as_str(), signed(bucket_of(next)), signed(next), remaining.rows());
            let full =
                self.collect(&self.cql.rows_until, values, &mut page, &mut remaining, next, |seq| seq - 1).await?;
            let reached = page.last().map_or(next, |row: &Row| row.seq - 1);
            if reached == next {
                return Err(StoreError::unavailable("a row below the top is not visible yet"));
            }
            next = reached;
            if full {
                break;
            }
        }
        page.reverse();
        Ok(page)
    }

    /// The last rows of the bucket of `upto` up to it, newest first, whatever is missing.
    pub(super) async fn rows_until(&self, conv: &ConvId, upto: Seq, most: usize) -> StoreResult<Vec<Row>> {
        let values = (conv.as_str(), signed(bucket_of(upto)), signed(upto), at_most(most));
        let found = rows::all::<Columns>(self.ask(&self.cql.rows_until, values).await?)?;
        Ok(found.into_iter().map(to_row).collect::<Result<_, _>>()?)
    }

    /// One message row, wherever the heads are.
    pub(super) async fn row_at(&self, conv: &ConvId, seq: Seq) -> Result<Option<Row>, CqlError> {
        let asked = self.ask(&self.cql.row, (conv.as_str(), signed(bucket_of(seq)), signed(seq))).await?;
        rows::first::<Columns>(asked)?.map(to_row).transpose()
    }

    /// The message with a cid, in the bucket that is written now or the one before (R15), at or below the head (F9). A cid
    /// row alone says nothing: the row it names decides.
    pub(super) async fn placed(
        self: &Arc<Self>,
        conv: &ConvId,
        sender: &UserId,
        cid: &Cid,
    ) -> StoreResult<Option<Row>> {
        let head = self.load_heads(conv).await?.head;
        let (keys, bucket) = (vec![key_of(sender.as_str(), cid.as_str())], bucket_of(head + 1));
        for bucket in [Some(bucket), bucket.checked_sub(1)].into_iter().flatten() {
            let found = self.ask(&self.cql.cids, (conv.as_str(), signed(bucket), &keys)).await?;
            for (_, at) in rows::all::<(String, i64)>(found)? {
                let row = if unsigned(at) <= head { self.row_at(conv, unsigned(at)).await? } else { None };
                if let Some(row) = row.filter(|row| row.sender == *sender && row.cid == *cid) {
                    return Ok(Some(row));
                }
            }
        }
        Ok(None)
    }

    /// Adds rows of one bucket to `page` while each is the one that must come, beginning with `expected`.
    /// True when nothing remains of the span.
    async fn collect(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        page: &mut Vec<Row>,
        remaining: &mut Remaining,
        mut expected: Seq,
        step: impl Fn(Seq) -> Seq,
    ) -> Result<bool, CqlError> {
        let mut state = PagingState::start();
        loop {
            let answer = self.session.execute_single_page(statement, &values, state).await;
            let (result, paging) = answer.map_err(CqlError::new)?;
            for columns in rows::all::<Columns>(result)? {
                let row = to_row(columns)?;
                if row.seq != expected {
                    return Ok(false);
                }
                expected = step(expected);
                let fits = remaining.take(&row);
                page.push(row);
                if !fits {
                    return Ok(true);
                }
            }
            match paging {
                PagingStateResponse::HasMorePages { state: next } => state = next,
                PagingStateResponse::NoMorePages => return Ok(false),
            }
        }
    }
}

pub(super) fn to_row(
    (seq, kind, sender, service, cid, ts, body, first, second, refs): Columns,
) -> Result<Row, CqlError> {
    Ok(Row {
        seq: unsigned(seq),
        kind: to_kind(kind)?,
        sender: UserId::new(&sender).map_err(CqlError::new)?,
        service,
        cid: Cid::new(&cid).map_err(CqlError::new)?,
        ts: unsigned(ts),
        body: to_body(body),
        counts: to_counts(first, second),
        refs: decode_refs(refs.as_deref())?.map(|(refs, _)| refs),
    })
}

/// A body as it stands in a row: it was checked on its way in (R14).
pub(super) fn to_body(stored: Vec<u8>) -> Body {
    Body::from_stored(Bytes::from(stored))
}

pub(super) fn to_kind(kind: i8) -> Result<Kind, CqlError> {
    let known = u8::try_from(kind).ok().and_then(Kind::of);
    known.ok_or_else(|| CqlError::new(format_args!("{kind} is no kind of row that this version knows")))
}

pub(super) fn to_counts(first: i64, second: i64) -> Counts {
    Counts { first: unsigned(first), second: unsigned(second) }
}
