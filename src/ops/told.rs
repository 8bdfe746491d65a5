//! What services are told of messages and of rooms, from what was stored. Called by the appender, off the path of the answer.

use crate::{
    events::Events,
    model::{ConvId, Kind, NewMessage, room::Change},
    protocol::event::{EventKind, Room, What},
    routing::shown,
    store::Appended,
};

/// A batch was stored and answered. Second tries are told again: the node that had the first may have died before it told.
/// Whoever hears of one twice knows it by its place.
pub(super) fn on_stored(events: &Events, conv: &ConvId, batch: &[(NewMessage, Appended)]) {
    for (message, appended) in batch {
        match message.kind {
            Kind::Event => events.tell(EventKind::Room, || room(conv, message, appended)),
            _ => events.tell(EventKind::Message, || What::Message(shown(conv, message, appended))),
        }
    }
}

fn room(conv: &ConvId, message: &NewMessage, appended: &Appended) -> What {
    let (Some(room), Some(change)) = (conv.as_room(), Change::of_row(message.kind, &message.body)) else {
        // A row of a later version: told as it is.
        return What::Message(shown(conv, message, appended));
    };
    What::Room(Room { room, conv: conv.clone(), seq: appended.seq, by: message.sender.clone(), change })
}
