//! `mint`: a token for a user, and what it says. Services only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    model::UserId,
    protocol::{
        Refused,
        fields::{Fields, FromFields, bad_frame},
    },
};

/// How long a token lasts where the request does not say, in seconds.
const USUAL: u64 = 3_600;
/// The shortest and the longest time, in seconds: what is to last longer is asked for again.
pub const MINT_TTL: (u64, u64) = (60, 86_400);

/// A token with which the user of the request connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
    /// How long it is valid.
    pub ttl: Duration,
}

impl FromFields for Mint {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        let ttl = fields.ttl.unwrap_or(USUAL);
        let (least, most) = MINT_TTL;
        if !(least..=most).contains(&ttl) {
            return Err(bad_frame(format!("ttl: must be {least} to {most} seconds")));
        }
        Ok(Self { ttl: Duration::from_secs(ttl) })
    }
}

/// The token, which is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Minted {
    /// Whose it is.
    pub user: UserId,
    /// A JWT, for `hello` and `token`.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("user", &self.user).field("exp", &self.exp).finish_non_exhaustive()
    }
}
