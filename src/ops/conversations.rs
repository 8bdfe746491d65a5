//! `conversations`: a page of the caller's conversations, most recent first, with unread counts and the other side's
//! marks.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    model::{ConvId, MAX_SEQ, Millis, UserId},
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Message, Outcome, Refused,
        ask::{self, Conversation, ConversationsPage, PeerMarks},
    },
    store::{InboxRow, Span, StoreResult},
};

/// Inbox rows read at once.
const PAGE: usize = 1_000;
/// Rows read for each conversation of the page.
const READS: usize = 4;
/// Conversations of one page read at the same time.
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
    let turn = ops.turn(Class::Listing, cost(PAGE + limit * READS, 0)).await?;
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
    let page: Vec<InboxRow> = heads.drain(start..).take(limit + 1).collect();
    let more = page.len() > limit;
    let rows = stream::iter(page.into_iter().take(limit).map(|row| describe(ops, user, row)));
    let items: Vec<Conversation> = rows.buffered(AT_ONCE).try_collect().await?;
    let next = items.last().filter(|_| more).map(|last| format!("{} {}", last.ts, last.conv));
    Ok((items, next))
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

async fn describe(ops: &Ops, user: &UserId, row: InboxRow) -> StoreResult<Conversation> {
    let InboxRow { conv, head, ts } = row;
    let marks = &ops.store.marks;
    let read = marks.read_mark(user, &conv).await?;
    let last = ops.store.logs.read_before(&conv, MAX_SEQ, Span { rows: 1, bytes: usize::MAX }).await?.pop();
    let peer = match conv.peer_of(user) {
        Some(peer) => Some(PeerMarks {
            delivered: marks.delivered(&peer, &conv).await?,
            read: marks.read_mark(&peer, &conv).await?,
        }),
        None => None,
    };
    let last = last.map(|row| Message::of(&conv, row));
    Ok(Conversation { conv, head, ts, read, unread: head.saturating_sub(read), last, peer })
}
