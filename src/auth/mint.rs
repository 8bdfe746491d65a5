//! Makes tokens for development, tests and operators' tools. In production an identity provider does. Called by the
//! commands `dev`, `token`, `send`, `tail` and `bench`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{AuthError, KeyError, MIN_SECRET_BYTES, keys::shared_secrets};
use crate::{
    config::{Auth, Secret},
    model::{UserId, now_millis},
};

/// Makes HS256 tokens with a shared secret.
pub struct Minter {
    key: EncodingKey,
    audience: Option<String>,
    issuer: Option<String>,
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").field("audience", &self.audience).field("issuer", &self.issuer).finish()
    }
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
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
        Ok(Self { key: EncodingKey::from_secret(bytes), audience: None, issuer: None })
    }

    /// Signs with the configured secret, and names the audience and issuer that the nodes require.
    ///
    /// # Errors
    /// [`KeyError::NoSecret`] if the nodes accept only an identity provider's tokens.
    pub fn from_config(config: &Auth) -> Result<Self, AuthError> {
        let secret = shared_secrets(config)?.into_iter().next().ok_or(KeyError::NoSecret)?;
        Ok(Self {
            audience: config.audience.first().cloned(),
            issuer: config.issuer.first().cloned(),
            ..Self::new(&secret)?
        })
    }

    /// A token for `user`, valid from now for `ttl`.
    ///
    /// # Errors
    /// Only if the signing library fails, for which there is no known reason.
    pub fn mint(&self, user: &UserId, ttl: Duration) -> Result<String, AuthError> {
        let now = now_millis() / 1000;
        let claims = NewClaims {
            sub: user.as_str(),
            iat: now,
            exp: now.saturating_add(ttl.as_secs()),
            aud: self.audience.as_deref(),
            iss: self.issuer.as_deref(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key).map_err(|_| AuthError::Malformed)
    }
}
