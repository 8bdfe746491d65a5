//! [`Keys`]: what bodies are sealed with, one row for each user. It changes by conditional statements only, so that of two nodes
//! that make a key both get the same one, and none that is made while all are destroyed stands half. Called through the traits of
//! this engine.

use std::collections::HashMap;

use super::{Inner, ScyllaStore, lwt, rows, rows::CqlError};
use crate::{
    model::UserId,
    store::{Keys, StoreError, StoreFuture, StoreResult, keys::Month},
};

/// Others who change the same row at the same moment, before the caller is told to come back.
const TRIES: usize = 8;

type Kept = HashMap<i16, Vec<u8>>;

impl Keys for ScyllaStore {
    fn key<'a>(&'a self, user: &'a UserId, month: Month) -> StoreFuture<'a, Option<Vec<u8>>> {
        self.bounded(async move { Ok(self.inner.keys_of(user).await?.remove(&stored(month))) })
    }

    fn keep_key<'a>(&'a self, user: &'a UserId, month: Month, key: Vec<u8>) -> StoreFuture<'a, Vec<u8>> {
        self.bounded(self.inner.keep_key(user, month, key))
    }

    fn destroy_keys<'a>(&'a self, user: &'a UserId) -> StoreFuture<'a, u64> {
        self.bounded(self.inner.destroy_keys(user))
    }
}

/// The bits of a month as CQL has them.
fn stored(month: Month) -> i16 {
    month.0.cast_signed()
}

impl Inner {
    async fn keys_of(&self, user: &UserId) -> StoreResult<Kept> {
        let row = self.ask(&self.cql.keys, (user.as_str(),)).await?;
        Ok(rows::first::<(Option<Kept>,)>(row)?.and_then(|(kept,)| kept).unwrap_or_default())
    }

    async fn keep_key(&self, user: &UserId, month: Month, key: Vec<u8>) -> StoreResult<Vec<u8>> {
        let month = stored(month);
        for _ in 0..TRIES {
            let kept = self.ask(&self.cql.keep_key, (month, &key, user.as_str(), month)).await?;
            if lwt::applied(&kept.into_rows_result().map_err(CqlError::new)?)? {
                return Ok(key);
            }
            // Another one was faster, and may be destroyed by now.
            if let Some(stands) = self.keys_of(user).await?.remove(&month) {
                return Ok(stands);
            }
        }
        Err(StoreError::unavailable("the user's keys are being changed by others, try again"))
    }

    async fn destroy_keys(&self, user: &UserId) -> StoreResult<u64> {
        let had = self.keys_of(user).await?.len() as u64;
        self.ask(&self.cql.destroy_keys, (user.as_str(),)).await?;
        Ok(had)
    }
}
