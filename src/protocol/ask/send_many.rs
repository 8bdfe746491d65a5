//! `send_many`: what it asks, and its answer. Services only.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::{
    model::{Cid, ConvId, Millis, Seq, UserId, room::Lifetime},
    protocol::{
        Body, Refused,
        fields::{Fields, FromFields, bad_frame, name, need},
    },
};

/// Most users of one request.
pub const SEND_MANY_LIMIT: usize = 1_000;

/// Sends one message to each of some users: each by the rules of a single one, with the same cid in each conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct SendMany {
    /// To whom, each once.
    pub users: Vec<UserId>,
    /// The sender's id for it, in each of the conversations.
    pub cid: Cid,
    /// The content.
    pub body: Body,
    /// For how long its body is shown.
    pub expires: Option<Lifetime>,
}

impl FromFields for SendMany {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let names = need("users", fields.users)?;
        if names.is_empty() || names.len() > SEND_MANY_LIMIT {
            return Err(bad_frame(format!("users: must be 1 to {SEND_MANY_LIMIT}, there are {}", names.len())));
        }
        let (mut users, mut seen) = (Vec::with_capacity(names.len()), HashSet::with_capacity(names.len()));
        for text in names {
            let user: UserId = name("users", Some(text))?;
            if !seen.insert(user.clone()) {
                return Err(bad_frame(format!("users: {user} is there twice")));
            }
            users.push(user);
        }
        let (cid, body) = (name("cid", fields.cid)?, need("body", fields.body)?);
        Ok(Self { users, cid, body, expires: super::send::expires(fields.expires)? })
    }
}

/// What came of each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SentMany {
    /// In the order of the request.
    pub items: Vec<SentTo>,
}

/// What came of a message to one user: its place, or why it was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SentTo {
    /// To whom.
    pub user: UserId,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conv: Option<ConvId>,
    /// Its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The time stored with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<Millis>,
    /// Why it was not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}
