//! What stood beside the logs of a damaged store: made again from their rows, and added from its own where the rows are lost.

use fjall::{Keyspace, Slice};

use super::{Copy, EXPIRING, End, FOLDS, MENTIONS};
use crate::{
    model::{Audience, Row},
    store::{
        StoreError,
        embedded::{
            beside::{Beside, Of, encode_fold, split_fold},
            scan,
            scan::Unreadable,
        },
    },
};

impl Copy {
    /// What follows from a row; `end` is its log up to it.
    pub(super) fn beside(&mut self, row: &Row, value: &Slice, end: &End) -> Result<(), StoreError> {
        let Some(refs) = row.refs.as_deref() else { return Ok(()) };
        let audience = Audience::of(&end.conv);
        let of = Of { conv: &end.conv, seq: row.seq, kind: row.kind, sender: &row.sender, body: &row.body, refs };
        let Beside { fold, mentions, expiring } = Beside::of(&of, |user| {
            Ok(audience.as_ref().map_or_else(|| end.fold.has(user), |audience| audience.contains(user)))
        })?;
        if let Some(key) = fold {
            // One batch holds a key once.
            if !self.pending.insert(key.clone()) {
                self.write()?;
                self.pending.insert(key.clone());
            }
            self.put(FOLDS, key, encode_fold(row.seq, value))?;
        }
        for (key, value) in mentions {
            self.put(MENTIONS, key, value)?;
        }
        expiring.map_or(Ok(()), |(key, value)| self.put(EXPIRING, key, value))
    }

    /// Adds what its own rows know; the logs were read before.
    pub(super) fn all_beside(&mut self, tables: [&Keyspace; 3]) -> Result<[Unreadable; 3], StoreError> {
        let [folds, mentions, expiring] = tables;
        self.write()?;
        let of_folds = scan::each_row(folds, |key, value| {
            let (seq, _) = split_fold(&value)?;
            self.highest = self.highest.max(seq);
            let known = self.to.tables[FOLDS].get(&key).map_err(StoreError::unavailable)?;
            let known = known.map(|known| split_fold(&known).map(|(known, _)| known)).transpose()?;
            if known.is_none_or(|known| known < seq) { self.put(FOLDS, key, value) } else { Ok(()) }
        })?;
        let of_mentions = scan::each_row(mentions, |key, value| self.put(MENTIONS, key, value))?;
        let of_expiring = scan::each_row(expiring, |key, value| self.put(EXPIRING, key, value))?;
        Ok([of_folds, of_mentions, of_expiring])
    }
}
