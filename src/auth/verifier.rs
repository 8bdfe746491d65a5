//! Verifies tokens. Called by the gateway for `hello`, for the `Authorization` header and for token refreshes.

use std::{fmt, sync::Arc};

use jsonwebtoken::{Header, Validation, errors::ErrorKind};
use serde_json::Value;

use super::{
    AuthError,
    keys::{self, Key},
    remote::{Place, Remote},
    user_id,
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
    /// From the claim that `auth.user_claim` names, `sub`.
    pub user: UserId,
    /// From `exp`: seconds since 1970 UTC, without the leeway.
    pub exp: u64,
}

/// What a valid token of a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceClaims {
    /// From `sub`.
    pub service: UserId,
    /// From `exp`: seconds since 1970 UTC, without the leeway.
    pub exp: u64,
}

/// The scope (RFC 8693) that makes a token a service's, and no user's.
pub const SERVICE_SCOPE: &str = "natter:service";

/// The claims; the library checks the others. Any JSON value is accepted here, so that a wrong type is reported as a
/// wrong claim and not as a malformed token.
type RawClaims = serde_json::Map<String, Value>;

/// The node's keys and what it requires of a token.
pub struct Verifier {
    keys: Vec<Key>,
    /// The keys of `auth.jwks_url`.
    remote: Option<Arc<Remote>>,
    rules: Auth,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = self.remote.as_ref().map(|remote| remote.keys());
        let keys = self.keys.iter().chain(remote.iter().flat_map(|keys| keys.iter()));
        f.debug_list().entries(keys.map(|key| (key.alg, &key.kid))).finish()
    }
}

impl Verifier {
    /// Reads and checks all keys that are on this machine; those of `auth.jwks_url` come with [`Verifier::start`].
    ///
    /// # Errors
    /// [`AuthError::Key`], with the file and what to do about it.
    pub fn from_config(config: &Auth) -> Result<Self, AuthError> {
        Ok(Self { keys: keys::all(config)?, remote: None, rules: config.clone() })
    }

    /// The same, and fetches the keys of `auth.jwks_url`, now and from time to time. What `before` has fetched from the
    /// same place stays good when it is away now.
    ///
    /// # Errors
    /// [`AuthError::Key`]; also when the URL gives no keys and neither `before` nor a copy has any.
    pub async fn start(config: &Auth, before: Option<&Self>) -> Result<Self, AuthError> {
        let mut verifier = Self::from_config(config)?;
        if let Some(place) = Place::from_config(config) {
            let known = before.and_then(|before| before.remote.clone()).filter(|remote| remote.is_at(&place));
            verifier.remote = Some(match known {
                Some(remote) => {
                    remote.fetch_again().await;
                    remote
                }
                None => Arc::new(Remote::start(place).await?),
            });
        }
        Ok(verifier)
    }

    /// Verifies a user's token: its signature, its times and its claims.
    ///
    /// # Errors
    /// [`AuthError::Expired`] if nothing else is wrong; otherwise what is.
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        self.verified(token, |raw| user_claims(raw, &self.rules))
    }

    /// Verifies a service's token: the same keys and rules, but its name is always `sub`, as it is.
    ///
    /// # Errors
    /// As for a user's; [`AuthError::NotService`] for that.
    pub fn verify_service(&self, token: &str) -> Result<ServiceClaims, AuthError> {
        self.verified(token, service_claims)
    }

    fn verified<T>(
        &self,
        token: &str,
        claims: impl FnOnce(&RawClaims) -> Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Length(token.len()));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.crit.is_some() {
            return Err(AuthError::Extension);
        }
        let remote = self.remote.as_ref().map(|remote| remote.keys());
        let keys = self.keys.iter().chain(remote.iter().flat_map(|keys| keys.iter()));
        let mut refused = AuthError::UnknownKey;
        for key in keys.filter(|key| fits(key, &header)) {
            match jsonwebtoken::decode::<RawClaims>(token, &key.decoding, &validation(&self.rules, key)) {
                Ok(data) => {
                    only_one_issuer(&data.claims)?;
                    return claims(&data.claims);
                }
                // Another key of the same kind may fit: there are two while keys are being rotated.
                Err(e) if *e.kind() == ErrorKind::InvalidSignature => refused = AuthError::Signature,
                Err(e) => return Err(auth_error(e.kind())),
            }
        }
        Err(refused)
    }

    /// Whether the token may be signed with a key that `auth.jwks_url` has by now: [`Verifier::fetch_again`] tells.
    pub fn lacks_key(&self, token: &str) -> bool {
        self.remote.is_some() && matches!(self.verified(token, |_| Ok(())), Err(AuthError::UnknownKey))
    }

    /// Waits for the keys of `auth.jwks_url` to be fetched once more, at most [`super::LOGIN_WAIT`].
    pub async fn fetch_again(&self) {
        if let Some(remote) = &self.remote {
            remote.fetch_again().await;
        }
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
    let mut required = vec!["exp"];
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

/// A list would be good where any of its issuers is: an issuer is one text.
fn only_one_issuer(raw: &RawClaims) -> Result<(), AuthError> {
    let is_text = raw.get("iss").is_none_or(|iss| iss.is_string() || iss.is_null());
    if is_text { Ok(()) } else { Err(AuthError::Claim("iss")) }
}

/// Words between blanks, as the standard says, or a list of them, as some issuers write it.
fn is_of_service(raw: &RawClaims) -> bool {
    match raw.get("scope") {
        Some(Value::String(words)) => words.split_ascii_whitespace().any(|word| word == SERVICE_SCOPE),
        Some(Value::Array(words)) => words.iter().any(|word| word == SERVICE_SCOPE),
        _ => false,
    }
}

fn service_claims(raw: &RawClaims) -> Result<ServiceClaims, AuthError> {
    if !is_of_service(raw) {
        return Err(AuthError::NotService);
    }
    let name = raw.get("sub").and_then(Value::as_str).ok_or(AuthError::Claim("sub"))?;
    let service = UserId::new(name).map_err(|reason| AuthError::BadService { reason })?;
    Ok(ServiceClaims { service, exp: expiry(raw)? })
}

/// The standard allows fractions of a second; `as` cuts them off and saturates.
fn expiry(raw: &RawClaims) -> Result<u64, AuthError> {
    let secs = raw.get("exp").and_then(|exp| exp.as_u64().or_else(|| exp.as_f64().map(|f| f as u64)));
    Ok(secs.ok_or(AuthError::Claim("exp"))?.min(MAX_EXP))
}

fn user_claims(raw: &RawClaims, rules: &Auth) -> Result<Claims, AuthError> {
    if is_of_service(raw) {
        return Err(AuthError::NotUser);
    }
    let claim = &rules.user_claim;
    let id = raw.get(claim).and_then(Value::as_str).ok_or_else(|| AuthError::NoUser(claim.clone()))?;
    let user = user_id::read(id, rules.user_encoding, claim)?;
    Ok(Claims { user, exp: expiry(raw)? })
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
            _ => AuthError::Malformed,
        },
        _ => AuthError::Malformed,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
