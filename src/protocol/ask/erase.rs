//! `erase`: everything that a user has said becomes unreadable. Services only.

use serde::{Deserialize, Serialize};

use crate::{
    model::UserId,
    protocol::{
        Refused,
        fields::{Fields, FromFields},
    },
};

/// Erases the user of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erase;

impl FromFields for Erase {
    fn from_fields(_: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self)
    }
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Erased {
    /// Whose messages nobody can read any more.
    pub user: UserId,
    /// Of how many months there was a key, which is destroyed; 0 where nothing was sealed since the last erasure.
    pub months: u64,
    /// How many devices were forgotten, and their sessions ended.
    pub devices: u64,
}
