//! A frame that goes to several sessions: encoded once, transcoded at most once per node.
//!
//! Made by the router, queued in mailboxes, written by pumps.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    model::{ConvId, Row, Seq},
    protocol::{Encoding, Message, ServerFrame, json_of},
    session::delivery::Placed,
};

/// A frame as MessagePack, with its JSON once somebody needed it.
#[derive(Debug)]
pub struct Shared {
    msgpack: Bytes,
    json: OnceLock<Bytes>,
}

impl Shared {
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

    /// The frame in a client's encoding.
    pub fn bytes(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::MsgPack => self.msgpack.clone(),
            Encoding::Json => self.json.get_or_init(|| json_of(&self.msgpack).unwrap_or_default()).clone(),
        }
    }
}

/// A message on its way to sessions that wait for just it.
#[derive(Debug)]
pub struct Live {
    /// Which log.
    pub conv: ConvId,
    /// Its place.
    pub seq: Seq,
    /// The `message` frame.
    pub frame: Shared,
    /// How it came here, for the metric.
    pub from_bus: bool,
}

impl Placed for Arc<Live> {
    fn seq(&self) -> Seq {
        self.seq
    }

    fn size(&self) -> usize {
        self.frame.msgpack.len()
    }
}

impl Placed for Row {
    fn seq(&self) -> Seq {
        self.seq
    }

    fn size(&self) -> usize {
        // The frame around a body: names and numbers.
        self.body.size() + 96
    }
}

/// A row as the message that clients see.
pub fn message_of(conv: &ConvId, row: Row) -> Message {
    Message { conv: conv.clone(), seq: row.seq, from: row.sender, ts: row.ts, cid: Some(row.cid), body: row.body }
}
