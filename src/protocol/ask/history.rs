//! `history`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use crate::{
    model::{ConvId, MAX_SEQ, Seq},
    protocol::{
        Message, Refused,
        fields::{After, Fields, FromFields, bad_frame, limit, name, seq},
    },
};

/// Most messages in one answer.
pub const HISTORY_LIMIT: usize = 200;

/// Asks for older or newer messages of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Where.
    pub conv: ConvId,
    /// In which direction from which seq (exclusive).
    pub from: HistoryFrom,
    /// At most this many messages.
    pub limit: usize,
}

/// Where a history page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The last messages before this seq.
    Before(Seq),
    /// The first messages after this seq.
    After(Seq),
}

impl FromFields for History {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let from = match (fields.before, fields.after) {
            (Some(_), Some(_)) => return Err(bad_frame("before, after: give only one")),
            (Some(before), None) => HistoryFrom::Before(seq("before", Some(before))?),
            (None, Some(After::Seq(after))) => HistoryFrom::After(seq("after", Some(after))?),
            (None, Some(After::Text(_))) => return Err(bad_frame("after: must be a seq")),
            (None, None) => HistoryFrom::Before(MAX_SEQ),
        };
        let conv = name("conv", fields.conv)?;
        Ok(Self { conv, from, limit: limit(fields.limit, HISTORY_LIMIT)? })
    }
}

/// A page of a log, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which log.
    pub conv: ConvId,
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Whether there is more in the direction asked for.
    pub more: bool,
}
