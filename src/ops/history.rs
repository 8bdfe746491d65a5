//! `history`: a page of a log, oldest first.

use super::{Caller, Ops, about::readable, counted, fault, fault::is_served, rooms::Part};
use crate::{
    metrics::StoreOp,
    model::{Body, FoldedPart, Kind, Row, Seq, now_millis},
    overload::{Class, cost},
    protocol::{
        Answer, Message, Outcome, Refused,
        ask::{self, HistoryFrom, HistoryPage},
    },
    store::{Span, StoreResult},
};

/// Bytes of bodies in one page: what an answer may hold in memory.
pub(super) const PAGE_BYTES: usize = 256 << 10;

/// Slices of a log that are read for a folded page until one holds something to show.
const SLICES: usize = 8;

/// A page, and where the next one starts if there is one.
struct Page {
    messages: Vec<Message>,
    next: Option<Seq>,
    /// Rows that were read.
    scanned: usize,
}

/// Reads the page, and whether there is more in the direction asked for.
pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::History) -> Outcome {
    let part = readable(ops, caller, &ask.conv).await?;
    let op = match ask.from {
        HistoryFrom::Before(_) => StoreOp::ReadBefore,
        HistoryFrom::After(_) | HistoryFrom::Around(_) => StoreOp::ReadAfter,
    };
    let found = caller.while_there(in_turn(ops, &ask, &part)).await??;
    let Page { messages, next, .. } = counted(&ops.metrics, op, found).map_err(|error| fault::refused(&error))?;
    let (conv, more) = (ask.conv, next.is_some());
    Ok(Answer::History(HistoryPage { reference: None, conv, messages, more, next }))
}

async fn in_turn(ops: &Ops, ask: &ask::History, part: &Part) -> Result<StoreResult<Page>, Refused> {
    let turn = ops.turn(Class::Listing, cost(ask.limit, 0)).await?;
    let found = page(ops, ask, part).await;
    let bodies = |page: &Page| page.messages.iter().filter_map(|message| message.body.as_ref()).map(Body::size).sum();
    turn.end(found.as_ref().map_or(0, |page| cost(1 + page.scanned, bodies(page))), is_served(&found));
    Ok(found)
}

/// Rows that may be read, as they are or folded. In a folded page edits, deletions and reactions are in the messages that
/// they are about and nowhere else: so it may be smaller than asked for, and where whole slices of the log hold nothing else
/// the next ones are read, some of them.
async fn page(ops: &Ops, ask: &ask::History, part: &Part) -> StoreResult<Page> {
    let (mut from, mut scanned, mut slices) = (ask.from, 0, 0);
    loop {
        let (mut rows, next) = read(ops, ask, from, part).await?;
        (scanned, slices) = (scanned + rows.len(), slices + 1);
        if !ask.raw {
            rows.retain(|row| matches!(row.kind, Kind::Message | Kind::Event));
        }
        match next {
            Some(next) if rows.is_empty() && slices < SLICES => from = further(from, next),
            _ => return shown(ops, ask, rows, next, scanned).await,
        }
    }
}

fn further(from: HistoryFrom, next: Seq) -> HistoryFrom {
    match from {
        HistoryFrom::Before(_) => HistoryFrom::Before(next),
        HistoryFrom::After(_) | HistoryFrom::Around(_) => HistoryFrom::After(next),
    }
}

/// What a client sees of the rows: what was made of all of them is one slice. Texts may have grown by edits, so the page ends
/// where they are too large, like one of rows.
async fn shown(
    ops: &Ops,
    ask: &ask::History,
    rows: Vec<Row>,
    mut next: Option<Seq>,
    mut scanned: usize,
) -> StoreResult<Page> {
    let mut made = FoldedPart::default();
    if let (false, Some(first), Some(last)) = (ask.raw, rows.first(), rows.last()) {
        made = ops.store.folds.folded(&ask.conv, first.seq, last.seq).await?;
        scanned += made.scanned;
    }
    let now = now_millis();
    let message = |row: Row| {
        let folded = made.of.remove(&row.seq).unwrap_or_default();
        Message::of(&ask.conv, row, now).folded(folded)
    };
    let mut messages: Vec<Message> = rows.into_iter().map(message).collect();
    let mut bytes = 0;
    let mut fits = |message: &Message| {
        let before = bytes;
        bytes += message.body.as_ref().map_or(0, Body::size);
        before < PAGE_BYTES
    };
    match ask.from {
        HistoryFrom::Before(_) => {
            let kept = messages.iter().rev().take_while(|message| fits(message)).count();
            if kept < messages.len() {
                messages.drain(..messages.len() - kept);
                next = messages.first().map(|message| message.seq);
            }
        }
        HistoryFrom::After(_) | HistoryFrom::Around(_) => {
            let kept = messages.iter().take_while(|message| fits(message)).count();
            if kept < messages.len() {
                messages.truncate(kept);
                next = messages.last().map(|message| message.seq);
            }
        }
    }
    Ok(Page { messages, next, scanned })
}

/// Rows that may be read, and where those start that follow in the direction asked for.
async fn read(ops: &Ops, ask: &ask::History, from: HistoryFrom, part: &Part) -> StoreResult<(Vec<Row>, Option<Seq>)> {
    let span = Span { rows: ask.limit, bytes: PAGE_BYTES };
    Ok(match from {
        HistoryFrom::Around(seq) => {
            let (seq, older) = (seq.max(1), span.rows / 2);
            let half = |rows| Span { rows, bytes: PAGE_BYTES / 2 };
            let mut rows = match older {
                0 => Vec::new(),
                older => backward(ops, ask, part, seq, half(older)).await?,
            };
            rows.extend(forward(ops, ask, part, seq - 1, half(span.rows - older)).await?);
            let next = goes_on(ops, ask, part, &rows).await?;
            (rows, next)
        }
        HistoryFrom::Before(before) => {
            let rows = backward(ops, ask, part, before, span).await?;
            let next = rows.first().map(|row| row.seq).filter(|seq| part.before(*seq).is_some());
            (rows, next)
        }
        HistoryFrom::After(after) => {
            let rows = forward(ops, ask, part, after, span).await?;
            let next = goes_on(ops, ask, part, &rows).await?;
            (rows, next)
        }
    })
}

async fn goes_on(ops: &Ops, ask: &ask::History, part: &Part, rows: &[Row]) -> StoreResult<Option<Seq>> {
    let Some(last) = rows.last().map(|row| row.seq) else { return Ok(None) };
    let Some(following) = part.after(last) else { return Ok(None) };
    Ok((following <= ops.store.logs.top(&ask.conv).await?).then_some(last))
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
