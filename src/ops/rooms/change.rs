//! `create`, `join`, `leave`, `invite`, `kick`, `role`, `topic`: a row in the room's log, placed by whoever may place rows
//! there, who also decides whether it may be.

use std::{fmt::Write as _, sync::Arc};

use aws_lc_rs::digest;
use tokio::sync::oneshot;

use super::super::{Caller, Ops, counted, fault};
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
    store::{StoreError, StoreResult},
};

/// Memberships read at once.
const PAGE: usize = 200;

pub(in crate::ops) async fn perform(ops: &Arc<Ops>, caller: &Caller, ask: ChangeRoom) -> Outcome {
    let user = caller.name();
    let cid = ask.cid.unwrap_or_else(fresh_cid);
    let room = ask.room.unwrap_or_else(|| named_after(user, &cid));
    if matches!(ask.change, Change::Created { .. } | Change::Joined) {
        within_limit(ops, user, &room).await?;
    }
    let (answer, stored) = oneshot::channel();
    let told = move |result: &StoreResult<_>| drop(answer.send(result.clone()));
    ops.change(&room, user.clone(), cid, &ask.change, told);
    let stored = stored.await.unwrap_or_else(|_| Err(StoreError::unavailable("the store gave no answer")));
    let seq = match counted(&ops.metrics, StoreOp::Append, stored) {
        Ok(appended) => Some(appended.seq),
        Err(StoreError::Denied(Denied::Already)) => None,
        Err(error) => return Err(fault::refused(&error)),
    };
    let conv = ConvId::room(&room);
    Ok(Answer::Changed(RoomChanged { reference: None, room, conv, seq }))
}

fn fresh_cid() -> Cid {
    let text = format!("{:032x}", rand::random::<u128>());
    match Cid::new(&text) {
        Ok(cid) => cid,
        Err(_) => unreachable!("32 hexadecimal digits are a cid"),
    }
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
    let turn = ops.turn(Class::Listing, cost(PAGE, 0)).await?;
    let mut scanned = 0;
    let count = count(ops, user, room, most, &mut scanned).await;
    turn.end(cost(1 + scanned, 0), fault::is_served(&count));
    let count = counted(&ops.metrics, StoreOp::Rooms, count).map_err(|error| fault::refused(&error))?;
    if count < most {
        return Ok(());
    }
    let text = format!("room: you are in {most} rooms already, which is the limit; leave one first");
    Err(Refused::new(ErrorCode::RoomFull, text))
}

/// In how many rooms the user is, `room` not counted; no further than `most`.
async fn count(ops: &Ops, user: &UserId, room: &RoomId, most: usize, scanned: &mut usize) -> StoreResult<usize> {
    let (mut after, mut count): (Option<RoomId>, usize) = (None, 0);
    while count < most {
        let page = ops.store.rooms.rooms_of(user, after.as_ref(), PAGE).await?;
        *scanned += page.len();
        count += page.iter().filter(|(id, member)| id != room && member.role().is_some()).count();
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
            _ => break,
        }
    }
    Ok(count)
}
