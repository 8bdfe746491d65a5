//! Keys from the configuration, checked when they are read: a key that cannot verify anything or is too weak stops the
//! node at its start, not at the first token. Used by [`super::verifier`] and [`super::mint`].

use std::{
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse},
};

use crate::config::{Auth, MIN_SECRET_BYTES, Secret};

/// Why a key cannot be used. Names the file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing under `[auth]` says whose tokens to accept.
    #[error(
        "no key to verify tokens with, set auth.hs256_secret_file, auth.public_key_files, auth.jwks_file or auth.jwks_url"
    )]
    None,
    /// There are keys, but none to sign tokens with: that takes a shared secret.
    #[error("tokens can be made only with a shared secret, set auth.hs256_secret or auth.hs256_secret_file")]
    NoSecret,
    /// A shared secret short enough to be guessed.
    #[error("{from} has {len} bytes, a shared secret needs at least {MIN_SECRET_BYTES}")]
    Short {
        /// The key of the configuration or the file it comes from.
        from: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// "read", "write" ….
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key set of `auth.jwks_url` can be had neither from there nor from a copy.
    #[error("auth.jwks_url {url}: {reason}; check the URL, or keep a copy for such times with auth.jwks_copy_file")]
    Url {
        /// The URL.
        url: String,
        /// What went wrong, and with the copy as well.
        reason: String,
    },
    /// A file does not hold a key that natter can use.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// The most keys of a set that came from a URL: each is tried for a token without a key id.
const MAX_KEYS: usize = 100;

/// A key and the one algorithm it is for. A token's header chooses among the keys, never how a key is used: otherwise a
/// public key could be passed off as a shared secret.
pub(super) struct Key {
    pub kid: Option<String>,
    pub alg: Algorithm,
    pub decoding: DecodingKey,
}

/// Every key under `[auth]`.
pub(super) fn all(config: &Auth) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    for secret in shared_secrets(config)? {
        let decoding = DecodingKey::from_secret(secret.expose().as_bytes());
        keys.push(Key { kid: None, alg: Algorithm::HS256, decoding });
    }
    for path in &config.public_key_files {
        keys.push(public_key(path)?);
    }
    if let Some(path) = &config.jwks_file {
        keys.extend(jwks(path)?);
    }
    if keys.is_empty() && config.jwks_url.is_none() { Err(KeyError::None) } else { Ok(keys) }
}

/// The keys of a set that came from a URL. Unlike a file, nobody here wrote it: what cannot be used is skipped, as the
/// standard says, and so are shared secrets, which have no business there.
pub(super) fn from_set(text: &str) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(text)
        .map_err(|e| format!("not a JSON Web Key Set: {{\"keys\": […]}} (line {}, column {})", e.line(), e.column()))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("holds {} keys, at most {MAX_KEYS} are taken", set.keys.len()));
    }
    let mut keys = Vec::new();
    for value in set.keys {
        // A kind of key that the library does not know is not a fault.
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
        match from_jwk(&jwk) {
            Ok(Some(key)) if key.decoding.family() != AlgorithmFamily::Hmac => keys.push(key),
            Ok(_) => {}
            Err(reason) => tracing::warn!(kid = jwk.common.key_id, reason, "a key of auth.jwks_url cannot be used"),
        }
    }
    if keys.is_empty() { Err("holds no key for verifying signatures".to_owned()) } else { Ok(keys) }
}

/// The shared secrets under `[auth]`, the one to sign with first.
pub(super) fn shared_secrets(config: &Auth) -> Result<Vec<Secret>, KeyError> {
    let given = [
        ("auth.hs256_secret", &config.hs256_secret, &config.hs256_secret_file),
        ("auth.hs256_previous_secret", &config.hs256_previous_secret, &config.hs256_previous_secret_file),
    ];
    let mut secrets = Vec::new();
    for (key, secret, file) in given {
        if let Some(secret) = secret {
            check_length(secret, || key.to_owned())?;
            secrets.push(secret.clone());
        }
        if let Some(path) = file {
            secrets.push(read_secret(path)?);
        }
    }
    Ok(secrets)
}

/// Reads a shared secret from a file: its text without the line end. The issuer signs with the same text.
///
/// # Errors
/// When the file cannot be read or is too short.
pub fn read_secret(path: &Path) -> Result<Secret, KeyError> {
    let text = read_text(path)?;
    let secret = Secret::of_text(&text);
    check_length(&secret, || path.display().to_string())?;
    Ok(secret)
}

fn check_length(secret: &Secret, from: impl FnOnce() -> String) -> Result<(), KeyError> {
    let len = secret.expose().len();
    if len < MIN_SECRET_BYTES { Err(KeyError::Short { from: from(), len }) } else { Ok(()) }
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::File { verb: "read", path: path.to_owned(), source })
}

fn public_key(path: &Path) -> Result<Key, KeyError> {
    let pem = read_text(path)?;
    let unusable = |reason: &str| KeyError::Unusable { path: path.to_owned(), reason: reason.to_owned() };
    if pem.contains("PRIVATE KEY-----") {
        return Err(unusable(
            "a private key, which belongs to the issuer alone; get the public one with openssl pkey -pubout",
        ));
    }
    if pem.contains("BEGIN CERTIFICATE-----") {
        return Err(unusable("a certificate; get its public key with openssl x509 -pubkey -noout"));
    }
    let bytes = pem.as_bytes();
    // Each of these rejects the other kinds, so the first that accepts the key is the right one.
    let jwk = DecodingKey::from_rsa_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .and_then(|key| Jwk::from_decoding_key(&key, None))
        .map_err(|_| unusable("not a PEM file with one RSA, P-256, P-384 or Ed25519 public key"))?;
    from_jwk(&jwk).map_err(unusable)?.ok_or_else(|| unusable("a kind of key that natter does not support"))
}

fn jwks(path: &Path) -> Result<Vec<Key>, KeyError> {
    let unusable = |reason: String| KeyError::Unusable { path: path.to_owned(), reason };
    // The parser's own message could quote a key, and a set may hold a shared secret.
    let set: JwkSet = serde_json::from_str(&read_text(path)?).map_err(|e| {
        unusable(format!("not a JSON Web Key Set: {{\"keys\": […]}} (line {}, column {})", e.line(), e.column()))
    })?;
    let mut keys = Vec::new();
    for (at, jwk) in set.keys.iter().enumerate() {
        let name = jwk.common.key_id.as_deref().map_or_else(|| format!("key {}", at + 1), |kid| format!("key {kid:?}"));
        keys.extend(from_jwk(jwk).map_err(|reason| unusable(format!("{name}: {reason}")))?);
    }
    if keys.is_empty() { Err(unusable("holds no key for verifying signatures".to_owned())) } else { Ok(keys) }
}

/// A key of a set; `None` if it is for another purpose: the standard says to skip those.
fn from_jwk(jwk: &Jwk) -> Result<Option<Key>, &'static str> {
    if !may_verify(jwk) {
        return Ok(None);
    }
    let Some(alg) = algorithm(jwk) else { return Ok(None) };
    let decoding = DecodingKey::from_jwk(jwk).map_err(|_| "its numbers are not base64url")?;
    check_strength(&decoding)?;
    check_curve(&decoding, alg)?;
    Ok(Some(Key { kid: jwk.common.key_id.clone(), alg, decoding }))
}

fn may_verify(jwk: &Jwk) -> bool {
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let may = |ops: &Vec<KeyOperations>| ops.contains(&KeyOperations::Verify);
    for_signatures && jwk.common.key_operations.as_ref().is_none_or(may)
}

/// The one algorithm of a key: its `alg` if that fits the kind of key, or the usual one of the kind if it has no `alg`.
/// `None` if its `alg` does not fit or the kind is not supported.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    use Algorithm::*;
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => &[ES256],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P384 => &[ES384],
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => &[EdDSA],
        AlgorithmParameters::OctetKey(_) => &[HS256, HS384, HS512],
        _ => return None,
    };
    match jwk.common.key_algorithm {
        None => fitting.first().copied(),
        Some(said) => fitting.iter().copied().find(|alg| KeyAlgorithm::from(*alg) == said),
    }
}

fn check_strength(key: &DecodingKey) -> Result<(), &'static str> {
    use jsonwebtoken::AlgorithmFamily::{Ec, Ed, Hmac, Rsa};
    match (key.family(), key.kind()) {
        (Hmac, DecodingKeyKind::SecretOrDer(bytes)) if bytes.len() < MIN_SECRET_BYTES => {
            Err("a shared secret needs at least 32 bytes")
        }
        // The library uses the first 32 bytes without checking how many there are.
        (Ed, DecodingKeyKind::SecretOrDer(bytes)) if bytes.len() != 32 => Err("an Ed25519 key has 32 bytes"),
        (Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => check_rsa(n, e),
        (Hmac | Ed | Ec, DecodingKeyKind::SecretOrDer(_)) => Ok(()),
        _ => Err("its numbers do not form a key of its kind"),
    }
}

/// What the verifier takes: with any other numbers it would refuse every signature.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let is_odd = |number: &[u8]| number.last().is_some_and(|b| b % 2 == 1);
    if !(2048..=4096).contains(&bits(n)) {
        return Err("an RSA key needs 2048 to 4096 bits");
    }
    if !is_odd(n) {
        return Err("the modulus is even");
    }
    if !is_odd(e) || !(2..=33).contains(&bits(e)) {
        return Err("the exponent must be odd, from 3 to 2^33 - 1");
    }
    Ok(())
}

/// How many bits a big-endian number has.
fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|b| *b != 0).unwrap_or(number.len());
    number.get(first).map_or(0, |b| (number.len() - first) * 8 - b.leading_zeros() as usize)
}

/// Whether an elliptic curve's point is on it: the verifier itself would only refuse every signature. For Ed25519
/// nothing tells before a signature is checked.
fn check_curve(key: &DecodingKey, alg: Algorithm) -> Result<(), &'static str> {
    let verification = match alg {
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        _ => return Ok(()),
    };
    let DecodingKeyKind::SecretOrDer(point) = key.kind() else {
        return Err("its numbers do not form a key of its kind");
    };
    let parsed = signature::ParsedPublicKey::new(verification, point);
    parsed.map(drop).map_err(|_| "its numbers do not form a key of its kind")
}
