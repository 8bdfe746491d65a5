//! A frame that goes to several sessions: encoded once, and transcoded to JSON at most once per node.
//!
//! Made by the router, queued in mailboxes, written by connections.

use std::sync::OnceLock;

use bytes::Bytes;

use super::{Encoding, ServerFrame, json_of};
use crate::model::{ConvId, Seq, UserId};

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
    /// The `message` frame.
    pub frame: SharedFrame,
    /// Whether it came over the bus, for the metric.
    pub from_bus: bool,
}

impl LiveMessage {
    /// Its size on the way out, about, in bytes.
    pub fn size(&self) -> usize {
        self.frame.msgpack.len()
    }
}
