//! Who a connection is: tokens, the keys they are checked with, and how they are made for a first try.
//!
//! [`Verifier`] is called by the gateway's greeting and for token refreshes, [`Minter`] and [`dev_secret`] by
//! `natter token` and `natter dev`.

mod keys;
mod mint;
mod secret_file;
mod verifier;

pub use crate::config::{MIN_SECRET_BYTES, Secret};
pub use keys::{KeyError, read_secret};
pub use mint::Minter;
pub use secret_file::{DEV_SECRET_FILE, dev_secret, dev_secret_path};
pub use verifier::{Claims, Verifier};

use crate::model::NameError;

/// Why a token was refused, or why there is nothing to check tokens with. No variant holds a token or a secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token was good once: the client should get a fresh one (close code 4101). All others are 4100.
    #[error("the token has expired, get a fresh one")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet, check the clocks of its issuer and of this node")]
    NotYet,
    /// No token at all, or far too long a one.
    #[error("the token has {0} bytes, it must have 1 to {max}", max = verifier::MAX_TOKEN_BYTES)]
    Length(usize),
    /// It is no JWT with an algorithm that natter knows (`none` is not one).
    #[error("not a signed JWT with a known algorithm")]
    Malformed,
    /// None of the node's keys is meant for this token's algorithm and key id.
    #[error("signed with a key that this node does not have")]
    UnknownKey,
    /// The signature is by none of the keys that could have made it.
    #[error("the signature does not fit")]
    Signature,
    /// The header asks for an extension that must be understood (`crit`).
    #[error("the token asks for an extension that natter does not have")]
    Extension,
    /// A claim is missing or is not what this node asks for.
    #[error("the claim {0:?} is missing or not acceptable")]
    Claim(&'static str),
    /// `sub` is no user id.
    #[error("the claim \"sub\" is not a user id: it {0}")]
    Subject(#[source] NameError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl AuthError {
    /// Whether a fresh token would help: what decides between close codes 4101 and 4100.
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired)
    }
}
