//! `history` of a room: the page, out of the parts of its log that the caller may read.

use super::{
    super::{Caller, Ops, fault, history::PAGE_BYTES},
    look,
};
use crate::{
    model::{
        RoomId, Row, Seq,
        room::{Denied, Member, Reach},
    },
    protocol::{
        Message, Refused,
        ask::{self, HistoryFrom},
    },
    store::{Span, StoreError, StoreResult},
};

/// What a caller may read of a room's log.
pub(in crate::ops) struct Part {
    reach: Reach,
    member: Member,
}

/// Finds out which part that is.
///
/// # Errors
/// `no_such_room`; `not_member` for those who never were one.
pub(in crate::ops) async fn part(ops: &Ops, caller: &Caller, room: &RoomId) -> Result<Part, Refused> {
    let seen = caller.while_there(look(ops, room, caller.name())).await??;
    let part = Part { reach: seen.row.room.reach, member: seen.member };
    if part.after(0).is_none() {
        return Err(fault::refused(&StoreError::Denied(Denied::NotMember)));
    }
    Ok(part)
}

impl Part {
    /// The first seq after `after` that may be read, if the log goes so far.
    fn after(&self, after: Seq) -> Option<Seq> {
        self.member.readable_after(after, self.reach)
    }

    /// The last one before `before`.
    fn before(&self, before: Seq) -> Option<Seq> {
        self.member.readable_before(before, self.reach)
    }

    /// The first seq of the part that `seq` lies in; none where all of the log is one.
    fn start(&self, seq: Seq) -> Option<Seq> {
        if self.reach == Reach::All && self.member.role().is_some() { None } else { self.member.spans.start_of(seq) }
    }

    fn holds(&self, seq: Seq) -> bool {
        self.after(seq.saturating_sub(1)) == Some(seq)
    }
}

/// Rows that may be read, and whether there are more in the direction asked for.
pub(in crate::ops) async fn perform(ops: &Ops, ask: &ask::History, part: &Part) -> StoreResult<(Vec<Message>, bool)> {
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
