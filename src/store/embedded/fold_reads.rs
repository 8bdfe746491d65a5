//! What the store answers of folds without writing: [`crate::store::Folds`], on blocking threads, each on one snapshot. And
//! the newest message of a log, as lists show it.

use fjall::{Readable as _, Snapshot};

use super::{
    EmbeddedStore,
    beside::{decode_expiring, decode_fold},
    keys,
    rows::{self, StoredMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{ConvId, FoldedPart, Kind, Millis, Row, Seq, UserId},
    store::{Behind, Folds, Preview, StoreFuture, StoreResult},
};

/// Most users that are named in what was made of one page.
const NAMES: usize = 2_500;
/// Rows below a head that are looked at for a message.
const BELOW_HEAD: usize = 256;

impl Folds for EmbeddedStore {
    fn folded<'a>(&'a self, conv: &'a ConvId, from: Seq, upto: Seq) -> StoreFuture<'a, FoldedPart> {
        let conv = conv.clone();
        Box::pin(self.read(move |tables| folded(tables, &tables.db.snapshot(), &conv, from, upto)))
    }

    fn behind<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, after: Seq, now: Millis) -> StoreFuture<'a, Behind> {
        let (user, conv) = (user.clone(), conv.clone());
        Box::pin(self.read(move |tables| behind(tables, &user, &conv, after, now)))
    }
}

fn folded(tables: &Tables, view: &Snapshot, conv: &ConvId, from: Seq, upto: Seq) -> StoreResult<FoldedPart> {
    let (mut part, mut names) = (FoldedPart::default(), NAMES);
    for item in view.range(&tables.folds, keys::messages(conv, from, upto.saturating_add(1))) {
        let (key, value) = item.into_inner().map_err(unavailable)?;
        let (_, re) = keys::fold_of(&key).ok_or_else(rows::unreadable)?;
        part.scanned += 1;
        part.of.entry(re).or_default().take(&decode_fold(&value)?, &mut names);
    }
    part.of.retain(|_, folded| !folded.is_empty());
    Ok(part)
}

fn behind(tables: &Tables, user: &UserId, conv: &ConvId, after: Seq, now: Millis) -> StoreResult<Behind> {
    let (view, mut behind) = (tables.db.snapshot(), Behind::default());
    for item in view.range(&tables.mentions, keys::mentions(user, conv, after)).rev().take(Behind::LOOK) {
        let (_, value) = item.into_inner().map_err(unavailable)?;
        let expires = rows::decode_seq(&value)?;
        behind.mentions += u64::from(expires == 0 || expires > now);
    }
    let from = after.saturating_add(1);
    for item in view.range(&tables.expiring, keys::messages(conv, from, Seq::MAX)).rev().take(Behind::LOOK) {
        let (_, value) = item.into_inner().map_err(unavailable)?;
        let (expires, sender) = decode_expiring(&value)?;
        // In a room one's own messages are counted as unread, too.
        behind.expired += u64::from(expires <= now && (conv.is_room() || sender != *user));
    }
    Ok(behind)
}

/// The last row up to `head` that is a message or an event, as it was folded.
pub(super) fn newest(tables: &Tables, view: &Snapshot, conv: &ConvId, head: Seq) -> StoreResult<Option<Preview>> {
    let found = view.range(&tables.messages, keys::messages(conv, 0, head.saturating_add(1)));
    for item in found.rev().take(BELOW_HEAD) {
        let (key, value) = item.into_inner().map_err(unavailable)?;
        let row = StoredMessage::split(&value)?.to_row(keys::seq_of(&key).ok_or_else(rows::unreadable)?)?;
        if is_shown(&row) {
            return as_folded(tables, view, conv, row).map(Some);
        }
    }
    Ok(None)
}

/// The same of a log whose last row was read.
pub(super) fn newest_of(tables: &Tables, view: &Snapshot, conv: &ConvId, last: Row) -> StoreResult<Option<Preview>> {
    if is_shown(&last) { as_folded(tables, view, conv, last).map(Some) } else { newest(tables, view, conv, last.seq) }
}

fn is_shown(row: &Row) -> bool {
    matches!(row.kind, Kind::Message | Kind::Event)
}

fn as_folded(tables: &Tables, view: &Snapshot, conv: &ConvId, row: Row) -> StoreResult<Preview> {
    let made = folded(tables, view, conv, row.seq, row.seq)?.of.remove(&row.seq);
    Ok(Preview { folded: made.unwrap_or_default(), ..Preview::from(row) })
}
