//! Makes tokens for development, tests, operators' tools, and services that sign users in themselves. Elsewhere an identity
//! provider does. Called by the commands `dev`, `token`, `send`, `tail` and `bench`, and by the op `mint`.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::RwLock;
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
        self.mint_until(user, end_of(ttl))
    }

    fn mint_until(&self, user: &UserId, end: u64) -> Result<String, AuthError> {
        let id = match self.encoding {
            UserEncoding::Plain => user.as_str().to_owned(),
            UserEncoding::Escaped => user_id::unescape(user).ok_or_else(|| AuthError::NotEscaped(user.clone()))?,
        };
        self.signed([(self.claim.clone(), Value::from(id))], end)
    }

    /// A token for a service, valid from now for `ttl`.
    ///
    /// # Errors
    /// None that a good secret has.
    pub fn mint_service(&self, service: &UserId, ttl: Duration) -> Result<String, AuthError> {
        let named = [("sub", service.as_str()), ("scope", SERVICE_SCOPE)];
        self.signed(named.map(|(claim, value)| (claim.to_owned(), Value::from(value))), end_of(ttl))
    }

    fn signed<const N: usize>(&self, named: [(String, Value); N], end: u64) -> Result<String, AuthError> {
        let times = [("iat", now_millis() / 1000), ("exp", end)];
        let mut claims = Map::from_iter(named);
        claims.extend(times.map(|(claim, secs)| (claim.to_owned(), Value::from(secs))));
        for (name, value) in [("aud", &self.audience), ("iss", &self.issuer)] {
            claims.extend(value.as_deref().map(|value| (name.to_owned(), value.into())));
        }
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key).map_err(|_| AuthError::Malformed)
    }
}

/// The minter of a node, which changes with the node's secret; clones see each change. Empty where the nodes have no secret.
#[derive(Debug, Clone, Default)]
pub struct LiveMinter(Arc<RwLock<Option<Minter>>>);

impl LiveMinter {
    /// As the configuration says.
    pub fn new(config: &Auth) -> Self {
        let minter = Self::default();
        minter.replace(config);
        minter
    }

    /// As another configuration says, whose keys were found good, from now on.
    pub fn replace(&self, config: &Auth) {
        *self.0.write() = Minter::from_config(config).ok();
    }

    /// A token for `user`, valid from now for `ttl`, and the second at which it ends; `None` without a secret.
    pub fn mint(&self, user: &UserId, ttl: Duration) -> Option<Result<(String, u64), AuthError>> {
        let end = end_of(ttl);
        Some(self.0.read().as_ref()?.mint_until(user, end).map(|token| (token, end)))
    }
}

/// The second at which something ends that lasts from now for `ttl`.
fn end_of(ttl: Duration) -> u64 {
    (now_millis() / 1000).saturating_add(ttl.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;

    fn with(secret: Option<&str>) -> Auth {
        Auth { hs256_secret: secret.map(|text| Secret::new(text.to_owned())), ..Auth::default() }
    }

    #[test]
    fn a_live_minter_signs_with_the_secret_of_now_and_tells_the_end() {
        let user = UserId::new("alice").unwrap();
        let [old, new] =
            ["an old secret of more than 32 bytes", "a new secret of more than 32 bytes"].map(|s| with(Some(s)));
        let minter = LiveMinter::new(&old);
        let clone = minter.clone();
        minter.replace(&new);
        let (token, end) = clone.mint(&user, Duration::from_secs(90)).unwrap().unwrap();
        let claims = Verifier::from_config(&new).unwrap().verify(&token).unwrap();
        assert_eq!((claims.user, claims.exp), (user.clone(), end));
        assert!(Verifier::from_config(&old).unwrap().verify(&token).is_err());
        minter.replace(&with(None));
        assert!(clone.mint(&user, Duration::from_secs(90)).is_none());
    }
}
