//! `signal`: passed on to whoever is there now, never stored.

use super::{Caller, Ops, send::within_limit};
use crate::protocol::{Answer, Outcome, ServerFrame, ask, server::Signal};

/// Publishes it.
pub(super) fn perform(ops: &Ops, caller: &Caller, ask: ask::Signal) -> Outcome {
    let ask::Signal { to, kind, body } = ask;
    let (conv, user) = caller.conversation_with(&to)?;
    if let Some(body) = &body {
        within_limit(body, ops.limits.signal_bytes)?;
    }
    let signal = Signal { conv: Some(conv), from: caller.name().clone(), kind, body };
    ops.router.pass(&user, &ServerFrame::Signal(signal));
    Ok(Answer::Done)
}
