//! Bodies that were stored and cannot be written in an encoding: what holds them goes out without those. The check on the way in
//! keeps such bodies out of the store (R14), but what lies on a disk may have been damaged there.
//!
//! Called by the gateway for frames and by `services` for answers.

use super::{
    Answer, Encoding, Message, ServerFrame,
    ask::{ConversationsPage, HistoryPage, RoomView, RoomsPage},
};

/// Something with messages of logs in it that may be missing.
pub trait HoldsMessages: Clone {
    /// Takes out the messages that are not to be kept.
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool);

    /// The same without the messages that cannot be written, and how many those are.
    fn without_unwritable(&self, encoding: Encoding) -> (Self, u64) {
        let (mut rest, mut left_out) = (self.clone(), 0);
        rest.retain(&mut |message| {
            let is_writable = encoding.try_encode(&message.body).is_ok();
            left_out += u64::from(!is_writable);
            is_writable
        });
        (rest, left_out)
    }
}

impl HoldsMessages for HistoryPage {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        self.messages.retain(keep);
    }
}

impl HoldsMessages for ConversationsPage {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        self.items.iter_mut().for_each(|item| item.last = item.last.take().filter(|last| keep(last)));
    }
}

impl HoldsMessages for RoomView {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        if let Some(log) = &mut self.log {
            log.last = log.last.take().filter(|last| keep(last));
        }
    }
}

impl HoldsMessages for RoomsPage {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        self.items.iter_mut().for_each(|room| room.retain(keep));
    }
}

impl HoldsMessages for ServerFrame {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        match self {
            Self::History(page) => page.retain(keep),
            Self::Conversations(page) => page.retain(keep),
            Self::Room(room) => room.view.retain(keep),
            Self::Rooms(page) => page.retain(keep),
            _ => {}
        }
    }
}

impl HoldsMessages for Answer {
    fn retain(&mut self, keep: &mut dyn FnMut(&Message) -> bool) {
        match self {
            Self::History(page) => page.retain(keep),
            Self::Conversations(page) => page.retain(keep),
            Self::Room(room) => room.view.retain(keep),
            Self::Rooms(page) => page.retain(keep),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, ConvId, UserId};

    #[test]
    fn what_cannot_be_written_is_left_out_and_nothing_else() {
        let conv = ConvId::new("dm:alice:bob").unwrap();
        let not_a_number = Body::from_stored(b"\xcb\x7f\xf8\0\0\0\0\0\0"[..].into());
        let bodies = [Body::text("one"), not_a_number, Body::text("three")];
        let message = |(seq, body)| Message::new(conv.clone(), seq, UserId::new("alice").unwrap(), 1, body);
        let messages = (1..).zip(bodies).map(message).collect();
        let page = HistoryPage { reference: None, conv: conv.clone(), messages, more: false, next: None };
        let frame = ServerFrame::History(page.clone());
        assert!(Encoding::Json.try_encode(&frame).is_err());
        let (rest, left_out) = frame.without_unwritable(Encoding::Json);
        let ServerFrame::History(HistoryPage { messages, .. }) = &rest else { panic!("{rest:?}") };
        assert_eq!((messages.iter().map(|message| message.seq).collect::<Vec<_>>(), left_out), (vec![1, 3], 1));
        assert!(Encoding::Json.try_encode(&rest).is_ok());
        let (rest, left_out) = Answer::History(page).without_unwritable(Encoding::MsgPack);
        assert!(
            left_out == 1 && matches!(rest, Answer::History(page) if page.messages.len() == 2),
            "the same in an answer"
        );
    }
}
