//! Where devices are in rooms: how the user stands to them, which part of the log is next, and listening there from then on.
//! Called by the upkeep of sessions.
//!
//! The order of the reads is what makes it right. A cursor comes first, then the room, then the membership: a cursor is never
//! above a head that is read after it, and a membership that is read after a room whose changes are applied shows every change
//! up to its head. And a session listens before the head is read that it goes by (R10).

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Ops, counted,
    fault::{self, is_served},
    upkeep::class_of,
};
use crate::{
    backoff::Backoff,
    metrics::StoreOp,
    model::{ConvId, Device, RoomId, Seq, UserId, room::Member},
    overload::{Class, cost},
    protocol::{ErrorCode, Refused},
    routing::{Rooms, SessionHandle},
    session::{Cause, RoomPlace, RoomsPage, UpkeepDone, Urgency},
    store::{RoomRow, StoreError, StoreResult},
};

/// Rooms of one page, and the most that a store is asked for at once.
pub(super) const ROOMS: usize = 64;
/// What one room is taken to cost: cursor, room, member, and all of it again where the session did not listen.
const ROOM_ROWS: usize = 4;
/// What a page is taken to cost before it is read. Most users are in few rooms, and only pages that are under way together
/// share their reads.
pub(super) const PAGE_ROWS: usize = ROOMS;
/// A room whose last changes are not in the tables is looked at again after this long at first, and at most …
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// … so many times.
const TRIES: usize = 6;

/// Where a device goes on in a room.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// Behind what it was handed.
    Position(Seq),
    /// At its stored cursor, or so many rows below the last one if that is higher.
    Cursor { backlog: u64 },
}

/// Which page of the user's rooms, and what of it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) after: Option<RoomId>,
    /// All rooms; otherwise only those on which the session does not listen as it should.
    pub(super) all: bool,
    /// As of [`From::Cursor`].
    pub(super) backlog: u64,
}

/// One room, for a session that cannot go on without.
pub(super) async fn read(ops: &Ops, me: &Arc<SessionHandle>, conv: ConvId, from: From, at: Seq) -> UpkeepDone {
    let Some(room) = conv.as_room() else { return UpkeepDone::RoomRead { conv, place: Err(()) } };
    let Ok(turn) = ops.turn(Class::Fill, cost(ROOM_ROWS, 0)).await else {
        return UpkeepDone::RoomRead { conv, place: Err(()) };
    };
    let place = one(ops, me, &room, from, at).await;
    turn.end(cost(ROOM_ROWS, 0), is_served(&place));
    let place = counted(&ops.metrics, StoreOp::Rooms, place).map_err(drop);
    UpkeepDone::RoomRead { conv, place: place.and_then(|place| place.ok_or(())) }
}

/// `None` for a session that has ended meanwhile.
async fn one(ops: &Ops, me: &Arc<SessionHandle>, room: &RoomId, from: From, at: Seq) -> StoreResult<Option<RoomPlace>> {
    let (device, conv) = (&me.device(), ConvId::room(room));
    loop {
        let (begin, backlog) = match from {
            From::Position(position) => (position, u64::MAX),
            From::Cursor { backlog } => (ops.store.marks.cursor(device, &conv).await?, backlog),
        };
        let Some(row) = settled(ops, room, at).await? else {
            return Ok(Some(RoomPlace { upto: 0, last: 0, start: None, is_cut: false }));
        };
        let member = ops.store.rooms.member(room, &device.user).await?;
        if member.role().is_some() {
            match listen(ops, me, std::slice::from_ref(room)).await {
                None => return Ok(None),
                // What was read is from before.
                Some(true) => continue,
                Some(false) => {}
            }
        }
        ops.router.rooms().on_first_head(room, row.head);
        return Ok(Some(place(row.head, &member, begin, backlog)));
    }
}

/// Has the session listen on rooms; true where it did not listen on all of them before. `None`: it has ended.
async fn listen(ops: &Ops, me: &Arc<SessionHandle>, rooms: &[RoomId]) -> Option<bool> {
    let listening: Vec<_> = rooms.iter().map(|room| ops.router.listen(me, room)).collect();
    if listening.iter().any(|one| one.is_gone()) {
        return None;
    }
    ops.router.fence(&listening).await;
    Some(listening.iter().any(|one| one.is_new))
}

/// A room whose changes up to its head are all in the tables of members; its head is at `at` or above.
pub(super) async fn settled(ops: &Ops, room: &RoomId, at: Seq) -> StoreResult<Option<RoomRow>> {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    for _ in 0..TRIES {
        match ops.room_rows.read(std::slice::from_ref(room)).await?.pop() {
            Some(row) if row.is_settled() && row.head >= at => return Ok(Some(row)),
            None if at == 0 => return Ok(None),
            _ => {}
        }
        // Whoever is home of the room applies what is missing.
        ops.store.logs.mend(&ConvId::room(room)).await?;
        sleep(backoff.next()).await;
    }
    Err(StoreError::unavailable("the last changes of a room are not applied yet"))
}

fn place(head: Seq, member: &Member, from: Seq, backlog: u64) -> RoomPlace {
    let last = match member.spans.open() {
        Some(_) => head,
        None => member.spans.until().unwrap_or(0),
    };
    let (all, newest) =
        (member.spans.next_after(from), member.spans.next_after(from.max(last.saturating_sub(backlog))));
    RoomPlace { upto: head, last, start: newest.map(|next| next - 1), is_cut: newest != all }
}

/// One page of the user's rooms: `all` of them, or only those on which the session does not listen as it should. The heads of
/// the others are looked at by the node ([`super::room_sweep`]).
pub(super) async fn compare(
    ops: &Ops,
    me: &Arc<SessionHandle>,
    wanted: Wanted,
    cause: Cause,
    urgency: Urgency,
) -> UpkeepDone {
    let Ok(turn) = ops.overload.turn(class_of(urgency), cost(PAGE_ROWS, 0)).await else {
        return UpkeepDone::RoomsCompared { cause, page: Err(()) };
    };
    let page = page(ops, me, &wanted).await;
    let rows = page.as_ref().map_or(0, |(rows, _)| *rows);
    // Also what brings nothing is a read.
    turn.end(cost(rows.max(1), 0), is_served(&page));
    ops.metrics.reconcile_rows.inc_by(rows as u64);
    let page = counted(&ops.metrics, StoreOp::Rooms, page).map_err(drop);
    UpkeepDone::RoomsCompared { cause, page: page.and_then(|(_, page)| page.ok_or(())) }
}

/// A page, and how many rows were read for it; no page for a session that has ended meanwhile.
async fn page(ops: &Ops, me: &Arc<SessionHandle>, page: &Wanted) -> StoreResult<(usize, Option<RoomsPage>)> {
    let after = page.after.as_ref();
    let device = &me.device();
    let known = ops.store.rooms.rooms_of(&device.user, after, ROOMS).await?;
    let next = (known.len() == ROOMS).then(|| known.last().map(|(room, _)| ConvId::room(room))).flatten();
    let mut rows = known.len();
    let is_wanted = |room: &RoomId, member: &Member| page.all || member.role().is_some() != Rooms::listens(me, room);
    let wanted: Vec<_> = known.into_iter().filter(|(room, member)| is_wanted(room, member)).collect();
    if wanted.is_empty() {
        return Ok((rows, Some((Vec::new(), next))));
    }
    let inside: Vec<_> =
        wanted.iter().filter(|(_, member)| member.role().is_some()).map(|(id, _)| id.clone()).collect();
    if listen(ops, me, &inside).await.is_none() {
        return Ok((rows, None));
    }
    let cursors = ops.store.rooms.room_cursors(device, after, ROOMS).await?;
    let heads = heads(ops, &inside).await?;
    let members = ops.store.rooms.rooms_of(&device.user, after, ROOMS).await?;
    rows += cursors.len() + heads.len() + members.len();
    let mut places = Vec::new();
    for (room, _) in &wanted {
        let member = match members.iter().find(|(other, _)| other == room) {
            Some((_, member)) => member.clone(),
            None => ops.store.rooms.member(room, &device.user).await?,
        };
        let head = heads.iter().find(|row| row.id == *room).map(|row| row.head);
        let cursor = cursors.iter().find(|(other, _)| other == room).map_or(0, |(_, cursor)| *cursor);
        match head {
            Some(head) => ops.router.rooms().on_first_head(room, head),
            // Joined while this was read: the session hears of it as of every join.
            None if member.role().is_some() => continue,
            None => {}
        }
        places.push((ConvId::room(room), place(head.unwrap_or(0), &member, cursor, page.backlog)));
    }
    Ok((rows, Some((places, next))))
}

async fn heads(ops: &Ops, rooms: &[RoomId]) -> StoreResult<Vec<RoomRow>> {
    let mut rows = Vec::with_capacity(rooms.len());
    for row in ops.room_rows.read(rooms).await? {
        let row = if row.is_settled() { Some(row) } else { settled(ops, &row.id, row.head).await? };
        rows.extend(row);
    }
    Ok(rows)
}

/// The top and the cursor for an acknowledgement in a room that the session cannot judge: only what was for the user can be
/// acknowledged (R7).
pub(super) async fn check(ops: &Ops, device: &Device, room: &RoomId, seq: Seq) -> Result<(Seq, Seq), Refused> {
    let turn = ops.turn(Class::Fill, cost(ROOM_ROWS, 0)).await?;
    let read = read_for_check(ops, &device.user, device, room).await;
    turn.end(cost(ROOM_ROWS, 0), is_served(&read));
    let read = counted(&ops.metrics, StoreOp::Top, read).map_err(|error| fault::refused(&error))?;
    let (cursor, head, member) = match read {
        Some(read) if read.2.changed > 0 => read,
        _ => return Err(Refused::new(ErrorCode::NotMember, "conv: you are not part of this conversation")),
    };
    if seq > cursor && seq <= head && !member.spans.hold(seq) {
        return Err(Refused::new(ErrorCode::BadAck, format!("seq: {seq} of {} was not for you", ConvId::room(room))));
    }
    Ok((head, cursor))
}

async fn read_for_check(
    ops: &Ops,
    user: &UserId,
    device: &Device,
    room: &RoomId,
) -> StoreResult<Option<(Seq, Seq, Member)>> {
    let cursor = ops.store.marks.cursor(device, &ConvId::room(room)).await?;
    let Some(row) = settled(ops, room, 0).await? else { return Ok(None) };
    Ok(Some((cursor, row.head, ops.store.rooms.member(room, user).await?)))
}
