//! Whether the tables beside the logs hold what follows from their rows, and nothing else.

use super::{Check, LogSeen};
use crate::{
    model::{Audience, ConvId, Row, Seq},
    store::{
        StoreResult,
        embedded::{
            beside::{Beside, Of, decode_expiring, encode_fold, split_fold},
            keys, rows,
            rows::StoredMessage,
            tables::unavailable,
        },
    },
};

impl<P: FnMut(u64)> Check<'_, P> {
    /// A row of a log that refers to something: `value` is how it is stored.
    pub(super) fn beside(&mut self, row: &Row, value: &[u8], seen: &LogSeen) -> StoreResult<()> {
        let Some(refs) = row.refs.as_deref() else { return Ok(()) };
        let (conv, seq) = (&seen.conv, row.seq);
        let of = Of { conv, seq, kind: row.kind, sender: &row.sender, body: &row.body, refs };
        let audience = Audience::of(conv);
        let Beside { fold, mentions, expiring } = Beside::of(&of, |user| {
            Ok(audience.as_ref().map_or_else(|| seen.room.has(user), |audience| audience.contains(user)))
        })?;
        let (kept, newer) = match fold {
            Some(key) => {
                let kept = self.tables.folds.get(&key).map_err(unavailable)?;
                let newer = kept.as_ref().map(|kept| split_fold(kept).map(|(kept, _)| kept > seq)).transpose()?;
                (kept.is_some_and(|kept| kept == encode_fold(seq, &value.into())), newer == Some(true))
            }
            None => (true, false),
        };
        if !kept && !newer {
            self.report.problem(format!("{conv}: what {seq} makes of a message is not kept"));
        }
        // With holes nobody knows who was in a room.
        if !seen.room.has_holes {
            for (key, value) in mentions {
                if self.tables.mentions.get(&key).map_err(unavailable)?.as_ref() != Some(&value) {
                    self.report.problem(format!("{conv}: a mention by {seq} is not kept"));
                }
            }
        }
        if let Some((key, value)) = expiring
            && self.tables.expiring.get(&key).map_err(unavailable)?.as_ref() != Some(&value)
        {
            self.report.problem(format!("{conv}: that {seq} expires is not kept"));
        }
        Ok(())
    }

    /// What no row of a log makes.
    pub(super) fn tables_beside(&mut self) -> StoreResult<()> {
        let tables = self.tables;
        self.each(&tables.folds, |check, key, value| {
            let (conv, re) = keys::fold_of(key).ok_or_else(rows::unreadable)?;
            let (seq, row) = split_fold(value)?;
            match check.stored(&conv, seq)? {
                Some(stored) if stored == row => {}
                None if check.tables.floor > 0 => {}
                _ => check.report.problem(format!("{conv}: what was made of {re} is not what stands at {seq}")),
            }
            Ok(())
        })?;
        self.each(&tables.mentions, |check, key, value| {
            rows::decode_seq(value)?;
            let (user, conv, seq) = keys::mention_of(key).ok_or_else(rows::unreadable)?;
            check.refers(&conv, seq, "a mention", |row| {
                row.refs.as_ref().is_some_and(|refs| refs.mentions.contains(&user))
            })
        })?;
        self.each(&tables.expiring, |check, key, value| {
            let (expires, _) = decode_expiring(value)?;
            let (conv, seq) = keys::message_of(key).ok_or_else(rows::unreadable)?;
            check.refers(&conv, seq, "a message that expires", |row| {
                row.refs.as_ref().is_some_and(|refs| refs.expires == Some(expires))
            })
        })
    }

    fn refers(&mut self, conv: &ConvId, seq: Seq, what: &str, does: impl Fn(&Row) -> bool) -> StoreResult<()> {
        let fits = match self.stored(conv, seq)? {
            Some(stored) => does(&StoredMessage::split(&stored)?.to_row(seq)?),
            None => self.tables.floor > 0,
        };
        if !fits {
            self.report.problem(format!("{conv}: {what} at {seq} does not follow from its row"));
        }
        Ok(())
    }

    fn stored(&self, conv: &ConvId, seq: Seq) -> StoreResult<Option<fjall::Slice>> {
        self.tables.messages.get(keys::message(conv, seq)).map_err(unavailable)
    }
}
