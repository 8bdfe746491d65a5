//! `read`: the caller's read mark is raised, and both sides are told.

use super::{Caller, Ops, counted, fault, receipts};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Seq},
    overload::{Class, cost},
    protocol::{Answer, ErrorCode, Outcome, Refused, ask},
};

/// A mark above the top is an error and changes nothing (R7).
pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::Read) -> Outcome {
    let ask::Read { conv, seq } = ask;
    caller.belongs_to(&conv)?;
    let turn = ops.turn(Class::Fill, cost(2, 0)).await?;
    let done = mark(ops, caller, &conv, seq).await;
    turn.end(cost(2, 0), !matches!(&done, Err(refused) if refused.code == ErrorCode::Unavailable));
    done
}

async fn mark(ops: &Ops, caller: &Caller, conv: &ConvId, seq: Seq) -> Outcome {
    let top = counted(&ops.metrics, StoreOp::Top, ops.store.logs.top(conv).await);
    let top = top.map_err(|error| fault::refused(&error))?;
    if seq > top {
        let text = format!("seq: {seq} is above the top of {conv}, which is {top}");
        return Err(Refused::new(ErrorCode::BadAck, text));
    }
    let raised = ops.store.marks.raise_read_mark(caller.name(), conv, seq).await;
    counted(&ops.metrics, StoreOp::RaiseReadMark, raised).map_err(|error| fault::refused(&error))?;
    receipts::read(ops, caller.name(), conv, seq);
    Ok(Answer::Done)
}
