//! `presence`: what it asks, and its answer.

use serde::{Deserialize, Serialize};

use crate::{
    model::{Millis, UserId},
    protocol::{
        Refused,
        fields::{Fields, FromFields, bad_frame, name, need},
    },
};

/// Most users of one request.
pub const PRESENCE_LIMIT: usize = 100;

/// Asks who is online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Whom it is about.
    pub users: Vec<UserId>,
    /// Whether the session is told of changes from now on, or no more; as before where it is missing.
    pub watch: Option<bool>,
}

impl FromFields for Presence {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let names = need("users", fields.users)?;
        if names.is_empty() || names.len() > PRESENCE_LIMIT {
            return Err(bad_frame(format!("users: must be 1 to {PRESENCE_LIMIT}")));
        }
        let mut users = names.into_iter().map(|user| name("users", Some(user))).collect::<Result<Vec<UserId>, _>>()?;
        users.sort_unstable();
        users.dedup();
        Ok(Self { users, watch: fields.watch })
    }
}

/// Who is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Presences {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// In the order of their names.
    pub items: Vec<Seen>,
    /// Those of whom the user may not know it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<UserId>,
}

/// Whether a user is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// A session of the user lives somewhere. Absent where that could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// When the user was last known to be there, of one who is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Millis>,
}
