//! What a service is asked about a message before it is stored, on `natter.hook.<service>.send`, and what it answers.
//! Called by `ops`.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::{Body, event::VERSION};
use crate::model::{Cid, ConvId, Kind, Millis, NewMessage, Seq, Target, UserId};

/// A message, or an edit, that is about to be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Question {
    /// The version of the format, that of events.
    pub v: u32,
    /// Which conversation.
    pub conv: ConvId,
    /// `message`, or `edit`.
    pub kind: Kind,
    /// Who writes it.
    pub from: UserId,
    /// Whether that is a service.
    pub service: bool,
    /// The sender's id for it.
    pub cid: Cid,
    /// When a node took it.
    pub ts: Millis,
    /// What it says.
    pub body: Body,
    /// Of an edit: the message that gets another text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<Seq>,
    /// The message that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Whom it mentions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
}

/// What the service makes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Decision {
    /// Whether it may be sent.
    pub allow: bool,
    /// Where it may not: why, in words for the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(value_type = Option<String>))]
    pub message: Option<CompactString>,
    /// Where it may: what it says instead.
    #[serde(default, deserialize_with = "super::server::present", skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

impl Question {
    /// Of a message for a conversation.
    pub fn of(conv: &ConvId, message: &NewMessage) -> Self {
        let refs = message.refs.as_deref();
        Self {
            v: VERSION,
            conv: conv.clone(),
            kind: message.kind,
            from: message.sender.clone(),
            service: message.service,
            cid: message.cid.clone(),
            ts: message.ts,
            body: message.body.clone(),
            re: refs.and_then(|refs| refs.re.as_ref()).map(Target::seq),
            reply_to: refs.and_then(|refs| refs.reply_to),
            mentions: refs.map(|refs| refs.mentions.clone()).unwrap_or_default(),
        }
    }
}
