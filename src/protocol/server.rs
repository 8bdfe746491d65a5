//! Frames from a node: to clients, and between nodes on users' subjects.

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Body, Encoding, ErrorCode,
    ask::{
        Blocking, BlocksPage, ConversationsPage, EndSession, Ended, HistoryPage, MembersPage, Presences, ReadersPage,
        RoomChanged, RoomShown, RoomsPage, Seen, Sent, SessionsPage,
    },
    people,
};
use crate::model::{
    Cid, ConvId, DeviceId, Folded, Kind, Millis, Reacted, Refs, Row, Seq, SessionId, UserId, room::Change,
};

/// Everything a node can say to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to `hello`.
    Welcome(Welcome),
    /// The message is durable.
    Sent(Sent),
    /// A message in its place in the order.
    Message(Message),
    /// An event of a room changed what this user is in it: joined, invited, put out, another role. At once and in no order;
    /// those who are in the room get the event as a message as well.
    Member(Message),
    /// A page of a log, oldest first.
    History(HistoryPage),
    /// A page of the list of conversations, most recent first.
    Conversations(ConversationsPage),
    /// One's devices and live sessions.
    Sessions(SessionsPage),
    /// Sessions that were ended.
    Ended(Ended),
    /// A room was changed as asked.
    Changed(RoomChanged),
    /// One room.
    Room(RoomShown),
    /// A page of one's rooms.
    Rooms(RoomsPage),
    /// A page of a room's members.
    Members(MembersPage),
    /// Who is online.
    Presences(Presences),
    /// A user is blocked, or not, as asked.
    Blocking(Blocking),
    /// A page of those whom one has blocked.
    Blocks(BlocksPage),
    /// Somebody whom the session watches came or went.
    Presence(Seen),
    /// A page of those who have read a room up to a seq.
    Readers(ReadersPage),
    /// How far somebody has received or read a conversation.
    Receipt(Receipt),
    /// A live signal.
    Signal(Signal),
    /// Everything missed has been handed out.
    CaughtUp {
        /// For the next `hello`: with it a login of this device compares nothing while nothing has changed. Opaque;
        /// only given when the device has everything, and has acknowledged it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
        since: Option<CompactString>,
    },
    /// A backlog was cut; the rest is there through `history`.
    Truncated {
        /// Which conversation.
        conv: ConvId,
        /// The first seq that follows.
        from: Seq,
    },
    /// The node is about to close the connection.
    Goodbye {
        /// Why.
        reason: String,
        /// When to come back.
        reconnect_ms: u64,
    },
    /// The fresh token was taken.
    TokenOk {
        /// The request's `ref`.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// When it ends.
        exp: Millis,
    },
    /// The answer to `ping`.
    Pong {
        /// The request's `ref`.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
    /// A request was refused.
    Error {
        /// The request's `ref`.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// Which kind.
        code: ErrorCode,
        /// Which field, what limit, what to do.
        message: String,
        /// Whether the same request may succeed later.
        retry: bool,
        /// How long to wait before that, in milliseconds: always with `rate_limited`, with no other code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

impl ServerFrame {
    /// The `ref` of the request that it answers; `None` for a frame that answers none.
    pub fn reference(&self) -> Option<u64> {
        match self {
            Self::Welcome(Welcome { reference, .. })
            | Self::Sent(Sent { reference, .. })
            | Self::History(HistoryPage { reference, .. })
            | Self::Conversations(ConversationsPage { reference, .. })
            | Self::Sessions(SessionsPage { reference, .. })
            | Self::Ended(Ended { reference, .. })
            | Self::Changed(RoomChanged { reference, .. })
            | Self::Room(RoomShown { reference, .. })
            | Self::Rooms(RoomsPage { reference, .. })
            | Self::Members(MembersPage { reference, .. })
            | Self::Presences(Presences { reference, .. })
            | Self::Blocking(Blocking { reference, .. })
            | Self::Blocks(BlocksPage { reference, .. })
            | Self::Readers(ReadersPage { reference, .. })
            | Self::TokenOk { reference, .. }
            | Self::Pong { reference }
            | Self::Error { reference, .. } => *reference,
            Self::Message(_)
            | Self::Member(_)
            | Self::Receipt(_)
            | Self::Signal(_)
            | Self::Presence(_)
            | Self::CaughtUp { .. }
            | Self::Truncated { .. }
            | Self::Goodbye { .. } => None,
        }
    }
}

/// What a session is told at its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Welcome {
    /// The `ref` of the hello.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Who the token says it is.
    pub user: UserId,
    /// The device as it named itself.
    pub device: DeviceId,
    /// This connection.
    pub session: SessionId,
    /// The device was not known: it starts at the user's read marks, and of what it may have had before natter knows
    /// nothing. So it is the first time, or the device was retired meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
    /// The node.
    pub node: String,
    /// The node's clock.
    pub ts: Millis,
    /// When the token ends.
    pub exp: Millis,
    /// The node pings this often; a client that hears nothing for twice as long should reconnect.
    pub ping_secs: u64,
    /// What the client must keep to.
    pub limits: Limits,
}

/// What a client must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Bytes of a body, in either encoding.
    pub body: usize,
    /// Messages handed out and not yet acknowledged.
    pub window: usize,
}

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Message {
    /// Which log.
    pub conv: ConvId,
    /// Its place.
    pub seq: Seq,
    /// What it is; not written where it is a message.
    #[serde(default, skip_serializing_if = "Kind::is_message")]
    pub kind: Kind,
    /// Who wrote it.
    pub from: UserId,
    /// When a node took it.
    pub ts: Millis,
    /// The sender's id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<Cid>,
    /// The content; none where it expired or was deleted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Of an edit, a deletion, a reaction: the message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<Seq>,
    /// The message that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Whom it mentions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// From then on nobody is shown its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Millis>,
    /// Its time is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Folded: when its text was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited: Option<Millis>,
    /// Folded: who deleted it. Also of one whose sender was erased, then the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<UserId>,
    /// Folded: who reacts to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reacted>,
}

/// `null` is a body like any other.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Body>, D::Error> {
    Body::deserialize(deserializer).map(Some)
}

impl Message {
    /// A message of somebody of which no more is known than this. One of which nobody can open the body any more was erased: as
    /// if its sender had deleted it.
    pub fn new(conv: ConvId, seq: Seq, from: UserId, ts: Millis, body: Body) -> Self {
        let (deleted, body) = if body.is_sealed() { (Some(from.clone()), None) } else { (None, Some(body)) };
        Self {
            conv,
            seq,
            kind: Kind::Message,
            from,
            ts,
            cid: None,
            body,
            re: None,
            reply_to: None,
            mentions: Vec::new(),
            expires: None,
            expired: false,
            edited: None,
            deleted,
            reactions: Vec::new(),
        }
    }

    /// A row of a log as clients see it at a time.
    pub fn of(conv: &ConvId, row: Row, now: Millis) -> Self {
        let Row { seq, kind, sender, cid, ts, body, refs, .. } = row;
        let message = Self { kind, cid: Some(cid), ..Self::new(conv.clone(), seq, sender, ts, body) };
        message.with_refs(refs, now)
    }

    /// With what it refers to, at a time: an expired one has no body.
    #[must_use]
    pub fn with_refs(mut self, refs: Option<Box<Refs>>, now: Millis) -> Self {
        let Some(refs) = refs else { return self };
        let Refs { re, reply_to, mentions, expires } = *refs;
        self.re = re.map(|target| target.seq());
        (self.reply_to, self.mentions, self.expires) = (reply_to, mentions, expires);
        self.expired = expires.is_some_and(|expires| expires <= now);
        if self.expired {
            self.body = None;
        }
        self
    }

    /// With what was made of it.
    #[must_use]
    pub fn folded(mut self, folded: Folded) -> Self {
        let Folded { edited, deleted, reactions } = folded;
        if deleted.is_some() {
            (self.deleted, self.body) = (deleted, None);
            return self;
        }
        // Whoever is erased is so with all that was said.
        if self.deleted.is_some() || edited.as_ref().is_some_and(|edited| edited.body.is_sealed()) {
            (self.deleted, self.body) = (Some(self.from.clone()), None);
            return self;
        }
        if let Some(edited) = edited {
            self.edited = Some(edited.ts);
            // What has expired stays without.
            self.body = self.body.map(|_| edited.body);
        }
        self.reactions = reactions;
        self
    }
}

/// How far somebody has received or read a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// Which conversation.
    pub conv: ConvId,
    /// Who.
    pub user: UserId,
    /// Everything up to here was acknowledged by one of the user's devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Seq>,
    /// Everything up to here was read by the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
}

/// A live signal, never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Signal {
    /// Which conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conv: Option<ConvId>,
    /// Who.
    pub from: UserId,
    /// `typing` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

/// Between nodes only, on the user's subject: a session of this device exists here (R11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Which device.
    pub device: DeviceId,
    /// Which session.
    pub session: SessionId,
    /// Its connection's number.
    #[serde(default)]
    pub number: u64,
    /// Its `hello.attempt`.
    pub attempt: u64,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum BusOut<'a> {
    Session(&'a Announcement),
    Head { conv: &'a ConvId, seq: Seq },
    Who { reply: &'a str },
    End { which: &'a EndSession, reply: &'a str },
}

/// The payload that asks a user's nodes for the sessions there; each answers to `reply`.
pub fn encode_who(reply: &str) -> Bytes {
    Encoding::MsgPack.encode(&BusOut::Who { reply })
}

/// The payload that has a user's nodes end sessions; those that did answer to `reply` with which.
pub fn encode_end(which: &EndSession, reply: &str) -> Bytes {
    Encoding::MsgPack.encode(&BusOut::End { which, reply })
}

/// The payload that tells a user's nodes how far a conversation is, without the message: from a node that was cut
/// off while it stored it.
pub fn encode_head(conv: &ConvId, seq: Seq) -> Bytes {
    Encoding::MsgPack.encode(&BusOut::Head { conv, seq })
}

impl Announcement {
    /// The payload on the user's subject.
    pub fn encode(&self) -> Bytes {
        Encoding::MsgPack.encode(&BusOut::Session(self))
    }
}

/// What a payload on a user's subject is, read no further than routing needs.
#[derive(Debug, Clone, PartialEq)]
pub enum OnBus {
    /// A message: its place; the payload itself goes to the clients.
    Message {
        /// Which log.
        conv: ConvId,
        /// Its place.
        seq: Seq,
        /// Whom it puts out of its room.
        puts_out: Option<UserId>,
        /// From then on nobody is shown its body.
        expires: Option<Millis>,
        /// When a node took it; 0 where it does not say.
        ts: Millis,
    },
    /// What the user is in a room was changed by the event there; the payload itself goes to the clients.
    Member {
        /// The room's log.
        conv: ConvId,
        /// The event's place.
        seq: Seq,
    },
    /// A conversation is at least so far; not for clients.
    Head {
        /// Which log.
        conv: ConvId,
        /// A seq that exists in it.
        seq: Seq,
    },
    /// Goes to the clients as it is: a receipt or a signal.
    Passing,
    /// Not for clients.
    Session(Announcement),
    /// A node asks which sessions there are.
    Who(Asked),
    /// A node ends sessions.
    End(Asked, EndSession),
    /// A node asks whether the user is here: the reply goes where a request's does.
    Probe,
    /// One of the two blocked the other, or unblocked: what is known of that is to be read again.
    Blocked {
        /// Who did it.
        user: UserId,
        /// Whom it is about.
        other: UserId,
    },
    /// A signal to a room.
    RoomSignal {
        /// Who is not to get it.
        except: Vec<UserId>,
        /// The signal.
        signal: Signal,
    },
}

/// Where a node wants its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// A subject of the node that asks: text from outside.
    pub reply: CompactString,
}

impl OnBus {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it. Only nodes may publish there (R13), so an error means a node of another version.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Peek<'a> {
            op: &'a str,
            conv: Option<ConvId>,
            seq: Option<Seq>,
            #[serde(default)]
            kind: Kind,
            expires: Option<Millis>,
            #[serde(default)]
            ts: Millis,
            reply: Option<CompactString>,
            which: Option<EndSession>,
        }
        let encoding = Encoding::sniff(payload);
        let peek: Peek<'_> = encoding.decode(payload)?;
        if let Some(reply) = peek.reply {
            return match (peek.op, peek.which) {
                ("who", None) => Ok(Self::Who(Asked { reply })),
                ("end", Some(which)) => Ok(Self::End(Asked { reply }, which)),
                (op, _) => Err(format!("unexpected op {op:?} with a reply on a user's subject")),
            };
        }
        match (peek.op, peek.conv, peek.seq) {
            ("message", Some(conv), Some(seq)) if peek.kind == Kind::Event => {
                let Message { from, body, .. } = encoding.decode(payload)?;
                let change = body.as_ref().and_then(|body| Change::of_row(peek.kind, body));
                let puts_out = change.and_then(|change| change.puts_out(&from));
                Ok(Self::Message { conv, seq, puts_out, expires: None, ts: peek.ts })
            }
            ("message", Some(conv), Some(seq)) => {
                Ok(Self::Message { conv, seq, puts_out: None, expires: peek.expires, ts: peek.ts })
            }
            ("member", Some(conv), Some(seq)) => Ok(Self::Member { conv, seq }),
            ("head", Some(conv), Some(seq)) => Ok(Self::Head { conv, seq }),
            ("receipt" | "signal", ..) => Ok(Self::Passing),
            ("session", ..) => encoding.decode(payload).map(Self::Session),
            ("probe" | "blocked" | "room_signal", ..) => people::read(peek.op, encoding, payload),
            (op, ..) => Err(format!("unexpected op {op:?} on a user's subject")),
        }
    }
}
