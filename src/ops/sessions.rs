//! `sessions`: the devices of the caller, and the sessions that live now.

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    model::UserId,
    overload::{Class, cost},
    protocol::{
        Answer, Outcome, Refused,
        ask::{SeenDevice, SessionsPage},
    },
    store::KnownDevice,
};

/// All devices of a user are one row, or a few.
const ROWS: usize = 2;

pub(super) async fn perform(ops: &Ops, caller: &Caller) -> Outcome {
    let user = caller.name();
    let listed = async {
        let known = known_devices(ops, user).await?;
        Ok((known, ops.router.sessions_of(user).await))
    };
    let (mut known, mut sessions) = caller.while_there(listed).await??;
    known.sort_by(|one, other| other.seen.cmp(&one.seen).then_with(|| one.device.device.cmp(&other.device.device)));
    sessions.sort_by(|one, other| other.since.cmp(&one.since).then_with(|| one.session.cmp(&other.session)));
    let devices = known.into_iter().map(|known| SeenDevice { device: known.device.device, seen: known.seen }).collect();
    Ok(Answer::Sessions(SessionsPage { reference: None, devices, sessions }))
}

/// The devices of a user, in no order.
pub(super) async fn known_devices(ops: &Ops, user: &UserId) -> Result<Vec<KnownDevice>, Refused> {
    let turn = ops.turn(Class::Listing, cost(ROWS, 0)).await?;
    let known = ops.store.marks.devices(user).await;
    turn.end(cost(ROWS, 0), is_served(&known));
    counted(&ops.metrics, StoreOp::Devices, known).map_err(|error| fault::refused(&error))
}
