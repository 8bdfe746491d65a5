//! What concerns rooms as such: `change` has one changed at the place where its log is written, `list` shows rooms and
//! members. Whoever asks sees a room's log only where they may: `history` reads that part.

mod change;
mod list;
mod paged;
mod part;
mod readers;

use std::collections::HashSet;

pub(super) use self::{
    change::perform as change,
    list::{members, one, rooms},
    part::{Part, part},
    readers::readers,
};
use super::{Caller, Ops, fault, room_places::settled};
use crate::{
    metrics::StoreOp,
    model::{
        RoomId, UserId,
        room::{Denied, Member},
    },
    overload::{Class, Turn, cost},
    protocol::Refused,
    store::{RoomRow, StoreError, StoreResult},
};

/// A room's row and a member's.
const LOOK: usize = 2;
/// Memberships of a user that are read at once.
const INSIDE: usize = 512;

/// A room, and how a user stands to it.
pub(super) struct Seen {
    pub(super) row: RoomRow,
    pub(super) member: Member,
}

impl Seen {
    /// Whether they may know of the room.
    fn is_known(&self) -> bool {
        self.row.room.public || self.member.changed > 0
    }
}

/// Looks a room up as `user` sees it: its row first, so that the membership is as of that head at least.
///
/// # Errors
/// `no_such_room` also for one that the user may not know of.
pub(super) async fn look(ops: &Ops, room: &RoomId, user: &UserId) -> Result<Seen, Refused> {
    let turn = ops.turn(Class::Listing, cost(LOOK, 0)).await?;
    let found = look_within(ops, room, user).await;
    ended(turn, &found);
    let found = super::counted(&ops.metrics, StoreOp::Rooms, found).map_err(|error| fault::refused(&error))?;
    let no_such = || fault::refused(&StoreError::Denied(Denied::NoSuchRoom));
    found.filter(Seen::is_known).ok_or_else(no_such)
}

/// The same for what only members may.
///
/// # Errors
/// `not_member` besides.
pub(super) async fn member(ops: &Ops, caller: &Caller, room: &RoomId) -> Result<Seen, Refused> {
    let seen = caller.while_there(look(ops, room, caller.name())).await??;
    match seen.member.role() {
        Some(_) => Ok(seen),
        None => Err(fault::refused(&StoreError::Denied(Denied::NotMember))),
    }
}

/// The rooms that a user is a member of: all of them, or `enough` and the rest of the read that found so many.
pub(super) async fn inside(
    ops: &Ops,
    user: &UserId,
    enough: usize,
    scanned: &mut usize,
) -> StoreResult<HashSet<RoomId>> {
    let (mut found, mut after) = (HashSet::new(), None);
    loop {
        let page = ops.store.rooms.rooms_of(user, after.as_ref(), INSIDE).await?;
        // Also what brings nothing is a read.
        *scanned += page.len().max(1);
        let is_last = page.len() < INSIDE;
        after = page.last().map(|(room, _)| room.clone());
        found.extend(page.into_iter().filter(|(_, member)| member.role().is_some()).map(|(room, _)| room));
        if is_last || found.len() >= enough {
            return Ok(found);
        }
    }
}

fn ended<T>(turn: Turn, found: &StoreResult<T>) {
    turn.end(cost(LOOK, 0), fault::is_served(found));
}

async fn look_within(ops: &Ops, room: &RoomId, user: &UserId) -> StoreResult<Option<Seen>> {
    let Some(row) = settled(ops, room, 0).await? else { return Ok(None) };
    let member = ops.store.rooms.member(room, user).await?;
    Ok(Some(Seen { row, member }))
}
