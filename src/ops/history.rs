//! `history`: a page of a log, oldest first.

use super::{
    Caller, Ops, counted, fault,
    fault::is_served,
    rooms::{self, Part},
};
use crate::{
    metrics::StoreOp,
    model::Parties,
    overload::{Class, cost},
    protocol::{
        Answer, Message, Outcome, Refused,
        ask::{self, HistoryFrom, HistoryPage},
    },
    store::{Span, StoreResult},
};

/// Bytes of bodies in one page: what an answer may hold in memory.
pub(super) const PAGE_BYTES: usize = 256 << 10;

/// Messages, and whether there are more in the direction asked for.
pub(super) type Page = (Vec<Message>, bool);

/// Reads the page, and whether there is more in the direction asked for.
pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::History) -> Outcome {
    let part = match ask.conv.parties() {
        Parties::Room(room) => Some(rooms::part(ops, caller, &room).await?),
        Parties::Direct(..) => {
            caller.belongs_to(&ask.conv)?;
            None
        }
    };
    let op = match ask.from {
        HistoryFrom::Before(_) => StoreOp::ReadBefore,
        HistoryFrom::After(_) | HistoryFrom::Around(_) => StoreOp::ReadAfter,
    };
    let found = caller.while_there(in_turn(ops, &ask, part.as_ref())).await??;
    match counted(&ops.metrics, op, found) {
        Ok((messages, more)) => Ok(Answer::History(HistoryPage { reference: None, conv: ask.conv, messages, more })),
        Err(error) => Err(fault::refused(&error)),
    }
}

async fn in_turn(ops: &Ops, ask: &ask::History, part: Option<&Part>) -> Result<StoreResult<Page>, Refused> {
    let turn = ops.turn(Class::Listing, cost(ask.limit, 0)).await?;
    let found = match part {
        Some(part) => rooms::history(ops, ask, part).await,
        None => read(ops, ask).await,
    };
    let bodies = |messages: &[Message]| messages.iter().map(|message| message.body.size()).sum();
    let used = found.as_ref().map_or(0, |(messages, _)| cost(1 + messages.len(), bodies(messages)));
    turn.end(used, is_served(&found));
    Ok(found)
}

async fn read(ops: &Ops, ask: &ask::History) -> StoreResult<Page> {
    let (logs, span) = (&ops.store.logs, Span { rows: ask.limit, bytes: PAGE_BYTES });
    let (rows, more) = match ask.from {
        HistoryFrom::Around(seq) => {
            let (seq, older) = (seq.max(1), span.rows / 2);
            let half = |rows| Span { rows, bytes: PAGE_BYTES / 2 };
            let mut rows = match older {
                0 => Vec::new(),
                older => logs.read_before(&ask.conv, seq, half(older)).await?,
            };
            rows.extend(logs.read_after(&ask.conv, seq - 1, half(span.rows - older)).await?);
            let top = logs.top(&ask.conv).await?;
            let more = rows.last().is_some_and(|row| row.seq < top);
            (rows, more)
        }
        HistoryFrom::Before(before) => {
            let rows = logs.read_before(&ask.conv, before, span).await?;
            let more = rows.first().is_some_and(|row| row.seq > 1);
            (rows, more)
        }
        HistoryFrom::After(after) => {
            let rows = logs.read_after(&ask.conv, after, span).await?;
            let top = logs.top(&ask.conv).await?;
            let more = rows.last().is_some_and(|row| row.seq < top);
            (rows, more)
        }
    };
    Ok((rows.into_iter().map(|row| Message::of(&ask.conv, row)).collect(), more))
}
