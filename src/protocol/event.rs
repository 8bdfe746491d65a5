//! Events: what nodes tell services and webhooks, on `natter.event.<kind>`. Versioned, always JSON, and never the truth: the
//! log is. The golden files under `tests/golden/event` hold one of each, `docs/schemas` their JSON Schemas.
//!
//! Made by `routing`, `ops`, `presence` and the gateway; published by `events`.

use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Serialize};

use super::Message;
use crate::model::{ConvId, DeviceId, Millis, RoomId, Seq, SessionId, UserId, room::Change};

/// The version of all events. Another one comes only with a change that readers of this one would misread; new fields and
/// new kinds do not count.
pub const VERSION: u32 = 1;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident, $word:literal;)*) => {
        /// What an event is about: the last part of its subject.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EventKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl EventKind {
            /// All kinds, for configuration, metrics, tests and documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its word in subjects, in configuration and in the event itself.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it tells, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }
        }

        /// What happened.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "event", rename_all = "snake_case")]
        pub enum What {
            $($(#[doc = $doc])* $name($name),)*
        }

        impl What {
            /// Of which kind it is.
            pub fn kind(&self) -> EventKind {
                match self { $(Self::$name(_) => EventKind::$name,)* }
            }
        }
    };
}

kinds! {
    /// Messages of a conversation reached no device of a user.
    Offline, "offline";
    /// A room with too many members to tell of each has a message.
    RoomMessage, "room_message";
    /// A user came online on the first device, or went offline on the last.
    Presence, "presence";
    /// A session started or ended.
    Session, "session";
    /// A room was made, or somebody changed something about it.
    Room, "room";
    /// A device has acknowledged a conversation up to a message.
    Delivered, "delivered";
    /// A message, an edit, a deletion or a reaction was stored.
    Message, "message";
}

/// An event as it is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The version of the format: [`VERSION`].
    pub v: u32,
    /// The same for the same happening, whoever tells it and however often, where it has a place in a log or a session.
    pub id: CompactString,
    /// The node that tells it.
    pub node: CompactString,
    /// When it was told, by that node's clock.
    pub at: Millis,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// See [`EventKind::Offline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Offline {
    /// Who has not got it.
    pub user: UserId,
    /// Who wrote the last message.
    pub from: UserId,
    /// Which conversation.
    pub conv: ConvId,
    /// The place of the last message.
    pub seq: Seq,
    /// One of the messages mentions the user.
    pub mention: bool,
    /// How many messages of the conversation the user has not read; left out where the store did not say so in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<u64>,
}

/// See [`EventKind::RoomMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RoomMessage {
    /// The room's conversation.
    pub conv: ConvId,
    /// Who wrote the last message.
    pub from: UserId,
    /// The place of the last message.
    pub seq: Seq,
    /// How many members the room has.
    pub members: u32,
}

/// See [`EventKind::Presence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Came, or went.
    pub online: bool,
    /// When that was, by the node's clock.
    pub since: Millis,
}

/// See [`EventKind::Session`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Session {
    /// Whose.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Which one.
    pub session: SessionId,
    /// Started, or ended.
    pub started: bool,
    /// Why it ended: a label of the table of close codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub reason: Option<CompactString>,
}

/// See [`EventKind::Room`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Room {
    /// Which room.
    pub room: RoomId,
    /// Its conversation.
    pub conv: ConvId,
    /// The event's place there.
    pub seq: Seq,
    /// Who did it.
    pub by: UserId,
    /// What was done: the body of the room's event.
    pub change: Change,
}

/// See [`EventKind::Delivered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Delivered {
    /// Whose device.
    pub user: UserId,
    /// Which one.
    pub device: DeviceId,
    /// Which conversation.
    pub conv: ConvId,
    /// Everything up to here.
    pub seq: Seq,
}

impl What {
    /// The id of the event: of what has a place in a log or a session it is made of that, so that whoever hears of it twice
    /// can tell. Without a dot, as webhooks have it.
    fn id(&self) -> CompactString {
        match self {
            Self::Message(message) => format_compact!("message:{}:{}", message.conv, message.seq),
            Self::Room(room) => format_compact!("room:{}:{}", room.conv, room.seq),
            Self::Delivered(Delivered { user, device, conv, seq }) => {
                format_compact!("delivered:{conv}:{seq}:{user}:{device}")
            }
            Self::Session(Session { session, started, .. }) => {
                format_compact!("session:{session}:{}", if *started { "started" } else { "ended" })
            }
            Self::Offline(_) | Self::RoomMessage(_) | Self::Presence(_) => {
                format_compact!("{}:{:032x}", self.kind().word(), rand::random::<u128>())
            }
        }
    }
}

impl Event {
    /// Told by `node` now.
    pub fn new(node: &str, at: Millis, what: What) -> Self {
        Self { v: VERSION, id: what.id(), node: node.into(), at, what }
    }
}
