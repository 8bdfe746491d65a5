//! What the store says of a message and a user. A dozen small reads: this is asked by a person, about one message.

use super::{DeviceFacts, RowFacts, Standing, Stored};
use crate::{
    model::{ConvId, Parties, RoomId, Row, Seq, UserId, now_millis},
    operators::{Parts, wire::WhyAsk},
    store::{Span, StoreResult},
};

/// # Errors
/// In words, where the store did not answer.
pub(in crate::operators) async fn stored(parts: &Parts, asked: &WhyAsk) -> Result<Stored, String> {
    read(parts, asked).await.map_err(|error| format!("the store: {error}"))
}

async fn read(parts: &Parts, asked: &WhyAsk) -> StoreResult<Stored> {
    let WhyAsk { conv, seq, user } = asked;
    let store = &parts.store;
    let (standing, head) = match conv.parties() {
        Parties::Direct(..) if !conv.is_direct_of(user) => (Standing::Foreign, None),
        Parties::Direct(..) => {
            let row = store.inbox.details(user, std::slice::from_ref(conv)).await?.pop();
            (Standing::In, row.map(|row| row.head))
        }
        Parties::Room(room) => in_room(parts, &room, *seq, user).await?,
    };
    let blocked = match conv.peer_of(user).filter(|peer| peer != user) {
        Some(peer) => {
            let tie = store.people.tie(user, &peer).await?;
            Some((peer, tie.blocks || tie.blocked))
        }
        None => None,
    };
    let marks = store.marks.of_user(user, conv).await?;
    let mut devices = Vec::new();
    for known in store.marks.devices(user).await? {
        let cursor = store.marks.cursor(&known.device, conv).await?;
        devices.push(DeviceFacts { device: known.device.device, cursor, seen: known.seen });
    }
    devices.sort_by(|one, other| one.device.cmp(&other.device));
    Ok(Stored {
        standing,
        is_service: parts.services.knows(user),
        top: store.logs.top(conv).await?,
        head,
        row: row(parts, conv, *seq).await?,
        blocked,
        read: marks.read,
        delivered: marks.delivered,
        devices,
    })
}

async fn in_room(parts: &Parts, room: &RoomId, seq: Seq, user: &UserId) -> StoreResult<(Standing, Option<Seq>)> {
    let rooms = &parts.store.rooms;
    let Some(row) = rooms.rooms(std::slice::from_ref(room)).await?.pop().flatten() else {
        return Ok((Standing::NoRoom, None));
    };
    let spans = rooms.member(room, user).await?.spans;
    let standing = if spans.hold(seq) || (seq > row.head && spans.open().is_some()) {
        Standing::In
    } else {
        Standing::NotThen { since: spans.open(), until: spans.until() }
    };
    Ok((standing, Some(row.head)))
}

async fn row(parts: &Parts, conv: &ConvId, seq: Seq) -> StoreResult<Option<RowFacts>> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let found = parts.store.logs.read_after(conv, before, Span { rows: 1, bytes: 0 }).await?.pop();
    let Some(row) = found.filter(|row| row.seq == seq) else { return Ok(None) };
    let folded = parts.store.folds.folded(conv, seq, seq).await?.of.remove(&seq).unwrap_or_default();
    let Row { kind, sender, ts, .. } = &row;
    Ok(Some(RowFacts {
        kind: *kind,
        from: sender.clone(),
        ts: *ts,
        count: row.counts.first + row.counts.second,
        expires: row.expires(),
        is_expired: row.is_expired(now_millis()),
        deleted_by: folded.deleted,
        is_edited: folded.edited.is_some(),
    }))
}
