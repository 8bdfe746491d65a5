//! `readers`: which members have read a room up to a seq, by their read marks. Asked for where somebody wants to know; nobody
//! is told of marks in rooms otherwise.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::{Caller, Ops, about::none_at, counted, fault},
    member,
    paged::Paged,
};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Seq, UserId, room::Member},
    overload::{Class, cost},
    protocol::{
        Answer, Outcome, Refused,
        ask::{Reader, Readers, ReadersPage},
    },
    store::StoreResult,
};

/// Marks that are read at the same time.
const MARKS: usize = 8;

pub(in crate::ops) async fn readers(ops: &Ops, caller: &Caller, ask: Readers) -> Outcome {
    let seen = member(ops, caller, &ask.room).await?;
    let first = seen.member.readable_after(ask.seq.saturating_sub(1), seen.row.room.reach);
    if first != Some(ask.seq) || ask.seq > seen.row.head {
        return Err(none_at("seq", ask.seq));
    }
    let found = async {
        let turn = ops.turn(Class::Listing, cost(2 * ask.limit, 0)).await?;
        let mut scanned = 0;
        let found = some(ops, &ask, &mut scanned).await;
        turn.end(cost(1 + 2 * scanned, 0), fault::is_served(&found));
        Ok::<_, Refused>(found)
    };
    let found = counted(&ops.metrics, StoreOp::Rooms, caller.while_there(found).await??);
    let (items, next) = found.map_err(|error| fault::refused(&error))?;
    Ok(Answer::Readers(ReadersPage { reference: None, room: ask.room, seq: ask.seq, items, next }))
}

/// Those for whom that seq was written and who have read it; others are passed over.
async fn some(ops: &Ops, ask: &Readers, scanned: &mut usize) -> StoreResult<(Vec<Reader>, Option<UserId>)> {
    let conv = ConvId::room(&ask.room);
    let mut paged = Paged::new(ask.after.clone(), ask.limit);
    while let Some(wanted) = paged.wanted() {
        let page = ops.store.rooms.members(&ask.room, paged.after(), wanted).await?;
        *scanned += page.len();
        paged.on_read(&page);
        let there = page.into_iter().filter(|(_, member)| has(member, ask.seq));
        let marks = there.map(|(user, _)| mark(ops, &conv, user));
        let read: Vec<Reader> = stream::iter(marks).buffered(MARKS).try_collect().await?;
        paged.show(read.into_iter().filter(|reader| reader.read >= ask.seq));
    }
    Ok(paged.end())
}

fn has(member: &Member, seq: Seq) -> bool {
    member.role().is_some() && member.spans.hold(seq)
}

async fn mark(ops: &Ops, conv: &ConvId, user: UserId) -> StoreResult<Reader> {
    let read = ops.store.marks.read_mark(&user, conv).await?;
    Ok(Reader { user, read })
}
