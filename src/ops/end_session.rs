//! `end_session`: ends a session of the caller wherever it is, or all of a device, which is forgotten with its cursors.

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{EndSession, Ended},
    },
};

/// A device's entry is read, removed, and looked at again; its cursors go with one write.
const ROWS: usize = 6;

pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: EndSession) -> Outcome {
    let user = caller.name();
    let mut was_known = false;
    if let EndSession::Device(device) = &ask {
        let turn = ops.turn(Class::Listing, cost(ROWS, 0)).await?;
        let retired = ops.store.marks.retire(user, device).await;
        turn.end(cost(ROWS, 0), is_served(&retired));
        was_known = counted(&ops.metrics, StoreOp::Retire, retired).map_err(|error| fault::refused(&error))?;
    }
    let sessions = ops.router.end_sessions(user, &ask).await;
    if sessions.is_empty() && !was_known {
        let what = if matches!(ask, EndSession::Device(_)) { "device" } else { "session" };
        return Err(Refused::new(
            ErrorCode::NotFound,
            format!("{what}: you have none of this name, or its node is away"),
        ));
    }
    Ok(Answer::Ended(Ended { reference: None, sessions }))
}
