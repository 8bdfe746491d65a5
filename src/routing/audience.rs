//! From a conversation to the subjects on which its news is published: one per user of a direct conversation, one of a room.
//!
//! Called by the router.

use crate::{
    model::{Audience, ConvId, NewMessage, UserId},
    subject::Subject,
};

/// Who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The name.
    pub name: UserId,
    /// It is a service: nobody listens in its name.
    pub service: bool,
}

impl Sender {
    /// Of a message.
    pub fn of(message: &NewMessage) -> Self {
        Self { name: message.sender.clone(), service: message.service }
    }
}

/// Calls `each` with the subjects on which a message of `sender` is published: the recipients' first, the sender's own
/// last (R2, R6), unless that is a service. With each recipient comes the user of whom push services are told when nobody
/// holds them.
pub fn each_of_message(conv: &ConvId, sender: &Sender, mut each: impl FnMut(&Subject, Option<&UserId>)) {
    if let Some(room) = conv.as_room() {
        return each(&Subject::room(&room), None);
    }
    let Some(audience) = Audience::of(conv) else { return };
    let Sender { name: sender, service } = sender;
    for user in audience.recipients_first(sender).filter(|user| !*service || *user != sender) {
        each(&Subject::user(user), (user != sender).then_some(user));
    }
}

/// Calls `each` with every subject on which the conversation's news is published.
pub fn each_of_conversation(conv: &ConvId, mut each: impl FnMut(&Subject)) {
    if let Some(room) = conv.as_room() {
        return each(&Subject::room(&room));
    }
    let audience = Audience::of(conv);
    for user in audience.iter().flat_map(Audience::users) {
        each(&Subject::user(user));
    }
}
