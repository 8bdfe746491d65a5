//! Who a connection belongs to: tokens, the keys they are verified with, and how to make them without an identity
//! provider.
//!
//! [`Verifier`] is called by the gateway for `hello` and for token refreshes and by the HTTP API for
//! services, [`Minter`] and [`dev_secret`] by `natter token` and `natter dev`.

mod fetch;
mod keys;
mod mint;
mod remote;
mod secret_file;
mod user_id;
mod verifier;

pub use crate::config::{MIN_SECRET_BYTES, Secret};
pub use keys::{KeyError, read_secret};
pub use mint::{LiveMinter, Minter};
pub use remote::{FETCH_EVERY, FETCH_TIMEOUT, LOGIN_WAIT};
pub use secret_file::{DEV_SECRET_FILE, dev_secret, dev_secret_path};
pub use verifier::{Claims, SERVICE_SCOPE, ServiceClaims, Verifier};

use crate::model::{MAX_NAME, NameError, UserId};

/// Why a token was refused, or why tokens cannot be verified or made. No variant holds a token or a secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token was valid once: the client should get a fresh one (close code 4101). All others are 4100.
    #[error("the token has expired, get a fresh one")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet, check the clocks of its issuer and of this node")]
    NotYet,
    /// The token is empty or far too long.
    #[error("the token has {0} bytes, it must have 1 to {max}", max = verifier::MAX_TOKEN_BYTES)]
    Length(usize),
    /// Not a JWT with an algorithm that natter supports (`none` is not one).
    #[error("not a signed JWT with a supported algorithm")]
    Malformed,
    /// None of the node's keys fits the token's algorithm and key id.
    #[error("signed with a key that this node does not have")]
    UnknownKey,
    /// The signature was made by none of the keys that fit.
    #[error("the signature is not valid")]
    Signature,
    /// The header requires an extension (`crit`).
    #[error("the token requires an extension that natter does not support")]
    Extension,
    /// A claim is missing, or is not what this node requires.
    #[error("the claim {0:?} is missing or not acceptable")]
    Claim(&'static str),
    /// The claim that holds the user's id (`auth.user_claim`) is missing, or is not text.
    #[error("the claim {0:?} is missing or not acceptable, it must hold the user's id (auth.user_claim)")]
    NoUser(String),
    /// That claim is not a user id.
    #[error("the claim {claim:?} is not a user id: it {reason}")]
    Subject {
        /// The claim.
        claim: String,
        /// What is wrong with it.
        #[source]
        reason: NameError,
    },
    /// A user's token where a service's is needed.
    #[error("a user's token: a service's has the scope {SERVICE_SCOPE:?} (natter token --service)")]
    NotService,
    /// A service's token names no service.
    #[error("the claim \"sub\" is not the name of a service: it {reason}")]
    BadService {
        /// What is wrong with it.
        #[source]
        reason: NameError,
    },
    /// A service's token where a user's is needed.
    #[error("a service's token (scope {SERVICE_SCOPE:?}): a user's is needed")]
    NotUser,
    /// Its id becomes too long when its other characters are escaped.
    #[error(
        "the claim {claim:?} is too long for a user id: escaped (auth.user_encoding), it has {len} characters, \
         at most {MAX_NAME} are taken; put a shorter id into the token"
    )]
    LongUser {
        /// The claim.
        claim: String,
        /// Characters of the escaped id.
        len: usize,
    },
    /// A token is to be made for a user id that no escaped id becomes.
    #[error("{0} is not an escaped id (auth.user_encoding): _ must begin two hex digits, such as _7c")]
    NotEscaped(UserId),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl AuthError {
    /// Whether a fresh token would help: decides between close codes 4101 and 4100.
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired)
    }
}
