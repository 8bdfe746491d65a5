//! Verifies tokens. Called by the gateway for `hello`, for the `Authorization` header and for token refreshes.

use std::fmt;

use jsonwebtoken::{Header, Validation, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::{
    AuthError,
    keys::{self, Key},
};
use crate::{
    config::{Auth, MAX_LEEWAY_SECS},
    model::UserId,
};

/// The longest token that is accepted. Some issuers put long lists of groups into theirs.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The end of the year 9999: a later `exp` is cut to this, so that no sum with it can overflow.
const MAX_EXP: u64 = 253_402_300_799;

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// From `sub`.
    pub user: UserId,
    /// From `exp`: seconds since 1970 UTC, without the leeway.
    pub exp: u64,
}

/// The claims that natter reads itself; the library checks the others. Any JSON value is accepted here, so that a wrong
/// type is reported as a wrong claim and not as a malformed token.
#[derive(Deserialize)]
struct RawClaims {
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    exp: Value,
}

/// The node's keys and what it requires of a token.
pub struct Verifier {
    keys: Vec<(Key, Validation)>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.keys.iter().map(|(key, _)| (key.alg, &key.kid));
        f.debug_list().entries(kinds).finish()
    }
}

impl Verifier {
    /// Reads and checks all keys.
    ///
    /// # Errors
    /// [`AuthError::Key`], with the file and what to do about it.
    pub fn from_config(config: &Auth) -> Result<Self, AuthError> {
        let with_rules = |key: Key| {
            let validation = validation(config, &key);
            (key, validation)
        };
        Ok(Self { keys: keys::all(config)?.into_iter().map(with_rules).collect() })
    }

    /// Verifies a token: its signature, its times and its claims.
    ///
    /// # Errors
    /// [`AuthError::Expired`] if nothing else is wrong; otherwise what is.
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Length(token.len()));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            return Err(AuthError::Extension);
        }
        let mut refused = AuthError::UnknownKey;
        for (key, validation) in self.keys.iter().filter(|(key, _)| fits(key, &header)) {
            match jsonwebtoken::decode::<RawClaims>(token, &key.decoding, validation) {
                Ok(data) => return claims(&data.claims),
                // Another key of the same kind may fit: there are two while keys are being rotated.
                Err(e) if *e.kind() == ErrorKind::InvalidSignature => refused = AuthError::Signature,
                Err(e) => return Err(auth_error(e.kind())),
            }
        }
        Err(refused)
    }
}

/// A key without an id fits every token of its algorithm, and a token without one may be signed by any key.
fn fits(key: &Key, header: &Header) -> bool {
    let same_id = match (&key.kid, &header.kid) {
        (Some(has), Some(wanted)) => has == wanted,
        _ => true,
    };
    key.alg == header.alg && same_id
}

fn validation(config: &Auth, key: &Key) -> Validation {
    let mut validation = Validation::new(key.alg);
    // The library subtracts it from the current time, which would underflow with a huge one.
    validation.leeway = config.leeway_secs.min(MAX_LEEWAY_SECS);
    validation.validate_nbf = true;
    let mut required = vec!["exp", "sub"];
    // What is not configured is ignored; what is configured must be present.
    validation.validate_aud = !config.audience.is_empty();
    if !config.audience.is_empty() {
        validation.set_audience(&config.audience);
        required.push("aud");
    }
    if !config.issuer.is_empty() {
        validation.set_issuer(&config.issuer);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn claims(raw: &RawClaims) -> Result<Claims, AuthError> {
    let sub = raw.sub.as_str().ok_or(AuthError::Claim("sub"))?;
    let user = UserId::new(sub).map_err(AuthError::Subject)?;
    let exp = &raw.exp;
    // The standard allows fractions of a second; `as` cuts them off and saturates.
    let secs = exp.as_u64().or_else(|| exp.as_f64().map(|f| f as u64)).ok_or(AuthError::Claim("exp"))?;
    Ok(Claims { user, exp: secs.min(MAX_EXP) })
}

fn auth_error(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYet,
        ErrorKind::InvalidAudience => AuthError::Claim("aud"),
        ErrorKind::InvalidIssuer => AuthError::Claim("iss"),
        ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => match name.as_str() {
            "exp" => AuthError::Claim("exp"),
            "nbf" => AuthError::Claim("nbf"),
            "aud" => AuthError::Claim("aud"),
            "iss" => AuthError::Claim("iss"),
            _ => AuthError::Claim("sub"),
        },
        _ => AuthError::Malformed,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
