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
    /// In which direction from which seq.
    pub from: HistoryFrom,
    /// At most this many messages.
    pub limit: usize,
    /// The log as it is; otherwise edits, deletions and reactions are put into the messages that they are about.
    pub raw: bool,
}

/// Where a history page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The last messages before this seq.
    Before(Seq),
    /// The first messages after this seq.
    After(Seq),
    /// Half of them before this seq, half from it on.
    Around(Seq),
}

impl FromFields for History {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let from = match (fields.before, fields.after, fields.around) {
            (Some(before), None, None) => HistoryFrom::Before(seq("before", Some(before))?),
            (None, Some(After::Seq(after)), None) => HistoryFrom::After(seq("after", Some(after))?),
            (None, Some(After::Text(_)), None) => return Err(bad_frame("after: must be a seq")),
            (None, None, Some(around)) => HistoryFrom::Around(seq("around", Some(around))?),
            (None, None, None) => HistoryFrom::Before(MAX_SEQ),
            _ => return Err(bad_frame("before, after, around: give only one")),
        };
        let conv = name("conv", fields.conv)?;
        Ok(Self { conv, from, limit: limit(fields.limit, HISTORY_LIMIT)?, raw: fields.raw.unwrap_or(false) })
    }
}

/// A page of a log, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct HistoryPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which log.
    pub conv: ConvId,
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Whether there is more in the direction asked for; around a seq: whether there is more after the page.
    pub more: bool,
    /// Where the next page starts, given as `before` or `after`: there where there is more. Between the last message of this
    /// page and it may be rows that are shown in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Seq>,
}
