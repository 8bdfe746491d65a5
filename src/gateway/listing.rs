//! The list of a user's conversations, most recent first, with unread counts and the other side's marks.
//!
//! Called by [`super::requests`].

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Gateway,
    live::message_of,
    requests::{code_of, counted},
};
use crate::{
    metrics::StoreOp,
    model::{ConvId, MAX_SEQ, Millis, UserId},
    protocol::{
        ErrorCode, ServerFrame,
        server::{Conversation, PeerMarks},
    },
    session::refusal,
    store::{InboxRow, Span, StoreResult},
};

/// Heads read at once.
const PAGE: usize = 1_000;
/// Conversations of one page read at the same time.
const AT_ONCE: usize = 8;

/// Answers `conversations`.
pub async fn conversations(
    gateway: &Gateway,
    user: &UserId,
    reference: Option<u64>,
    after: Option<String>,
    limit: usize,
) -> ServerFrame {
    let after = match after.as_deref().map(parse_place).transpose() {
        Ok(after) => after,
        Err(()) => {
            return refusal(reference, ErrorCode::BadFrame, "after: must be the `next` of an earlier answer");
        }
    };
    match counted(&gateway.metrics, StoreOp::Inbox, list(gateway, user, after, limit).await) {
        Ok((items, next)) => ServerFrame::Conversations { reference, items, next },
        Err(error) => refusal(reference, code_of(&error), error.to_string()),
    }
}

/// A place in the list: the time of the last message, then the id. Opaque to clients.
type Place = (Millis, ConvId);

fn parse_place(text: &str) -> Result<Place, ()> {
    let (ts, conv) = text.split_once(' ').ok_or(())?;
    Ok((ts.parse().map_err(drop)?, ConvId::new(conv).map_err(drop)?))
}

async fn list(
    gateway: &Gateway,
    user: &UserId,
    after: Option<Place>,
    limit: usize,
) -> StoreResult<(Vec<Conversation>, Option<String>)> {
    let mut heads = all_heads(gateway, user).await?;
    heads.sort_unstable_by(|one, other| (other.ts, &other.conv).cmp(&(one.ts, &one.conv)));
    let start = after.map_or(0, |place| heads.partition_point(|head| (head.ts, &head.conv) >= (place.0, &place.1)));
    let page: Vec<InboxRow> = heads.drain(start..).take(limit + 1).collect();
    let more = page.len() > limit;
    let rows = stream::iter(page.into_iter().take(limit).map(|head| describe(gateway, user, head)));
    let items: Vec<Conversation> = rows.buffered(AT_ONCE).try_collect().await?;
    let next = items.last().filter(|_| more).map(|last| format!("{} {}", last.ts, last.conv));
    Ok((items, next))
}

async fn all_heads(gateway: &Gateway, user: &UserId) -> StoreResult<Vec<InboxRow>> {
    let mut heads = Vec::new();
    let mut after = None;
    loop {
        let page = gateway.store.inbox.conversations(user, after.as_ref(), PAGE).await?;
        heads.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(heads),
        }
    }
}

async fn describe(gateway: &Gateway, user: &UserId, head: InboxRow) -> StoreResult<Conversation> {
    let InboxRow { conv, head, ts } = head;
    let store = &gateway.store;
    let read = store.marks.read_mark(user, &conv).await?;
    let last = store.logs.read_before(&conv, MAX_SEQ, Span { rows: 1, bytes: usize::MAX }).await?.pop();
    let peer = match conv.peer_of(user) {
        Some(peer) => Some(PeerMarks {
            delivered: store.marks.delivered(&peer, &conv).await?,
            read: store.marks.read_mark(&peer, &conv).await?,
        }),
        None => None,
    };
    let last = last.map(|row| message_of(&conv, row));
    Ok(Conversation { conv, head, ts, read, unread: head.saturating_sub(read), last, peer })
}
