//! What nodes say of a message and a user, in JSON.

use serde::{Deserialize, Serialize};

use crate::{
    model::{DeviceId, Kind, Millis, Seq, SessionId, UserId},
    operators::wire::State,
    routing::Seen,
};

/// What one node knows of a user's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// What the node does.
    pub state: State,
    /// Whether it has a connection to the NATS cluster that the user's subject is in.
    pub on_nats: bool,
    /// Those in a room too: whether there is a connection to the cluster of the room's subject.
    pub room_on_nats: bool,
    /// The user's sessions here.
    pub sessions: Vec<SessionFacts>,
    /// Other nodes that it heard of lately, where nodes know each other.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// A session, and how it stands to the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// Which.
    pub session: SessionId,
    /// Of which device.
    pub device: DeviceId,
    /// Since when it is there.
    pub since: Millis,
    /// What its task said; `None` where it said nothing in time.
    pub seen: Option<Seen>,
}

/// What the store says of a message and a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// How the user belongs to the conversation.
    pub standing: Standing,
    /// The name is a service's.
    pub is_service: bool,
    /// How far the log goes.
    pub top: Seq,
    /// The head that the user's devices go by; `None` where there is none.
    pub head: Option<Seq>,
    /// The message.
    pub row: Option<RowFacts>,
    /// The other one of a direct conversation, and whether one of the two blocks the other now.
    pub blocked: Option<(UserId, bool)>,
    /// The user has read up to here.
    pub read: Seq,
    /// One of the user's devices has acknowledged up to here.
    pub delivered: Seq,
    /// The user's devices.
    pub devices: Vec<DeviceFacts>,
}

/// How a user belongs to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// One of the two, or a member of the room when the message was written.
    In,
    /// A third one in a direct conversation.
    Foreign,
    /// There is no such room.
    NoRoom,
    /// No member of the room when the message was written; with the next seq that is for them, if any is.
    NotThen {
        /// They are in the room now, from this seq on.
        since: Option<Seq>,
        /// They were in it up to this seq.
        until: Option<Seq>,
    },
}

/// A message, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFacts {
    /// What it is.
    pub kind: Kind,
    /// Who wrote it.
    pub from: UserId,
    /// When a node took it.
    pub ts: Millis,
    /// How many messages the log has up to it: in a room of all, in a direct conversation of both sides.
    pub count: u64,
    /// When nobody is shown its body any more.
    pub expires: Option<Millis>,
    /// It has expired.
    pub is_expired: bool,
    /// Who deleted it.
    pub deleted_by: Option<UserId>,
    /// Somebody changed it.
    pub is_edited: bool,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Which.
    pub device: DeviceId,
    /// Its stored cursor in the conversation.
    pub cursor: Seq,
    /// When it was last known to be in use.
    pub seen: Millis,
}
