//! `send`: a message is checked, stored, told to whom it concerns, and answered with its place.

use std::{sync::Arc, time::Instant};

use super::{Caller, Ops, fault, hook};
use crate::{
    metrics::StoreOp,
    model::{Body, ConvId, Kind, NewMessage, Recipient, Refs, now_millis},
    protocol::{Answer, ErrorCode, Outcome, Refused, ask},
    store::{Appended, StoreResult},
};

/// Checks the message and hands it to the appender, which stores it, calls `done`, and has the router publish it.
pub(super) fn perform(ops: &Arc<Ops>, caller: &Caller, ask: ask::Send, done: impl FnOnce(Outcome) + Send + 'static) {
    if let Err(refused) = within_limit(&ask.body, ops.limits.body_bytes) {
        return done(Err(refused));
    }
    let (conv, peer) = match ask.to {
        // Whether the sender is a member is decided where the message gets its place.
        Recipient::Room(room) => (ConvId::room(&room), None),
        Recipient::User(user) => (ConvId::direct(caller.name(), &user), Some(user)),
    };
    let ts = now_millis();
    let ask::SendOptions { reply_to, mentions, expires } = ask.options;
    let expires = expires.map(|lifetime| lifetime.end(ts));
    let message = NewMessage {
        kind: Kind::Message,
        sender: caller.name().clone(),
        service: caller.is_service(),
        cid: ask.cid,
        ts,
        body: ask.body,
        read_upto: ask.handed,
        refs: Refs { re: None, reply_to, mentions, expires }.boxed(),
    };
    let (metrics, place, began) = (ops.metrics.clone(), conv.clone(), Instant::now());
    let answer = move |stored: Result<&StoreResult<Appended>, Refused>| {
        let result = match stored {
            Ok(result) => result,
            Err(refused) => return done(Err(refused)),
        };
        metrics.observe_append(began.elapsed());
        if result.as_ref().is_err_and(fault::is_failure) {
            metrics.store_errors.of(StoreOp::Append).inc();
        }
        done(match result {
            Ok(appended) => {
                Ok(Answer::Sent(ask::Sent { reference: None, conv: place, seq: appended.seq, ts: appended.ts }))
            }
            Err(error) => Err(fault::refused(error)),
        });
    };
    let Some(peer) = peer.filter(|peer| *peer != message.sender) else {
        return hook::submit(ops, conv, message, answer);
    };
    let submit = ops.clone();
    // At once where it is known; the sends of one conversation keep their order in any case.
    ops.blocks.stand(&message.sender.clone(), &peer, move |stand| match stand {
        Ok(stand) if stand.blocked => answer(Err(blocked("to"))),
        Ok(_) => hook::submit(&submit, conv, message, answer),
        // Nothing is stored that a block may forbid: it comes again when the store answers.
        Err(error) => answer(Err(fault::refused(&error))),
    });
}

/// The refusal of what a block forbids.
pub(super) fn blocked(field: &str) -> Refused {
    Refused::new(ErrorCode::Blocked, format!("{field}: this user takes no messages from you"))
}

/// Whether a body is within the limit of what it is in.
pub(super) fn within_limit(body: &Body, limit: usize) -> Result<(), Refused> {
    if body.fits(limit) {
        return Ok(());
    }
    let text = format!("body: over the limit of {limit} bytes (as JSON and as MessagePack)");
    Err(Refused::new(ErrorCode::TooLarge, text))
}
