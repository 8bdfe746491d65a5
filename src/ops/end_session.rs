//! `end_session`: ends a session of the caller wherever it is, or all of a device, which is forgotten with its cursors.

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    model::{DeviceId, UserId},
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
        was_known = retire(ops, user, device).await?;
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

/// Forgets a device with its cursors; false where it is not known.
pub(super) async fn retire(ops: &Ops, user: &UserId, device: &DeviceId) -> Result<bool, Refused> {
    let turn = ops.turn(Class::Listing, cost(ROWS, 0)).await?;
    let retired = ops.store.marks.retire(user, device).await;
    turn.end(cost(ROWS, 0), is_served(&retired));
    counted(&ops.metrics, StoreOp::Retire, retired).map_err(|error| fault::refused(&error))
}
