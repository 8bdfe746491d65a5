//! `erase`: a user's devices are forgotten, their sessions end, and the keys of all that the user has said are destroyed (R29).
//! Asked by services and by operators.

use super::{Caller, Ops, counted, end_session, fault, fault::is_served, sessions};
use crate::{
    metrics::StoreOp,
    model::UserId,
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{EndSession, Erased},
    },
};

/// The keys are looked for, and destroyed.
const ROWS: usize = 6;

pub(super) async fn perform(ops: &Ops, caller: &Caller) -> Outcome {
    erase(ops, caller.name()).await.map(Answer::Erased)
}

/// Asked again after an error, it does what is left to do.
pub(super) async fn erase(ops: &Ops, user: &UserId) -> Result<Erased, Refused> {
    if !ops.sealing.is_on() {
        return Err(Refused::new(
            ErrorCode::NotAllowed,
            "bodies are not sealed here, so that nothing can be erased: set sealing.on, which counts for what is written from then on",
        ));
    }
    // The sessions first: what they still send is erased as well.
    let devices = forget_devices(ops, user).await?;
    let turn = ops.turn(Class::Listing, cost(ROWS, 0)).await?;
    let erased = ops.sealing.erase(user).await;
    turn.end(cost(ROWS, 0), is_served(&erased));
    let months = counted(&ops.metrics, StoreOp::Erase, erased).map_err(|error| fault::refused(&error))?;
    tracing::info!(%user, months, devices, "everything that a user has said is erased");
    Ok(Erased { user: user.clone(), months, devices })
}

async fn forget_devices(ops: &Ops, user: &UserId) -> Result<u64, Refused> {
    let known = sessions::known_devices(ops, user).await?;
    let count = known.len() as u64;
    for device in known {
        end_session::retire(ops, user, &device.device.device).await?;
        ops.router.end_sessions(user, &EndSession::Device(device.device.device)).await;
    }
    Ok(count)
}
