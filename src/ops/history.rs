//! `history`: a page of a log, oldest first.

use super::{
    Caller, Ops, counted, fault,
    fault::is_served,
    rooms::{self, Part},
};
use crate::{
    metrics::StoreOp,
    model::{Parties, Row, Seq},
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
        Parties::Room(room) => rooms::part(ops, caller, &room).await?,
        Parties::Direct(..) => {
            caller.belongs_to(&ask.conv)?;
            Part::Whole
        }
    };
    let op = match ask.from {
        HistoryFrom::Before(_) => StoreOp::ReadBefore,
        HistoryFrom::After(_) | HistoryFrom::Around(_) => StoreOp::ReadAfter,
    };
    let found = caller.while_there(in_turn(ops, &ask, &part)).await??;
    match counted(&ops.metrics, op, found) {
        Ok((messages, more)) => Ok(Answer::History(HistoryPage { reference: None, conv: ask.conv, messages, more })),
        Err(error) => Err(fault::refused(&error)),
    }
}

async fn in_turn(ops: &Ops, ask: &ask::History, part: &Part) -> Result<StoreResult<Page>, Refused> {
    let turn = ops.turn(Class::Listing, cost(ask.limit, 0)).await?;
    let found = read(ops, ask, part).await;
    let bodies = |messages: &[Message]| messages.iter().map(|message| message.body.size()).sum();
    let used = found.as_ref().map_or(0, |(messages, _)| cost(1 + messages.len(), bodies(messages)));
    turn.end(used, is_served(&found));
    Ok(found)
}

/// Rows that may be read, and whether there are more in the direction asked for.
async fn read(ops: &Ops, ask: &ask::History, part: &Part) -> StoreResult<Page> {
    let span = Span { rows: ask.limit, bytes: PAGE_BYTES };
    let (rows, more) = match ask.from {
        HistoryFrom::Around(seq) => {
            let (seq, older) = (seq.max(1), span.rows / 2);
            let half = |rows| Span { rows, bytes: PAGE_BYTES / 2 };
            let mut rows = match older {
                0 => Vec::new(),
                older => backward(ops, ask, part, seq, half(older)).await?,
            };
            rows.extend(forward(ops, ask, part, seq - 1, half(span.rows - older)).await?);
            let more = goes_on(ops, ask, part, &rows).await?;
            (rows, more)
        }
        HistoryFrom::Before(before) => {
            let rows = backward(ops, ask, part, before, span).await?;
            let more = rows.first().is_some_and(|row| part.before(row.seq).is_some());
            (rows, more)
        }
        HistoryFrom::After(after) => {
            let rows = forward(ops, ask, part, after, span).await?;
            let more = goes_on(ops, ask, part, &rows).await?;
            (rows, more)
        }
    };
    Ok((rows.into_iter().map(|row| Message::of(&ask.conv, row)).collect(), more))
}

async fn goes_on(ops: &Ops, ask: &ask::History, part: &Part, rows: &[Row]) -> StoreResult<bool> {
    let Some(next) = rows.last().and_then(|row| part.after(row.seq)) else { return Ok(false) };
    Ok(next <= ops.store.logs.top(&ask.conv).await?)
}

/// The rows of the part that comes next after `after`; no more than one part, so a page may be small and have more.
async fn forward(ops: &Ops, ask: &ask::History, part: &Part, after: Seq, span: Span) -> StoreResult<Vec<Row>> {
    let Some(first) = part.after(after) else { return Ok(Vec::new()) };
    let rows = ops.store.logs.read_after(&ask.conv, first - 1, span).await?;
    Ok(rows.into_iter().take_while(|row| part.holds(row.seq)).collect())
}

/// The same backward, oldest first.
async fn backward(ops: &Ops, ask: &ask::History, part: &Part, before: Seq, span: Span) -> StoreResult<Vec<Row>> {
    let mut last = part.before(before);
    while let Some(seq) = last {
        let mut rows = ops.store.logs.read_before(&ask.conv, seq + 1, span).await?;
        let kept = rows.iter().rposition(|row| !part.holds(row.seq)).map_or(0, |at| at + 1);
        rows.drain(..kept);
        if !rows.is_empty() {
            return Ok(rows);
        }
        // The log does not go so far: what stands in the part before it. There are a handful of parts.
        last = part.start(seq).and_then(|start| part.before(start));
    }
    Ok(Vec::new())
}
