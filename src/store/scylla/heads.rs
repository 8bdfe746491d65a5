//! How far a log may be read: up to a head (F9). A row above every head may not be part of the log, and only the
//! home looks there. Called by the readers, and by a recovery.

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};

use super::{Inner, rows, unsigned};
use crate::{
    model::{ConvId, Seq, UserId},
    store::{StoreResult, audience_of},
};

impl Inner {
    /// A seq up to which the log is settled: as far as `wanted` where that is known already, else as far as the heads.
    /// What is read must be read after this: a row may change until a head has reached it.
    pub(super) async fn settled(self: &Arc<Self>, conv: &ConvId, wanted: Seq) -> StoreResult<Seq> {
        let known = self.heads_seen.get(conv);
        if known >= wanted { Ok(known) } else { self.load_heads(conv).await }
    }

    /// The larger of the heads there are; remembered.
    pub(super) async fn load_heads(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        let (inner, key) = (self.clone(), conv.clone());
        let query = move || -> BoxFuture<'static, StoreResult<Seq>> {
            let (inner, conv) = (inner.clone(), key.clone());
            Box::pin(async move { inner.read_heads(&conv).await })
        };
        let head = self.heads.share(conv.clone(), query).await.unwrap_or_else(super::shutting_down)?;
        Ok(self.know(conv, head))
    }

    /// A head stands at `head`, or stood there once. Returns the highest that is known.
    pub(super) fn know(&self, conv: &ConvId, head: Seq) -> Seq {
        if head == 0 { 0 } else { self.heads_seen.raise(conv, head) }
    }

    /// A head is raised when every row up to it is acknowledged and validated, so any head will do.
    pub(super) async fn read_heads(&self, conv: &ConvId) -> StoreResult<Seq> {
        let audience = audience_of(conv)?;
        let heads = try_join_all(audience.users().map(|user| self.read_head(user, conv))).await?;
        Ok(heads.into_iter().max().unwrap_or(0))
    }

    async fn read_head(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        let row = rows::first::<(Option<i64>,)>(self.ask(&self.cql.head, (user.as_str(), conv.as_str())).await?)?;
        Ok(row.and_then(|(head,)| head).map_or(0, unsigned))
    }
}
