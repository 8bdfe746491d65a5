//! `edit`, `delete`, `react`, `unreact`: a row about a message is stored and told like a message. What never changes of the
//! message is read here and goes along with the row; whether the sender may write it is decided where the row gets its seq,
//! after a second try has found the first.

use std::sync::Arc;

use super::{
    Caller, Ops, counted, fault, hook,
    rooms::{self, Part},
    send::{blocked, within_limit},
};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Kind, NewMessage, Parties, Reacting, Refs, Row, Seq, Target, now_millis},
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{About, Say, Sent},
    },
    store::{Span, StoreResult},
};

/// The row of a message, and what was made of it.
const READS: usize = 2;

pub(super) async fn perform(ops: &Arc<Ops>, caller: &Caller, ask: About) -> Outcome {
    let About { conv, re, cid, what } = ask;
    if let Say::Edit(body) = &what {
        within_limit(body, ops.limits.body_bytes)?;
    }
    if !matches!(what, Say::Delete | Say::React(Reacting { set: false, .. })) {
        not_blocked(ops, caller, &conv).await?;
    }
    let target = caller.while_there(target(ops, caller, &conv, re)).await??;
    let (kind, refs, body) = (what.kind(), Some(Refs::about(target)), what.into_body());
    let user = NewMessage::of_user(caller.name().clone(), cid, now_millis(), body);
    let row = NewMessage { kind, refs, service: caller.is_service(), ..user };
    let stored = match kind {
        // What an edit says is checked like a message. A deletion and a reaction say nothing of their own.
        Kind::Edit => hook::append(ops, conv.clone(), row).await?,
        _ => ops.appender.append(conv.clone(), row).await,
    };
    let stored = counted(&ops.metrics, StoreOp::Append, stored).map_err(|error| fault::refused(&error))?;
    Ok(Answer::Sent(Sent { reference: None, conv, seq: stored.seq, ts: stored.ts }))
}

/// As a send (R24). Only what takes away passes a block.
async fn not_blocked(ops: &Ops, caller: &Caller, conv: &ConvId) -> Result<(), Refused> {
    let Some(peer) = conv.peer_of(caller.name()).filter(|peer| peer != caller.name()) else { return Ok(()) };
    let stand = caller.while_there(ops.blocks.stand_of(caller.name(), &peer)).await?;
    if stand.map_err(|error| fault::refused(&error))?.blocked { Err(blocked("conv")) } else { Ok(()) }
}

/// Which part of a conversation the caller may read.
///
/// # Errors
/// None of it.
pub(super) async fn readable(ops: &Ops, caller: &Caller, conv: &ConvId) -> Result<Part, Refused> {
    match conv.parties() {
        Parties::Room(room) => rooms::part(ops, caller, &room).await,
        Parties::Direct(..) => caller.belongs_to(conv).map(|()| Part::Whole),
    }
}

async fn target(ops: &Ops, caller: &Caller, conv: &ConvId, re: Seq) -> Result<Target, Refused> {
    let part = readable(ops, caller, conv).await?;
    if !part.holds(re) {
        return Err(none_at("re", re));
    }
    let turn = ops.turn(Class::Listing, cost(READS, 0)).await?;
    let found = read(ops, conv, re).await;
    turn.end(cost(READS, 0), fault::is_served(&found));
    let found = counted(&ops.metrics, StoreOp::ReadAfter, found).map_err(|error| fault::refused(&error))?;
    found.ok_or_else(|| none_at("re", re))
}

async fn read(ops: &Ops, conv: &ConvId, re: Seq) -> StoreResult<Option<Target>> {
    let Some(row) = message_at(ops, conv, re).await? else { return Ok(None) };
    let made = ops.store.folds.folded(conv, re, re).await?;
    Ok(Target::of(&row, made.of.get(&re), now_millis()))
}

/// The row at a place, if there is one.
pub(super) async fn message_at(ops: &Ops, conv: &ConvId, seq: Seq) -> StoreResult<Option<Row>> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    Ok(ops.store.logs.read_after(conv, before, Span { rows: 1, bytes: 0 }).await?.pop())
}

/// The refusal of a reference that leads nowhere.
pub(super) fn none_at(field: &str, seq: Seq) -> Refused {
    Refused::new(ErrorCode::BadRef, format!("{field}: there is no message at {seq} that you can see"))
}
