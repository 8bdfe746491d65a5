//! An event of a room: what somebody changes there is stored as a row of its log and told like a message. Whether it may be
//! changed is decided where the row gets its seq.

use std::sync::Arc;

use super::Ops;
use crate::{
    model::{Cid, ConvId, Kind, NewMessage, RoomId, UserId, now_millis, room::Change},
    store::{Appended, StoreResult},
};

impl Ops {
    /// Stores a change that `sender` makes; `done` is called once, with its place in the room's log or why not.
    pub fn change(
        self: &Arc<Self>,
        room: &RoomId,
        sender: UserId,
        cid: Cid,
        change: &Change,
        done: impl FnOnce(&StoreResult<Appended>) + Send + 'static,
    ) {
        let event =
            NewMessage { kind: Kind::Event, ..NewMessage::of_user(sender, cid, now_millis(), change.to_body()) };
        self.appender.submit(ConvId::room(room), event, Box::new(done));
    }
}
