//! Rooms and who belongs to them, as the engines keep them beside the logs.
//!
//! Membership is a fold of a room's log ([`crate::model::room`]): each change is appended as a row of kind *event*, and an
//! engine keeps what the changes make of the room and of its members. Read by `ops` and by sessions; written only by the
//! appends of the engine itself.

use super::{Preview, StoreFuture};
use crate::model::{
    ConvId, Counts, Device, Millis, RoomId, Seq, UserId,
    room::{Member, Room},
};

/// A room as a list shows it, and how far its log goes.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomRow {
    /// Which.
    pub id: RoomId,
    /// What the changes up to [`Room::applied`] made of it.
    pub room: Room,
    /// The recorded top of its log.
    pub head: Seq,
    /// The seq of the last event at or below the head. Where the room's `applied` is below it, members that are read now may
    /// not show the changes in between: [`super::Logs::mend`], and look again.
    pub event: Seq,
    /// The time of the row at the head.
    pub ts: Millis,
    /// The newest message or event; `None` where it is lost.
    pub last: Option<Preview>,
    /// What was counted at the head.
    pub counts: Counts,
    /// No message above here expires.
    pub noted: Seq,
}

impl RoomRow {
    /// Members that are read after this row show every change up to its head.
    pub fn is_settled(&self) -> bool {
        self.room.applied >= self.event
    }

    /// Its conversation.
    pub fn conv(&self) -> ConvId {
        ConvId::room(&self.id)
    }
}

/// The rooms.
///
/// Appends to a room go through [`super::Logs::append`]: a message by a member, or an event whose body is a
/// [`Change`](crate::model::room::Change). Whether its sender may write it is decided where it gets its seq, with the room
/// and the members as of the seq before; a retry of what is stored is answered whatever the sender may do by now. When an
/// event is answered, [`Rooms`] shows what it made.
pub trait Rooms: Send + Sync + 'static {
    /// These rooms, in their order; `None` where there is none. At most 64 are asked for at once.
    fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>>;

    /// How a user stands to a room; [`Member::STRANGER`] where the room never heard of them.
    fn member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> StoreFuture<'a, Member>;

    /// Whom a room has heard of, former members included, after `after`, in the order of their names.
    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(UserId, Member)>>;

    /// The rooms that have heard of a user, those that the user has left included, after `after`, in the order of their ids.
    fn rooms_of<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Member)>>;

    /// A device's cursors in rooms after `after`, in the order of the rooms' ids.
    fn room_cursors<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Seq)>>;
}
