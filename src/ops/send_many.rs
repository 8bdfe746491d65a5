//! `send_many`: one message to each of many users, some of them at a time, each by the rules of a single `send` and with an
//! answer of its own.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::{sync::oneshot, time::timeout};

use super::{Caller, Ops, PATIENCE, fault, send};
use crate::{
    model::{Recipient, UserId},
    protocol::{
        Answer, ErrorCode, Op, Outcome, Refused,
        ask::{Refusal, Send, SendMany, SendOptions, SentMany, SentTo},
    },
};

/// Requests that run at the same time on a node; the others wait.
pub(super) const BATCHES: usize = 16;
/// Messages of one request under way: enough to fill an append, and few enough that others find room beside them.
const AT_ONCE: usize = 32;

pub(super) async fn perform(ops: &Arc<Ops>, caller: &Caller, ask: SendMany) -> Outcome {
    send::within_limit(&ask.body, ops.limits.body_bytes)?;
    let Ok(Ok(_room)) = timeout(PATIENCE, ops.batches.acquire()).await else {
        let text = "too many requests of this kind are under way; nothing was sent, try again";
        return Err(Refused::new(ErrorCode::Unavailable, text).after(fault::soon()));
    };
    let SendMany { users, cid, body, expires } = ask;
    let sends = users.into_iter().map(|user| {
        let options = SendOptions { expires, ..SendOptions::default() };
        let to = Recipient::User(user.clone());
        one(ops, caller, user, Send { to, cid: cid.clone(), body: body.clone(), options, handed: 0 })
    });
    let items = stream::iter(sends).buffered(AT_ONCE).collect().await;
    Ok(Answer::SentMany(SentMany { items }))
}

async fn one(ops: &Arc<Ops>, caller: &Caller, user: UserId, ask: Send) -> SentTo {
    let (told, outcome) = oneshot::channel();
    // Whoever waits for it is here until it comes.
    send::perform(ops, caller, ask, move |outcome| drop(told.send(outcome)));
    let outcome = outcome.await.unwrap_or_else(|_| {
        Err(Refused::new(ErrorCode::Unavailable, "the outcome is unknown, try again with the same cid"))
    });
    match ops.count(Op::Send, outcome) {
        Ok(Answer::Sent(sent)) => {
            SentTo { user, conv: Some(sent.conv), seq: Some(sent.seq), ts: Some(sent.ts), error: None }
        }
        Ok(other) => unreachable!("a send is answered with its place, not with {other:?}"),
        Err(refused) => SentTo { user, conv: None, seq: None, ts: None, error: Some(Refusal::from(refused)) },
    }
}
