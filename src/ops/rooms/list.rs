//! `room`, `rooms`, `members`.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::{
        Caller, Ops,
        conversations::{behind, shown as preview},
        counted, fault,
        room_places::settled,
    },
    Seen, look, member,
    paged::Paged,
};
use crate::{
    metrics::StoreOp,
    model::{
        ConvId, RoomId, Seq, UserId,
        room::{Member, Standing},
    },
    overload::{Class, cost},
    protocol::{
        Answer, Outcome, Refused,
        ask::{Members, MembersPage, OneRoom, RoomLog, RoomMember, RoomShown, RoomView, Rooms, RoomsPage},
    },
    store::{CountsAt, RoomRow, StoreResult},
};

/// Rooms that a read of the store takes at once.
const AT_ONCE: usize = 64;
/// Marks that are read at the same time.
const MARKS: usize = 8;

pub(in crate::ops) async fn one(ops: &Ops, caller: &Caller, ask: OneRoom) -> Outcome {
    let seen = caller.while_there(look(ops, &ask.room, caller.name())).await??;
    let view = counted(&ops.metrics, StoreOp::Rooms, view(ops, caller.name(), seen).await);
    let view = view.map_err(|error| fault::refused(&error))?;
    Ok(Answer::Room(RoomShown { reference: None, view }))
}

pub(in crate::ops) async fn rooms(ops: &Ops, caller: &Caller, ask: Rooms) -> Outcome {
    let found = async {
        let turn = ops.turn(Class::Listing, cost(3 * ask.limit, 0)).await?;
        let found = some_rooms(ops, caller.name(), ask.after, ask.limit).await;
        let rows = found.as_ref().map_or(0, |(items, _)| 3 * items.len());
        turn.end(cost(1 + rows, 0), fault::is_served(&found));
        Ok::<_, Refused>(found)
    };
    let found = counted(&ops.metrics, StoreOp::Rooms, caller.while_there(found).await??);
    let (items, next) = found.map_err(|error| fault::refused(&error))?;
    Ok(Answer::Rooms(RoomsPage { reference: None, items, next }))
}

pub(in crate::ops) async fn members(ops: &Ops, caller: &Caller, ask: Members) -> Outcome {
    member(ops, caller, &ask.room).await?;
    let found = async {
        let turn = ops.turn(Class::Listing, cost(ask.limit, 0)).await?;
        let found = some_members(ops, &ask.room, ask.after, ask.limit).await;
        turn.end(cost(ask.limit, 0), fault::is_served(&found));
        Ok::<_, Refused>(found)
    };
    let found = counted(&ops.metrics, StoreOp::Rooms, caller.while_there(found).await??);
    let (items, next) = found.map_err(|error| fault::refused(&error))?;
    Ok(Answer::Members(MembersPage { reference: None, room: ask.room, items, next }))
}

/// Former members are passed over.
async fn some_members(
    ops: &Ops,
    room: &RoomId,
    after: Option<UserId>,
    limit: usize,
) -> StoreResult<(Vec<RoomMember>, Option<UserId>)> {
    let mut paged = Paged::new(after, limit);
    while let Some(wanted) = paged.wanted() {
        let page = ops.store.rooms.members(room, paged.after(), wanted).await?;
        paged.on_read(&page);
        paged.show(page.into_iter().filter_map(|(user, member)| shown(user, &member)));
    }
    Ok(paged.end())
}

fn shown(user: UserId, member: &Member) -> Option<RoomMember> {
    match member.standing {
        Standing::Out => None,
        Standing::Invited => Some(RoomMember { user, role: None, since: None }),
        Standing::Member(role) => Some(RoomMember { user, role: Some(role), since: member.spans.open() }),
    }
}

type Listed = (Vec<RoomView>, Option<RoomId>);

async fn some_rooms(ops: &Ops, user: &UserId, after: Option<RoomId>, limit: usize) -> StoreResult<Listed> {
    let mut paged = Paged::new(after, limit);
    while let Some(wanted) = paged.wanted() {
        let page = ops.store.rooms.rooms_of(user, paged.after(), wanted).await?;
        paged.on_read(&page);
        paged.show(page.into_iter().filter(|(_, member)| member.standing != Standing::Out));
    }
    let (mine, next) = paged.end();
    let mut items = Vec::with_capacity(mine.len());
    for some in mine.chunks(AT_ONCE) {
        let ids: Vec<RoomId> = some.iter().map(|(id, _)| id.clone()).collect();
        let rows = ops.store.rooms.rooms(&ids).await?;
        let members = some.iter().map(|(_, member)| member.clone());
        let seen: Vec<Seen> =
            rows.into_iter().zip(members).filter_map(|(row, member)| Some(Seen { row: row?, member })).collect();
        let views = seen.into_iter().map(|seen| fresh_view(ops, user, seen));
        items.extend(stream::iter(views).buffered(MARKS).try_collect::<Vec<_>>().await?.into_iter().flatten());
    }
    Ok((items, next))
}

/// A membership was read before its room: where the room is further than that, both are read once more.
async fn fresh_view(ops: &Ops, user: &UserId, mut seen: Seen) -> StoreResult<Option<RoomView>> {
    if !seen.row.is_settled() || seen.row.event > seen.member.changed {
        let Some(row) = settled(ops, &seen.row.id, 0).await? else { return Ok(None) };
        let member = ops.store.rooms.member(&row.id, user).await?;
        seen = Seen { row, member };
    }
    if seen.member.standing == Standing::Out {
        return Ok(None);
    }
    view(ops, user, seen).await.map(Some)
}

/// What the user may see of a room.
async fn view(ops: &Ops, user: &UserId, seen: Seen) -> StoreResult<RoomView> {
    let Seen { row, member } = seen;
    let conv = row.conv();
    let log = match member.role() {
        Some(_) => Some(log(ops, user, &conv, &row, member.spans.open().unwrap_or(0)).await?),
        None => None,
    };
    let RoomRow { id, room, .. } = row;
    Ok(RoomView {
        room: id,
        conv,
        topic: room.topic,
        public: room.public,
        history: room.reach,
        lifetime: room.lifetime,
        created: room.created,
        members: room.members,
        role: member.role(),
        invited: member.standing == Standing::Invited,
        log,
    })
}

/// What was there when the member joined is not unread.
async fn log(ops: &Ops, user: &UserId, conv: &ConvId, row: &RoomRow, since: Seq) -> StoreResult<RoomLog> {
    let marks = ops.store.marks.of_user(user, conv).await?;
    let read = marks.read.max(since);
    let counts = match ops.store.logs.counts_at(conv, read, row.head).await? {
        CountsAt::Known(counts) => counts,
        CountsAt::AboveTop(_) => row.counts,
    };
    let last = row.last.clone().map(|last| Box::new(preview(conv, last)));
    let behind = behind(&ops.store, user, conv, (read, row.noted.max(marks.noted))).await?;
    let unread = row.counts.unread(counts, conv, user).saturating_sub(behind.expired);
    Ok(RoomLog { head: row.head, ts: row.ts, read, unread, mentions: behind.mentions, last })
}
