//! What is shown of messages beside the logs, opened: the last one in lists, and the edits that count.

use std::sync::Arc;

use super::Sealing;
use crate::{
    model::{ConvId, Device, FoldedPart, Millis, RoomId, Seq, UserId, room::Member},
    store::{Behind, Compared, Folds, Inbox, InboxDetail, InboxRow, Page, RoomRow, Rooms, Stamps, StoreFuture},
};

pub(super) struct SealedInbox {
    pub(super) inner: Arc<dyn Inbox>,
    pub(super) sealing: Sealing,
}

impl Inbox for SealedInbox {
    fn conversations<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a ConvId>,
        limit: usize,
    ) -> StoreFuture<'a, Page<InboxRow>> {
        self.inner.conversations(user, after, limit)
    }

    fn details<'a>(&'a self, user: &'a UserId, convs: &'a [ConvId]) -> StoreFuture<'a, Vec<InboxDetail>> {
        Box::pin(async move {
            let mut details = self.inner.details(user, convs).await?;
            let lasts = details.iter_mut().filter_map(|detail| Some((detail.conv.clone(), detail.last.as_mut()?)));
            self.sealing.open_previews(lasts.collect()).await?;
            Ok(details)
        })
    }

    fn gaps<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a ConvId>,
        limit: usize,
        scan: usize,
    ) -> StoreFuture<'a, Compared> {
        self.inner.gaps(device, after, limit, scan)
    }

    fn stamps<'a>(&'a self, device: &'a Device) -> StoreFuture<'a, Stamps> {
        self.inner.stamps(device)
    }
}

pub(super) struct SealedRooms {
    pub(super) inner: Arc<dyn Rooms>,
    pub(super) sealing: Sealing,
}

impl Rooms for SealedRooms {
    fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>> {
        Box::pin(async move {
            let mut found = self.inner.rooms(rooms).await?;
            let lasts = found.iter_mut().flatten().filter_map(|row| Some((row.conv(), row.last.as_mut()?)));
            self.sealing.open_previews(lasts.collect()).await?;
            Ok(found)
        })
    }

    fn member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> StoreFuture<'a, Member> {
        self.inner.member(room, user)
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(UserId, Member)>> {
        self.inner.members(room, after, limit)
    }

    fn rooms_of<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Member)>> {
        self.inner.rooms_of(user, after, limit)
    }

    fn room_cursors<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Seq)>> {
        self.inner.room_cursors(device, after, limit)
    }
}

pub(super) struct SealedFolds {
    pub(super) inner: Arc<dyn Folds>,
    pub(super) sealing: Sealing,
}

impl Folds for SealedFolds {
    fn folded<'a>(&'a self, conv: &'a ConvId, from: Seq, upto: Seq) -> StoreFuture<'a, FoldedPart> {
        Box::pin(async move {
            let mut part = self.inner.folded(conv, from, upto).await?;
            for folded in part.of.values_mut() {
                self.sealing.open_edit(conv, folded).await?;
            }
            Ok(part)
        })
    }

    fn behind<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, after: Seq, now: Millis) -> StoreFuture<'a, Behind> {
        self.inner.behind(user, conv, after, now)
    }
}
