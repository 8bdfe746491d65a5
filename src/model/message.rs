//! Messages on their way into a log and out of it, and how far a device is behind. What the store takes and gives.

use super::{Body, Cid, ConvId, Millis, Seq, UserId};

/// A message that has no place in its log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Who wrote it: a user or a service.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// What it says.
    pub body: Body,
}

/// One message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// What it says.
    pub body: Body,
}

/// A conversation in which a device has not acknowledged everything: head > cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The conversation.
    pub conv: ConvId,
    /// Its recorded top.
    pub head: Seq,
    /// The device's stored cursor; 0 where it has none.
    pub cursor: Seq,
}
