//! `send`: a message is stored, told to whom it concerns, and answered with its place.

use std::{sync::Arc, time::Instant};

use super::{Caller, Ops, fault};
use crate::{
    metrics::StoreOp,
    model::{Body, ConvId, Kind, NewMessage, Recipient, Refs, now_millis},
    protocol::{Answer, ErrorCode, Outcome, Refused, ask},
    store::{Appended, StoreResult},
};

/// Checks the message and hands it to the appender, which stores it, calls `done`, and has the router publish it.
pub(super) fn perform(ops: &Arc<Ops>, caller: &Caller, ask: ask::Send, done: impl FnOnce(Outcome) + Send + 'static) {
    let conv = match &ask.to {
        // Whether the sender is a member is decided where the message gets its place.
        Recipient::Room(room) => Ok(ConvId::room(room)),
        Recipient::User(_) => caller.conversation_with(&ask.to).map(|(conv, _)| conv),
    };
    let checked = conv.and_then(|conv| within_limit(&ask.body, ops.limits.body_bytes).map(|()| conv));
    let conv = match checked {
        Ok(conv) => conv,
        Err(refused) => return done(Err(refused)),
    };
    let ts = now_millis();
    let ask::SendOptions { reply_to, mentions, expires } = ask.options;
    let expires = expires.map(|secs| ts.saturating_add(secs * 1000));
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
    let on_stored = move |result: &StoreResult<Appended>| {
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
    ops.appender.submit(conv, message, Box::new(on_stored));
}

/// Whether a body is within the limit of what it is in.
pub(super) fn within_limit(body: &Body, limit: usize) -> Result<(), Refused> {
    if body.fits(limit) {
        return Ok(());
    }
    let text = format!("body: over the limit of {limit} bytes (as JSON and as MessagePack)");
    Err(Refused::new(ErrorCode::TooLarge, text))
}
