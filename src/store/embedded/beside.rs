//! The rows that stand beside a log, as they follow from one of its rows: of the folds, of the mentions, of what expires.
//! Called by [`super::commit`], which writes them along, by [`super::verify`], which compares, and by [`super::rescue`],
//! which makes them again.
//!
//! | table | key | value |
//! |---|---|---|
//! | folds | #conv conv 00 re kind [reaction 00 user] | seq, and the row as in the log: of several the last |
//! | mentions | #user user 00 conv 00 seq | when it expires, 0: never |
//! | expiring | #conv conv 00 seq | when it expires, and its sender |

use fjall::Slice;

use super::{
    keys,
    rows::{self, StoredMessage},
};
use crate::{
    model::{Body, ConvId, Kind, Millis, Reacting, Refs, Row, Seq, UserId},
    store::StoreResult,
};

/// What is read of a row of a log for this.
pub(super) struct Of<'a> {
    pub(super) conv: &'a ConvId,
    pub(super) seq: Seq,
    pub(super) kind: Kind,
    pub(super) sender: &'a UserId,
    pub(super) body: &'a Body,
    pub(super) refs: &'a Refs,
}

/// The rows that follow from one row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// Of the message that it is about.
    pub(super) fold: Option<Slice>,
    /// Of each user that it mentions: key and value.
    pub(super) mentions: Vec<(Slice, Slice)>,
    /// Key and value.
    pub(super) expiring: Option<(Slice, Slice)>,
}

impl Beside {
    /// Makes them. `hears` says who is in the conversation: nobody else is told of a mention.
    pub(super) fn of(row: &Of<'_>, mut hears: impl FnMut(&UserId) -> StoreResult<bool>) -> StoreResult<Self> {
        let Of { conv, seq, kind, sender, refs, .. } = *row;
        let mut beside = Self { fold: fold_key(row), ..Self::default() };
        if kind != Kind::Message {
            return Ok(beside);
        }
        let expires = refs.expires.unwrap_or(0);
        for user in refs.mentions.iter().filter(|user| *user != sender) {
            if hears(user)? {
                beside.mentions.push((keys::mention(user, conv, seq), rows::encode_seq(expires)));
            }
        }
        if expires > 0 {
            let value = [&expires.to_be_bytes()[..], sender.as_str().as_bytes()].concat();
            beside.expiring = Some((keys::message(conv, seq), Slice::from(value)));
        }
        Ok(beside)
    }
}

fn fold_key(row: &Of<'_>) -> Option<Slice> {
    let re = row.refs.re.as_ref()?.seq();
    let reacting = match row.kind {
        Kind::Reaction => Some(Reacting::of_row(row.kind, row.body)?),
        _ => None,
    };
    Some(keys::fold(row.conv, re, row.kind, reacting.as_ref().map(|reacting| (&reacting.reaction, row.sender))))
}

/// The value of a fold.
pub(super) fn encode_fold(seq: Seq, row: &Slice) -> Slice {
    Slice::from([&seq.to_be_bytes()[..], &row[..]].concat())
}

/// The row in the value of a fold.
pub(super) fn decode_fold(value: &[u8]) -> StoreResult<Row> {
    let (seq, row) = split_fold(value)?;
    StoredMessage::split(row)?.to_row(seq)
}

/// The same, not read any further.
pub(super) fn split_fold(value: &[u8]) -> StoreResult<(Seq, &[u8])> {
    let (seq, row) = value.split_first_chunk().ok_or_else(rows::unreadable)?;
    Ok((Seq::from_be_bytes(*seq), row))
}

/// When a message expires, and who wrote it.
pub(super) fn decode_expiring(value: &[u8]) -> StoreResult<(Millis, UserId)> {
    let (expires, sender) = value.split_first_chunk().ok_or_else(rows::unreadable)?;
    let sender = std::str::from_utf8(sender).ok().and_then(|name| UserId::new(name).ok());
    Ok((Millis::from_be_bytes(*expires), sender.ok_or_else(rows::unreadable)?))
}
