//! An event of a room: what somebody changes there is stored as a row of its log and told like a message. Whether it may be
//! changed is decided where the row gets its seq.

use super::Ops;
use crate::{
    model::{Cid, ConvId, Kind, NewMessage, RoomId, UserId, now_millis, room::Change},
    store::{Appended, StoreResult},
};

impl Ops {
    /// Stores a change that `sender` makes, and returns its place in the room's log.
    ///
    /// # Errors
    /// Why not.
    pub async fn change(&self, room: &RoomId, sender: UserId, cid: Cid, change: &Change) -> StoreResult<Appended> {
        let event =
            NewMessage { kind: Kind::Event, ..NewMessage::of_user(sender, cid, now_millis(), change.to_body()) };
        self.appender.append(ConvId::room(room), event).await
    }
}
