//! Removes stamps of incarnations that are gone: one that died between a raise and its settling leaves an odd stamp, for
//! which every comparison of that user would be a full one for ever, and each life of each node leaves an entry in every
//! inbox that it wrote to. Called by whatever reads the stamps of a session that sweeps.
//!
//! Two things must hold (R12). What is left may not look like what was clean before: so a removal sets an entry of its
//! own, [`REMOVALS`], to a number that no other one has, in the same write. And no raise may be answered whose stamp is
//! hidden by a removal. The removal is at TIMESTAMP the stamp that was seen, which hides no later one; and it is written
//! only when this process has known for [`GONE_AFTER`](super::options::GONE_AFTER) that the incarnation is fenced. A home answers
//! nothing after a raise that was acknowledged when it had not been seen alive for a sixth of that
//! ([`super::homes`]): so what it answered was at a quorum before the removal, for every comparison after it to find.

use std::collections::BTreeMap;

use scylla::statement::batch::{Batch, BatchType};

use super::{Inner, rows::CqlError, signed};
use crate::{
    model::{UserId, now_millis},
    store::{StoreResult, slots::Incarnation},
};

/// The entry that counts removals. No incarnation is called so: they have a `/`.
const REMOVALS: &str = "removed";
/// Settled stamps of fenced incarnations that are left alone: few cost less than their removal.
const LEFT: usize = 8;

impl Inner {
    /// Removes what may be removed. Failing is no harm: the next one tries again.
    pub(super) async fn remove_old_stamps(&self, user: &UserId, stamps: &BTreeMap<String, i64>) -> StoreResult<()> {
        let mut old = Vec::new();
        for (life, stamp) in stamps {
            let Some(who) = Incarnation::parse(life) else { continue };
            if self.is_long_gone(&who).await? {
                old.push((life.as_str(), *stamp));
            }
        }
        if old.len() <= LEFT && old.iter().all(|(_, stamp)| stamp % 2 == 0) {
            return Ok(());
        }
        let removals = next_removal(stamps.get(REMOVALS).copied());
        let removal = (removals, REMOVALS, Some(removals), user.as_str());
        // No value: a tombstone.
        let removed = old.into_iter().map(|(life, stamp)| (stamp, life, None, user.as_str()));
        let values: Vec<(i64, &str, Option<i64>, &str)> = std::iter::once(removal).chain(removed).collect();
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        values.iter().for_each(|_| batch.append_statement(self.cql.stamp.clone()));
        self.session.batch(&batch, values).await.map_err(CqlError::new)?;
        Ok(())
    }
}

/// Even, so that it is clean; larger than the one before, and than what anybody else makes of the same one.
fn next_removal(before: Option<i64>) -> i64 {
    let now = signed(now_millis()) << 16 | i64::from(rand::random::<u16>());
    now.max(before.unwrap_or_default() + 1) / 2 * 2 + 2
}
