//! All conversations of the cluster, in the order of their tokens. Called by `natter repair`.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use scylla::statement::prepared::PreparedStatement;

use super::{Inner, ScyllaError, ScyllaStore, rows::CqlError};
use crate::{
    model::{ConvId, Seq},
    store::{StoreError, StoreResult},
};

/// Partitions per page: names only.
const PAGE: i32 = 500;

/// Reads which conversations there are.
pub struct Conversations {
    inner: Arc<Inner>,
    between: PreparedStatement,
}

impl std::fmt::Debug for Conversations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversations").finish_non_exhaustive()
    }
}

impl ScyllaStore {
    /// For scans over all conversations.
    ///
    /// # Errors
    /// When the cluster refuses the statement or does not answer.
    pub async fn all_conversations(&self) -> Result<Conversations, ScyllaError> {
        let cql = format!(
            "SELECT DISTINCT conv, bucket FROM {}.messages WHERE token(conv, bucket) > ? AND token(conv, bucket) <= ?",
            self.keyspace
        );
        let mut between = self.inner.session.prepare(cql.as_str()).await.map_err(ScyllaError::statement(&cql))?;
        between.set_page_size(PAGE);
        between.set_is_idempotent(true);
        Ok(Conversations { inner: self.inner.clone(), between })
    }
}

impl Conversations {
    /// The conversations whose first messages have tokens above `after` up to `upto`, each once, read page by page. One
    /// whose first 4,096 messages are all lost is not among them.
    ///
    /// # Errors
    /// When the cluster does not answer, here or in the stream.
    pub async fn between(&self, after: i64, upto: i64) -> StoreResult<impl Stream<Item = StoreResult<ConvId>> + use<>> {
        let pages =
            self.inner.session.execute_iter(self.between.clone(), (after, upto)).await.map_err(CqlError::new)?;
        let partitions = pages.rows_stream::<(String, i64)>().map_err(CqlError::new)?;
        let first = |row: StoreResult<(String, i64)>| async move {
            match row {
                Ok((_, bucket)) if bucket != 0 => None,
                Ok((conv, _)) => match ConvId::new(&conv) {
                    Ok(conv) => Some(Ok(conv)),
                    Err(error) => {
                        tracing::error!(conv, %error, "a row whose conversation has no valid name is left out");
                        None
                    }
                },
                Err(error) => Some(Err(error)),
            }
        };
        Ok(partitions.map_err(|error| StoreError::from(CqlError::new(error))).filter_map(first))
    }

    /// The lowest of a conversation's heads, 0 where one is missing that should be there: a service has none for what it wrote.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn lowest_head(&self, conv: &ConvId) -> StoreResult<Seq> {
        self.inner.lowest_head(conv).await
    }
}
