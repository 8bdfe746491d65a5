//! `conversations`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use crate::{
    model::{ConvId, Millis, Seq},
    protocol::{
        Message, Refused,
        fields::{After, Fields, FromFields, bad_frame, limit},
    },
};

/// Most conversations in one answer.
pub const CONVERSATIONS_LIMIT: usize = 100;

/// Asks for the list of conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversations {
    /// Where the page before ended.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

impl FromFields for Conversations {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let after = match fields.after {
            None => None,
            Some(After::Text(text)) => Some(text),
            Some(After::Seq(_)) => return Err(bad_frame("after: must be the `next` of an answer")),
        };
        Ok(Self { after, limit: limit(fields.limit, CONVERSATIONS_LIMIT)? })
    }
}

/// A page of the list of conversations, most recent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ConversationsPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Most recent first.
    pub items: Vec<Conversation>,
    /// Give it as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One row of the list of conversations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Conversation {
    /// Which.
    pub conv: ConvId,
    /// Its top.
    pub head: Seq,
    /// The time of its last message.
    pub ts: Millis,
    /// The user's read mark.
    pub read: Seq,
    /// Messages of the other side after the read mark.
    pub unread: Seq,
    /// How many of those after the read mark mention the user.
    #[serde(default)]
    pub mentions: u64,
    /// The last message; absent when it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Message>,
    /// How far the other side is (direct conversations).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerMarks>,
}

/// How far the other side of a direct conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct PeerMarks {
    /// Acknowledged by one of its devices.
    pub delivered: Seq,
    /// Read by the person.
    pub read: Seq,
}
