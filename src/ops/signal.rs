//! `signal`: passed on to whoever is there now, never stored, and to nobody who blocks the caller or is blocked (R24).

use std::sync::Arc;

use super::{Caller, Ops, counted, fault, rooms, send::within_limit};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Recipient, RoomId, UserId},
    protocol::{Answer, ErrorCode, Outcome, Refused, ServerFrame, ask, server::Signal},
};

/// Most members of a room that are left out of a signal by their names: whoever blocks more, or is blocked by more, does not
/// signal to rooms.
const APART: usize = 256;

/// Publishes it.
pub(super) fn perform(ops: &Arc<Ops>, caller: &Caller, ask: ask::Signal, done: impl FnOnce(Outcome) + Send + 'static) {
    let ask::Signal { to, kind, body } = ask;
    if let Some(Err(refused)) = body.as_ref().map(|body| within_limit(body, ops.limits.signal_bytes)) {
        return done(Err(refused));
    }
    let signal = |conv| Signal { conv: Some(conv), from: caller.name().clone(), kind, body };
    match to {
        Recipient::User(user) => {
            let signal = signal(ConvId::direct(caller.name(), &user));
            to_user(ops, caller, user, signal, done);
        }
        Recipient::Room(room) => {
            let signal = signal(ConvId::room(&room));
            ops.spawn(caller, done, async move |ops, caller| to_room(&ops, &caller, &room, signal).await);
        }
    }
}

fn to_user(ops: &Arc<Ops>, caller: &Caller, user: UserId, signal: Signal, done: impl FnOnce(Outcome) + Send + 'static) {
    let to = ops.clone();
    let pass = move |user: &UserId| to.router.pass(user, &ServerFrame::Signal(signal));
    let metrics = ops.metrics.clone();
    ops.blocks.stand(caller.name(), &user.clone(), move |stand| {
        done(match counted(&metrics, StoreOp::Blocks, stand) {
            // Whoever is blocked does not hear so from what is only of the moment.
            Ok(stand) if stand.is_apart() => Ok(Answer::Done),
            Ok(_) => {
                pass(&user);
                Ok(Answer::Done)
            }
            Err(error) => Err(fault::refused(&error)),
        });
    });
}

async fn to_room(ops: &Ops, caller: &Caller, room: &RoomId, signal: Signal) -> Outcome {
    rooms::member(ops, caller, room).await?;
    let ties = counted(&ops.metrics, StoreOp::Blocks, ops.blocks.ties_of(caller.name()).await)
        .map_err(|error| fault::refused(&error))?;
    let apart: Option<Vec<UserId>> = ties.apart().map(|apart| apart.take(APART + 1).cloned().collect());
    let Some(apart) = apart.filter(|apart| apart.len() <= APART) else {
        let text = "to: you block too many users to signal to rooms, or too many block you";
        return Err(Refused::new(ErrorCode::NotAllowed, text));
    };
    ops.router.signal_room(room, &signal, &apart);
    Ok(Answer::Done)
}
