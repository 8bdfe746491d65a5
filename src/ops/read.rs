//! `read`: the caller's read mark is raised, and both sides are told.

use super::{Caller, Ops, counted, fault, receipts, rooms};
use crate::{
    metrics::StoreOp,
    model::{Parties, ReadMark},
    overload::{Class, cost},
    protocol::{Answer, ErrorCode, Outcome, Refused, ask},
    store::CountsAt,
};

/// A mark above the top is an error and changes nothing (R7). What the session was handed exists: then only what was counted
/// there is read, one row, and nothing where this node knows it.
pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::Read) -> Outcome {
    match ask.conv.parties() {
        Parties::Room(room) => rooms::member(ops, caller, &room).await.map(drop)?,
        Parties::Direct(..) => caller.belongs_to(&ask.conv)?,
    }
    let turn = ops.turn(Class::Fill, cost(2, 0)).await?;
    let done = mark(ops, caller, ask).await;
    turn.end(cost(2, 0), !matches!(&done, Err(refused) if refused.code == ErrorCode::Unavailable));
    done
}

async fn mark(ops: &Ops, caller: &Caller, ask: ask::Read) -> Outcome {
    let ask::Read { conv, seq, handed } = ask;
    let found = counted(&ops.metrics, StoreOp::Counts, ops.store.logs.counts_at(&conv, seq, handed).await);
    let counts = match found.map_err(|error| fault::refused(&error))? {
        CountsAt::Known(counts) => counts,
        CountsAt::AboveTop(top) => {
            let text = format!("seq: {seq} is above the top of {conv}, which is {top}");
            return Err(Refused::new(ErrorCode::BadAck, text));
        }
    };
    let raised = ops.store.marks.raise_read_mark(caller.name(), &conv, ReadMark { seq, counts }).await;
    counted(&ops.metrics, StoreOp::RaiseReadMark, raised).map_err(|error| fault::refused(&error))?;
    receipts::read(ops, caller.name(), &conv, seq);
    Ok(Answer::Done)
}
