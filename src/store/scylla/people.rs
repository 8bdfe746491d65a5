//! [`People`]: when users were last seen, and who blocks whom. Called through the traits of this engine.
//!
//! A block is one row for each of the two. That of whoever blocks changes by a conditional write from one version to the
//! next. The copy with the other one is written after it, at TIMESTAMP = the version, so the latest stays in whatever order
//! copies arrive (R19); and it is written again when the same is asked for again, so whatever was not answered is made whole
//! by its retry.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Inner, ScyllaStore, at_most, lwt, rows, rows::CqlError, signed};
use crate::{
    model::{Millis, UserId},
    store::{People, StoreError, StoreFuture, StoreResult, Tie},
};

/// Writes, or reads, of last seen that are under way at once.
const AT_ONCE: usize = 16;
/// Others who change the same block at the same moment, before the caller is told to come back.
const TRIES: usize = 8;

type Stored = (String, Option<bool>, Option<bool>);

impl People for ScyllaStore {
    fn see<'a>(&'a self, seen: &'a [(UserId, Millis)]) -> StoreFuture<'a, ()> {
        self.bounded(self.inner.see(seen))
    }

    fn last_seen<'a>(&'a self, users: &'a [UserId]) -> StoreFuture<'a, Vec<Option<Millis>>> {
        self.bounded(self.inner.last_seen(users))
    }

    fn block<'a>(&'a self, user: &'a UserId, other: &'a UserId, on: bool) -> StoreFuture<'a, ()> {
        self.bounded(self.inner.block(user, other, on))
    }

    fn ties<'a>(&'a self, user: &'a UserId, after: Option<&'a UserId>, limit: usize) -> StoreFuture<'a, Vec<Tie>> {
        self.bounded(self.inner.ties(user, after, limit))
    }

    fn tie<'a>(&'a self, user: &'a UserId, other: &'a UserId) -> StoreFuture<'a, Tie> {
        self.bounded(self.inner.tie(user, other))
    }
}

impl Inner {
    async fn see(&self, seen: &[(UserId, Millis)]) -> StoreResult<()> {
        let writes: Vec<_> = seen.iter().map(|(user, at)| self.see_one(user, *at)).collect();
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn see_one(&self, user: &UserId, at: Millis) -> StoreResult<()> {
        self.ask(&self.cql.see, (user.as_str(), signed(at), signed(at))).await?;
        Ok(())
    }

    async fn last_seen(&self, users: &[UserId]) -> StoreResult<Vec<Option<Millis>>> {
        let reads: Vec<_> = users.iter().map(|user| self.last_seen_of(user)).collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    async fn last_seen_of(&self, user: &UserId) -> StoreResult<Option<Millis>> {
        let at = self.register(&self.cql.last_seen, (user.as_str(),)).await?;
        Ok((at > 0).then_some(at))
    }

    async fn block(&self, user: &UserId, other: &UserId, on: bool) -> StoreResult<()> {
        let version = self.set_block(user, other, on).await?;
        if version > 0 {
            self.ask(&self.cql.copy_block, (version, version, on, other.as_str(), user.as_str())).await?;
        }
        Ok(())
    }

    /// The version at which it is as asked; 0 where there never was a block.
    async fn set_block(&self, user: &UserId, other: &UserId, on: bool) -> StoreResult<i64> {
        for _ in 0..TRIES {
            let row = self.ask(&self.cql.block_version, (user.as_str(), other.as_str())).await?;
            let row = rows::first::<(Option<i64>, Option<bool>)>(row)?.unwrap_or_default();
            let (version, is_on) = (row.0.unwrap_or(0), row.1.unwrap_or(false));
            if is_on == on {
                return Ok(version);
            }
            let values = (version + 1, on, user.as_str(), other.as_str(), row.0);
            let set = self.ask(&self.cql.set_block, values).await?;
            if lwt::applied(&set.into_rows_result().map_err(CqlError::new)?)? {
                return Ok(version + 1);
            }
        }
        Err(StoreError::unavailable("the block is being changed by others, try again"))
    }

    async fn ties(&self, user: &UserId, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<Tie>> {
        let asked = (user.as_str(), after.map_or("", UserId::as_str), at_most(limit));
        let found: Vec<Stored> = self.all_pages(&self.cql.ties, asked).await?;
        let tie = |(other, blocks, blocked): Stored| {
            let other = UserId::new(&other).map_err(CqlError::new)?;
            Ok(Tie { other, blocks: blocks.unwrap_or(false), blocked: blocked.unwrap_or(false) })
        };
        found.into_iter().map(tie).collect()
    }

    async fn tie(&self, user: &UserId, other: &UserId) -> StoreResult<Tie> {
        let row = self.ask(&self.cql.tie, (user.as_str(), other.as_str())).await?;
        let (blocks, blocked) = rows::first::<(Option<bool>, Option<bool>)>(row)?.unwrap_or_default();
        Ok(Tie { other: other.clone(), blocks: blocks.unwrap_or(false), blocked: blocked.unwrap_or(false) })
    }
}
