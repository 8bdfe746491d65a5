//! A frame that goes to several sessions: encoded once, and transcoded to JSON at most once per node.
//!
//! Made by the router, queued in mailboxes, written by connections.

use std::sync::OnceLock;

use bytes::Bytes;

use super::{Encoding, Message, ServerFrame, json_of};
use crate::model::{ConvId, Millis, Seq, UserId};

/// A frame as MessagePack, with its JSON once somebody needed it.
#[derive(Debug)]
pub struct SharedFrame {
    msgpack: Bytes,
    json: OnceLock<Option<Bytes>>,
}

impl SharedFrame {
    /// A frame that is encoded here.
    pub fn of(frame: &ServerFrame) -> Self {
        Self::encoded(Encoding::MsgPack.encode(frame))
    }

    /// A frame that arrived encoded.
    pub fn encoded(msgpack: Bytes) -> Self {
        Self { msgpack, json: OnceLock::new() }
    }

    /// The payload for the bus: byte for byte what a MessagePack client gets.
    pub fn msgpack(&self) -> &Bytes {
        &self.msgpack
    }

    /// The frame in a client's encoding; nothing where its body cannot be written in that.
    pub fn bytes(&self, encoding: Encoding) -> Option<Bytes> {
        match encoding {
            Encoding::MsgPack => Some(self.msgpack.clone()),
            Encoding::Json => self.json.get_or_init(|| json_of(&self.msgpack).ok()).clone(),
        }
    }
}

/// A message on its way to sessions that may be waiting for just this one.
#[derive(Debug)]
pub struct LiveMessage {
    /// Which log.
    pub conv: ConvId,
    /// Its place.
    pub seq: Seq,
    /// Whom it puts out of its room.
    pub puts_out: Option<UserId>,
    /// From then on nobody is shown its body.
    pub expires: Option<Millis>,
    /// When a node took it, by that node's clock: for the metric. 0 where that is not known.
    pub ts: Millis,
    /// The `message` frame.
    pub frame: SharedFrame,
    /// Whether it came over the bus, for the metric.
    pub from_bus: bool,
}

impl LiveMessage {
    /// The frame in a client's encoding at a time: without its body once that has expired while it waited.
    pub fn bytes(&self, encoding: Encoding, now: impl FnOnce() -> Millis) -> Option<Bytes> {
        match self.expires {
            Some(expires) if expires <= now() => expired(self.frame.msgpack(), encoding),
            _ => self.frame.bytes(encoding),
        }
    }

    /// Its size on the way out, about, in bytes.
    pub fn size(&self) -> usize {
        self.frame.msgpack.len()
    }
}

fn expired(msgpack: &Bytes, encoding: Encoding) -> Option<Bytes> {
    let ServerFrame::Message(message) = ServerFrame::decode(Encoding::MsgPack, msgpack).ok()? else { return None };
    Some(encoding.encode(&ServerFrame::Message(Message { body: None, expired: true, ..message })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Body;

    #[test]
    fn what_expired_while_it_waited_goes_out_without_its_body() {
        let (conv, from) = (ConvId::new("dm:alice:bob").unwrap(), UserId::new("alice").unwrap());
        let message = Message { expires: Some(100), ..Message::new(conv.clone(), 1, from, 9, Body::text("secret")) };
        let frame = SharedFrame::of(&ServerFrame::Message(message.clone()));
        let live = LiveMessage { conv, seq: 1, puts_out: None, expires: Some(100), ts: 9, frame, from_bus: false };
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let shown = |now| ServerFrame::decode(encoding, &live.bytes(encoding, || now).unwrap());
            assert_eq!(shown(99), Ok(ServerFrame::Message(message.clone())));
            let gone = Message { body: None, expired: true, ..message.clone() };
            assert_eq!(shown(100), Ok(ServerFrame::Message(gone)));
        }
    }
}
