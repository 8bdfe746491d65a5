//! `send`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use crate::{
    model::{Cid, ConvId, Millis, Recipient, Seq},
    protocol::{
        Body, Refused,
        fields::{Fields, FromFields, name, need},
    },
};

/// Sends a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// To whom.
    pub to: Recipient,
    /// The sender's id for it.
    pub cid: Cid,
    /// The content.
    pub body: Body,
    /// The sender's session had been handed everything up to here, and so may have shown it. Not in the frame: the session
    /// knows it. 0 for whoever has no session.
    pub handed: Seq,
}

impl FromFields for Send {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let (to, cid, body) = (name("to", fields.to)?, name("cid", fields.cid)?, need("body", fields.body)?);
        Ok(Self { to, cid, body, handed: 0 })
    }
}

/// The message is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Where it stands.
    pub conv: ConvId,
    /// Its place.
    pub seq: Seq,
    /// The time stored with it.
    pub ts: Millis,
}
