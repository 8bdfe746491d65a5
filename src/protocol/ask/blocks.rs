//! `block`, `unblock` and `blocks`: what they ask, and their answers.

use serde::{Deserialize, Serialize};

use super::rooms::after;
use crate::{
    model::UserId,
    protocol::{
        Op, Refused,
        fields::{Fields, FromFields, limit, name, need},
        strict::Text,
    },
};

/// Most users of a page.
pub const BLOCKS_LIMIT: usize = 100;

/// Asks to take nothing more from a user, or to take it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From whom.
    pub user: UserId,
    /// Block, or unblock.
    pub on: bool,
}

impl FromFields for Block {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let op = need("op", fields.op.as_ref().map(Text::as_str).and_then(Op::from_word))?;
        Ok(Self { user: name("user", fields.user)?, on: op == Op::Block })
    }
}

/// It is so now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Blocking {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Who.
    pub user: UserId,
    /// Whether the user is blocked.
    pub on: bool,
}

/// Asks for a page of the users whom one has blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// The last user of the page before.
    pub after: Option<UserId>,
    /// Most users.
    pub limit: usize,
}

impl FromFields for Blocks {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self { after: after(fields.after)?, limit: limit(fields.limit, BLOCKS_LIMIT)? })
    }
}

/// A page of them, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct BlocksPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Who is blocked.
    pub users: Vec<UserId>,
    /// Where the next page begins, as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}
