//! `create`, `join`, `leave`, `invite`, `kick`, `role`, `topic`, `lifetime`: a row in the room's log, placed by whoever may
//! place rows there, who also decides whether it may be.

use std::fmt::Write as _;

use aws_lc_rs::digest;

use super::{
    super::{Caller, Ops, counted, fault},
    inside,
};
use crate::{
    metrics::StoreOp,
    model::{
        Cid, ConvId, RoomId, UserId,
        room::{Change, Denied},
    },
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{ChangeRoom, RoomChanged},
    },
    store::StoreError,
};

/// Memberships that a look at the limit is taken to read.
const MEMBERSHIPS: usize = 200;

pub(in crate::ops) async fn perform(ops: &Ops, caller: &Caller, ask: ChangeRoom) -> Outcome {
    let user = caller.name();
    let cid = ask.cid.unwrap_or_else(Cid::fresh);
    let room = ask.room.unwrap_or_else(|| named_after(user, &cid));
    if matches!(ask.change, Change::Created { .. } | Change::Joined) {
        within_limit(ops, user, &room).await?;
    }
    let stored = ops.change(&room, user.clone(), cid, &ask.change).await;
    let seq = match counted(&ops.metrics, StoreOp::Append, stored) {
        Ok(appended) => Some(appended.seq),
        Err(StoreError::Denied(Denied::Already)) => None,
        Err(error) => return Err(fault::refused(&error)),
    };
    let conv = ConvId::room(&room);
    Ok(Answer::Changed(RoomChanged { reference: None, room, conv, seq }))
}

/// The name of a room that may have any: the same for a request that comes again.
fn named_after(user: &UserId, cid: &Cid) -> RoomId {
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in [user.as_str(), "/", cid.as_str()] {
        digest.update(part.as_bytes());
    }
    let mut text = String::with_capacity(24);
    for byte in &digest.finish().as_ref()[..12] {
        let _ = write!(text, "{byte:02x}");
    }
    match RoomId::new(&text) {
        Ok(room) => room,
        Err(_) => unreachable!("24 hexadecimal digits are a name"),
    }
}

/// Nobody is in more rooms than a login may read. Two joins at once may both pass: it is a bound and no promise.
async fn within_limit(ops: &Ops, user: &UserId, room: &RoomId) -> Result<(), Refused> {
    let most = ops.limits.rooms_per_user;
    let turn = ops.turn(Class::Listing, cost(MEMBERSHIPS, 0)).await?;
    let mut scanned = 0;
    let inside = inside(ops, user, most + 1, &mut scanned).await;
    turn.end(cost(scanned.max(1), 0), fault::is_served(&inside));
    let mut inside = counted(&ops.metrics, StoreOp::Rooms, inside).map_err(|error| fault::refused(&error))?;
    // Whoever is there already joins nothing new.
    inside.remove(room);
    if inside.len() < most {
        return Ok(());
    }
    let text = format!("room: you are in {most} rooms already, which is the limit; leave one first");
    Err(Refused::new(ErrorCode::RoomFull, text))
}
