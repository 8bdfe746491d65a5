//! `send`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use crate::{
    model::{Cid, ConvId, Millis, Recipient, Refs, Seq, UserId, room::Lifetime},
    protocol::{
        Body, Refused,
        fields::{Fields, FromFields, bad_frame, name, need, seq},
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
    /// What it refers to, and how long it counts.
    pub options: SendOptions,
    /// The sender's session had been handed everything up to here, and so may have shown it. Not in the frame: the session
    /// knows it. 0 for whoever has no session.
    pub handed: Seq,
}

/// What a message refers to, and how long it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// The message that it replies to.
    pub reply_to: Option<Seq>,
    /// Whom it mentions, each once, at most [`Refs::MENTIONS`].
    pub mentions: Vec<UserId>,
    /// For how long its body is shown.
    pub expires: Option<Lifetime>,
}

fn within(at: Seq) -> Result<Seq, Refused> {
    if at > 0 { Ok(at) } else { Err(bad_frame("reply_to: must be a seq, from 1 on")) }
}

fn mentions(texts: Vec<String>) -> Result<Vec<UserId>, Refused> {
    if texts.len() > Refs::MENTIONS {
        return Err(bad_frame(format!("mentions: at most {} users", Refs::MENTIONS)));
    }
    let mut users: Vec<UserId> = Vec::with_capacity(texts.len());
    for text in texts {
        let user = name("mentions", Some(text))?;
        if users.contains(&user) {
            return Err(bad_frame(format!("mentions: {user} is there twice")));
        }
        users.push(user);
    }
    Ok(users)
}

pub(super) fn expires(secs: Option<u64>) -> Result<Option<Lifetime>, Refused> {
    secs.map(Lifetime::try_from).transpose().map_err(|wrong| bad_frame(format!("expires: {wrong}")))
}

impl FromFields for Send {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let (to, cid, body) = (name("to", fields.to)?, name("cid", fields.cid)?, need("body", fields.body)?);
        let options = SendOptions {
            reply_to: fields.reply_to.map(|at| seq("reply_to", Some(at))).transpose()?.map(within).transpose()?,
            mentions: fields.mentions.map_or_else(|| Ok(Vec::new()), mentions)?,
            expires: expires(fields.expires)?,
        };
        Ok(Self { to, cid, body, options, handed: 0 })
    }
}

/// The message is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
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
