//! `readers`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use super::{ROOMS_LIMIT, rooms::after};
use crate::{
    model::{RoomId, Seq, UserId},
    protocol::{
        Refused,
        fields::{Fields, FromFields, limit, name, seq},
    },
};

/// Asks who has read a room up to a seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Which room.
    pub room: RoomId,
    /// Up to where.
    pub seq: Seq,
    /// The last user of the page before.
    pub after: Option<UserId>,
    /// Most users.
    pub limit: usize,
}

impl FromFields for Readers {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let (room, seq) = (name("room", fields.room)?, seq("seq", fields.seq)?);
        Ok(Self { room, seq, after: after(fields.after)?, limit: limit(fields.limit, ROOMS_LIMIT)? })
    }
}

/// A member, and how far they have read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Reader {
    /// Who.
    pub user: UserId,
    /// Everything up to here.
    pub read: Seq,
}

/// A page of those who have read so far, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ReadersPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which room.
    pub room: RoomId,
    /// Up to where.
    pub seq: Seq,
    /// Who.
    pub items: Vec<Reader>,
    /// Give it as `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}
