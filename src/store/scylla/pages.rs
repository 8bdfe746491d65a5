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
    BUCKET, Inner, bucket_of,
    known::{Head, Log},
    rows::{self, CqlError},
    shutting_down, signed, unsigned,
};
use crate::{
    model::{Body, Cid, ConvId, MAX_SEQ, Row, Seq, UserId},
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

type Columns = (i64, String, String, i64, Vec<u8>);

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
        let log = Log::of(conv)?;
        let (mut page, mut remaining) = (Vec::new(), Remaining(span));
        loop {
            let last = page.last().map_or(after, |row: &Row| row.seq);
            let values = (conv.as_str(), signed(bucket_of(last + 1)), signed(last), remaining.rows());
            let full =
                self.collect(&self.cql.rows_after, values, &mut page, &mut remaining, last + 1, |seq| seq + 1).await?;
            let reached = page.last().map_or(after, |row| row.seq);
            // The next bucket counts only after the last row of this one was handed out (R18).
            if full || reached == last || reached % BUCKET != 0 {
                break;
            }
        }
        self.announce_page(&log, &page).await?;
        Ok(page)
    }

    pub(super) async fn read_before(self: &Arc<Self>, conv: &ConvId, before: Seq, span: Span) -> StoreResult<Vec<Row>> {
        let log = Log::of(conv)?;
        let wanted = before.min(MAX_SEQ).saturating_sub(1);
        let known = self.known.get(conv).top;
        let top = if wanted <= known { known } else { self.find_top(conv).await? };
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
        self.announce_page(&log, &page).await?;
        Ok(page)
    }

    /// One message row.
    pub(super) async fn read_row(&self, conv: &ConvId, seq: Seq) -> StoreResult<Option<Row>> {
        let values = (conv.as_str(), signed(bucket_of(seq)), signed(seq));
        let row = rows::first::<Columns>(self.ask(&self.cql.row, values).await?)?;
        Ok(row.map(to_row).transpose()?)
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

    /// No row may be handed out above a head: raises the heads to the end of the page first (R4).
    async fn announce_page(self: &Arc<Self>, log: &Log<'_>, page: &[Row]) -> StoreResult<()> {
        let Some(last) = page.last() else { return Ok(()) };
        self.known.update(log.id, |known| {
            for row in page {
                known.see(log.place_of(row.sender.as_str()), Head { seq: row.seq, ts: row.ts });
            }
        });
        self.ensure_heads(log, last.seq, true).await
    }
}

fn to_row((seq, sender, cid, ts, body): Columns) -> Result<Row, CqlError> {
    Ok(Row {
        seq: unsigned(seq),
        sender: UserId::new(&sender).map_err(CqlError::new)?,
        cid: Cid::new(&cid).map_err(CqlError::new)?,
        ts: unsigned(ts),
        body: Body::from_stored(Bytes::from(body)),
    })
}
