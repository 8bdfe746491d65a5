//! [`Logs`] whose messages and edits are sealed on their way in and opened on their way out. Everything else a log says is what
//! the engines themselves must read: events, which make rooms; reactions, which are counted.

use futures_util::future::BoxFuture;

use super::Sealing;
use crate::{
    model::{Cid, ConvId, NewMessage, Row, Seq, UserId},
    store::{Appended, CountsAt, Logs, Span, StoreError, StoreFuture, StoreResult},
};

pub(super) struct SealedLogs {
    pub(super) inner: std::sync::Arc<dyn Logs>,
    pub(super) sealing: Sealing,
}

impl SealedLogs {
    /// Seals what it can, up to the first that it cannot: what follows would stand before it, and would wait for the same store
    /// again.
    async fn append(&self, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let (mut sealed, mut first_tries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut failed = None;
        for message in batch {
            let body = match &failed {
                Some(error) => Err(StoreError::clone(error)),
                None => self.sealing.seal(conv, &message).await,
            };
            first_tries.push(match body {
                Ok(Some(body)) => {
                    sealed.push(NewMessage { body, ..message.clone() });
                    Ok(Some(message))
                }
                Ok(None) => {
                    sealed.push(message);
                    Ok(None)
                }
                Err(error) => {
                    failed = Some(error.clone());
                    Err(error)
                }
            });
        }
        let mut answers = self.inner.append(conv, sealed).await.into_iter();
        let mut all = Vec::with_capacity(first_tries.len());
        for tried in first_tries {
            let answer = match tried {
                Ok(plain) => match (answers.next(), plain) {
                    (Some(Err(StoreError::CidReused { seq })), Some(plain)) => self.again(conv, plain, seq).await,
                    (Some(answer), _) => answer,
                    (None, _) => Err(StoreError::unavailable("the store left a message without an answer")),
                },
                Err(error) => Err(error),
            };
            all.push(answer);
        }
        all
    }

    /// The store has another body under this cid, as far as it can tell. What was sealed with another key, because a month has
    /// ended or sealing was off, may say the same all the same: then it is tried as it was stored.
    async fn again(&self, conv: &ConvId, message: NewMessage, seq: Seq) -> StoreResult<Appended> {
        let reused = Err(StoreError::CidReused { seq });
        let Some(stored) = self.inner.placed(conv, &message.sender, &message.cid).await? else { return reused };
        let body = stored.body.clone();
        if self.sealing.open_row(conv, stored).await?.body != message.body {
            return reused;
        }
        let tried = self.inner.append(conv, vec![NewMessage { body, ..message }]).await;
        tried.into_iter().next().unwrap_or(reused)
    }
}

impl Logs for SealedLogs {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        if !self.sealing.is_on() {
            return self.inner.append(conv, batch);
        }
        Box::pin(self.append(conv, batch))
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move { self.sealing.open_rows(conv, self.inner.read_after(conv, after, span).await?).await })
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        Box::pin(async move { self.sealing.open_rows(conv, self.inner.read_before(conv, before, span).await?).await })
    }

    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        Box::pin(async move {
            match self.inner.placed(conv, sender, cid).await? {
                Some(row) => self.sealing.open_row(conv, row).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn next_row<'a>(&'a self, conv: &'a ConvId, after: Seq, upto: Seq) -> StoreFuture<'a, Option<Seq>> {
        self.inner.next_row(conv, after, upto)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.top(conv)
    }

    fn reaches<'a>(&'a self, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, Seq> {
        self.inner.reaches(conv, seq)
    }

    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, known: Seq) -> StoreFuture<'a, CountsAt> {
        self.inner.counts_at(conv, seq, known)
    }

    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.inner.mend(conv)
    }
}
