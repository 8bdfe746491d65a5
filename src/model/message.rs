//! Messages on their way into a log and out of it, and how far a device is behind. What the store takes and gives.

use super::{
    Body, Cid, ConvId, Counts, Kind, Millis, Refs, Seq, UserId,
    room::{Change, Room},
};

/// A message that has no place in its log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// What it is.
    pub kind: Kind,
    /// Who wrote it: a user or a service.
    pub sender: UserId,
    /// The sender is a service, which has no inbox: no head of the sender's is raised, and no read mark.
    pub service: bool,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// What it says.
    pub body: Body,
    /// The sender has been handed everything up to here: only then the message may move the sender's read mark. 0: that
    /// is not known.
    pub read_upto: Seq,
    /// What it refers to, if anything.
    pub refs: Option<Box<Refs>>,
}

impl NewMessage {
    /// A user's message, of which no more is known.
    pub fn of_user(sender: UserId, cid: Cid, ts: Millis, body: Body) -> Self {
        Self { kind: Kind::Message, sender, service: false, cid, ts, body, read_upto: 0, refs: None }
    }

    /// As it is stored in a room: a message lasts no longer than the room lets it.
    #[must_use]
    pub fn within(mut self, room: Option<&Room>) -> Self {
        if let (Kind::Message, Some(lifetime)) = (self.kind, room.and_then(|room| room.lifetime)) {
            let end = lifetime.end(self.ts);
            let refs = self.refs.get_or_insert_default();
            refs.expires = Some(refs.expires.map_or(end, |own| own.min(end)));
        }
        self
    }

    /// When nobody is shown its body any more.
    pub fn expires(&self) -> Option<Millis> {
        self.refs.as_ref().and_then(|refs| refs.expires)
    }

    /// Whether it mentions the user.
    pub fn mentions(&self, user: &UserId) -> bool {
        self.refs.as_ref().is_some_and(|refs| refs.mentions.contains(user))
    }

    /// Whether it says the same as another one of its sender and cid: then they are tries of one message.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.body == other.body
            && Refs::is_retry_of(self.refs.as_deref(), other.refs.as_deref())
    }

    /// Whether the row of its sender and cid says the same: then it is stored already.
    pub fn is_stored_as(&self, row: &Row) -> bool {
        self.kind == row.kind && self.body == row.body && Refs::is_retry_of(self.refs.as_deref(), row.refs.as_deref())
    }
}

/// Whether a message at `seq` moves its sender's read mark there: nothing below it was kept from the sender, who was
/// handed it (`read_upto`), or has read or written it (`mark`: up to where the mark is known to be).
pub fn moves_mark(seq: Seq, read_upto: Seq, mark: Seq) -> bool {
    read_upto.max(mark).saturating_add(1) >= seq
}

/// One row of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// What it is.
    pub kind: Kind,
    /// Who wrote it.
    pub sender: UserId,
    /// The sender is a service.
    pub service: bool,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// What it says.
    pub body: Body,
    /// How many messages the log has up to here, this one included.
    pub counts: Counts,
    /// What it refers to, if anything.
    pub refs: Option<Box<Refs>>,
}

impl Row {
    /// When nobody is shown its body any more.
    pub fn expires(&self) -> Option<Millis> {
        self.refs.as_ref().and_then(|refs| refs.expires)
    }

    /// Whether it mentions the user.
    pub fn mentions(&self, user: &UserId) -> bool {
        self.refs.as_ref().is_some_and(|refs| refs.mentions.contains(user))
    }

    /// Whether its time is over: then nobody is shown its body.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// Whom the room's event that it is puts out.
    pub fn puts_out(&self) -> Option<UserId> {
        Change::of_row(self.kind, &self.body)?.puts_out(&self.sender)
    }
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
