//! Makes tokens for development, tests and operators' tools. In production an identity provider does. Called by the
//! commands `dev`, `token`, `send`, `tail` and `bench`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::{AuthError, KeyError, MIN_SECRET_BYTES, SERVICE_SCOPE, keys::shared_secrets, user_id};
use crate::{
    config::{Auth, Secret, UserEncoding},
    model::{UserId, now_millis},
};

/// Makes HS256 tokens with a shared secret.
pub struct Minter {
    key: EncodingKey,
    claim: String,
    encoding: UserEncoding,
    audience: Option<String>,
    issuer: Option<String>,
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").field("audience", &self.audience).field("issuer", &self.issuer).finish()
    }
}

impl Minter {
    /// Signs with `secret`.
    ///
    /// # Errors
    /// [`KeyError::Short`] below [`MIN_SECRET_BYTES`].
    pub fn new(secret: &Secret) -> Result<Self, AuthError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(KeyError::Short { from: "the secret".to_owned(), len: bytes.len() }.into());
        }
        let Auth { user_claim: claim, user_encoding: encoding, .. } = Auth::default();
        Ok(Self { key: EncodingKey::from_secret(bytes), claim, encoding, audience: None, issuer: None })
    }

    /// Signs with the configured secret, and names the audience and issuer that the nodes require.
    ///
    /// # Errors
    /// [`KeyError::NoSecret`] if the nodes accept only an identity provider's tokens.
    pub fn from_config(config: &Auth) -> Result<Self, AuthError> {
        let secret = shared_secrets(config)?.into_iter().next().ok_or(KeyError::NoSecret)?;
        Ok(Self {
            claim: config.user_claim.clone(),
            encoding: config.user_encoding,
            audience: config.audience.first().cloned(),
            issuer: config.issuer.first().cloned(),
            ..Self::new(&secret)?
        })
    }

    /// A token for `user`, valid from now for `ttl`.
    ///
    /// # Errors
    /// [`AuthError::NotEscaped`] where ids are escaped and `user` cannot be one.
    pub fn mint(&self, user: &UserId, ttl: Duration) -> Result<String, AuthError> {
        let id = match self.encoding {
            UserEncoding::Plain => user.as_str().to_owned(),
            UserEncoding::Escaped => user_id::unescape(user).ok_or_else(|| AuthError::NotEscaped(user.clone()))?,
        };
        self.signed([(self.claim.clone(), Value::from(id))], ttl)
    }

    /// A token for a service, valid from now for `ttl`.
    ///
    /// # Errors
    /// None that a good secret has.
    pub fn mint_service(&self, service: &UserId, ttl: Duration) -> Result<String, AuthError> {
        let named = [("sub", service.as_str()), ("scope", SERVICE_SCOPE)];
        self.signed(named.map(|(claim, value)| (claim.to_owned(), Value::from(value))), ttl)
    }

    fn signed<const N: usize>(&self, named: [(String, Value); N], ttl: Duration) -> Result<String, AuthError> {
        let now = now_millis() / 1000;
        let times = [("iat", now), ("exp", now.saturating_add(ttl.as_secs()))];
        let mut claims = Map::from_iter(named);
        claims.extend(times.map(|(claim, secs)| (claim.to_owned(), Value::from(secs))));
        for (name, value) in [("aud", &self.audience), ("iss", &self.issuer)] {
            claims.extend(value.as_deref().map(|value| (name.to_owned(), value.into())));
        }
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key).map_err(|_| AuthError::Malformed)
    }
}
