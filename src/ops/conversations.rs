//! `conversations`: a page of the caller's conversations, most recent first, with unread counts and the other side's
//! marks.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Millis, Seq, UserId, now_millis},
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Message, Outcome, Refused,
        ask::{self, Conversation, ConversationsPage, PeerMarks},
    },
    store::{Behind, InboxDetail, InboxRow, Preview, Store, StoreResult, UserMarks},
};

/// Inbox rows read at once, of which nothing but id and time is taken: almost every inbox.
const PAGE: usize = 8_192;
/// How many of them a list is taken to read before it is read.
const USUAL: usize = 1_000;
/// Rows read for each conversation of the page: the user's, the other side's, and what is behind the mark.
const READS: usize = 3;
/// The other sides' rows that are read at the same time.
const AT_ONCE: usize = 8;

/// Reads the page.
pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::Conversations) -> Outcome {
    let Ok(after) = ask.after.as_deref().map(parse_place).transpose() else {
        return Err(Refused::new(ErrorCode::BadFrame, "after: must be the `next` of an earlier answer"));
    };
    let found = caller.while_there(in_turn(ops, caller.name(), after, ask.limit)).await??;
    match counted(&ops.metrics, StoreOp::Inbox, found) {
        Ok((items, next)) => Ok(Answer::Conversations(ConversationsPage { reference: None, items, next })),
        Err(error) => Err(fault::refused(&error)),
    }
}

/// A place in the list: the time of the last message, then the id. Opaque to clients.
type Place = (Millis, ConvId);

fn parse_place(text: &str) -> Result<Place, ()> {
    let (ts, conv) = text.split_once(' ').ok_or(())?;
    Ok((ts.parse().map_err(drop)?, ConvId::new(conv).map_err(drop)?))
}

type Listed = StoreResult<(Vec<Conversation>, Option<String>)>;

async fn in_turn(ops: &Ops, user: &UserId, after: Option<Place>, limit: usize) -> Result<Listed, Refused> {
    let turn = ops.turn(Class::Listing, cost(USUAL + limit * READS, 0)).await?;
    let mut scanned = 0;
    let found = list(ops, user, after, limit, &mut scanned).await;
    let described = found.as_ref().map_or(0, |(items, _)| items.len() * READS);
    turn.end(cost(scanned + described, 0), is_served(&found));
    Ok(found)
}

async fn list(ops: &Ops, user: &UserId, after: Option<Place>, limit: usize, scanned: &mut usize) -> Listed {
    let mut heads = all_heads(ops, user).await?;
    *scanned = heads.len();
    heads.sort_unstable_by(|one, other| (other.ts, &other.conv).cmp(&(one.ts, &one.conv)));
    let start = after.map_or(0, |place| heads.partition_point(|head| (head.ts, &head.conv) >= (place.0, &place.1)));
    let page = &heads[start..heads.len().min(start + limit)];
    let next = page.last().filter(|_| heads.len() > start + limit).map(|last| format!("{} {}", last.ts, last.conv));
    let convs: Vec<ConvId> = page.iter().map(|row| row.conv.clone()).collect();
    let details = ops.store.inbox.details(user, &convs).await?;
    let rows = stream::iter(details.into_iter().map(|detail| describe(ops, user, detail)));
    Ok((rows.buffered(AT_ONCE).try_collect().await?, next))
}

async fn all_heads(ops: &Ops, user: &UserId) -> StoreResult<Vec<InboxRow>> {
    let mut heads = Vec::new();
    let mut after = None;
    loop {
        let page = ops.store.inbox.conversations(user, after.as_ref(), PAGE).await?;
        heads.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(heads),
        }
    }
}

/// What a list shows of the newest message.
pub(super) fn shown(conv: &ConvId, last: Preview) -> Message {
    let Preview { seq, ts, kind, sender, cid, body, refs, folded } = last;
    let message = Message { kind, cid: Some(cid), ..Message::new(conv.clone(), seq, sender, ts, body) };
    message.with_refs(refs, now_millis()).folded(folded)
}

/// Only the other side's marks are read: the user's own row has everything else.
async fn describe(ops: &Ops, user: &UserId, detail: InboxDetail) -> StoreResult<Conversation> {
    let InboxDetail { conv, head, ts, last, counts, read, noted } = detail;
    let peer = match conv.peer_of(user) {
        Some(peer) => {
            let UserMarks { delivered, read, .. } = ops.store.marks.of_user(&peer, &conv).await?;
            Some(PeerMarks { delivered, read })
        }
        None => None,
    };
    let last = last.map(|last| shown(&conv, last));
    let behind = behind(&ops.store, user, &conv, (read.seq, noted)).await?;
    let unread = counts.unread(read.counts, &conv, user).saturating_sub(behind.expired);
    Ok(Conversation { conv, head, ts, read: read.seq, unread, mentions: behind.mentions, last, peer })
}

/// What is behind a read mark, asked for only where anything is noted above it.
pub(super) async fn behind(
    store: &Store,
    user: &UserId,
    conv: &ConvId,
    (read, noted): (Seq, Seq),
) -> StoreResult<Behind> {
    if noted <= read {
        return Ok(Behind::default());
    }
    store.folds.behind(user, conv, read, now_millis()).await
}
