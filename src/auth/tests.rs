//! Tokens as clients and attackers send them, against real keys of each kind.

use std::{path::PathBuf, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    auth::{KeyError, Minter},
    config::{Secret, UserEncoding},
    model::now_millis,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "another-secret-of-enough-bytes-ok";

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata").join(name)
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(testdata(name)).unwrap()
}

fn now() -> u64 {
    now_millis() / 1000
}

fn good() -> Value {
    json!({"sub": "alice", "exp": now() + 600})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = good();
    claims[key] = value;
    claims
}

fn hs256(claims: &Value) -> String {
    signed(claims, Algorithm::HS256, None, &EncodingKey::from_secret(SECRET.as_bytes()))
}

fn signed(claims: &Value, alg: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
    encode(&Header { kid: kid.map(str::to_owned), ..Header::new(alg) }, claims, key).unwrap()
}

fn by_secret() -> Auth {
    Auth { hs256_secret: Some(Secret::new(SECRET)), ..Auth::default() }
}

fn verify(config: &Auth, token: &str) -> Result<Claims, AuthError> {
    Verifier::from_config(config).unwrap().verify(token)
}

/// Writes `keys` as a key set and makes a configuration of it.
fn by_jwks(keys: Value) -> (TempDir, Auth) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    (folder, Auth { jwks_file: Some(path), ..Auth::default() })
}

/// The public half of a PEM key as a member of a key set.
fn jwk(file: &str, kid: &str) -> Value {
    use jsonwebtoken::{DecodingKey, jwk::Jwk};
    let bytes = pem(file);
    let key = DecodingKey::from_rsa_pem(&bytes)
        .or_else(|_| DecodingKey::from_ec_pem(&bytes))
        .or_else(|_| DecodingKey::from_ed_pem(&bytes))
        .unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn ed(file: &str) -> EncodingKey {
    EncodingKey::from_ed_pem(&pem(file)).unwrap()
}

#[test]
fn a_good_token_names_its_user_and_its_end() {
    let exp = now() + 600;
    let claims = verify(&by_secret(), &hs256(&json!({"sub": "alice", "exp": exp}))).unwrap();
    assert_eq!(claims, Claims { user: UserId::new("alice").unwrap(), exp });
    let fraction = verify(&by_secret(), &hs256(&with("exp", json!(exp as f64 + 0.5)))).unwrap();
    assert_eq!(fraction.exp, exp);
    assert_eq!(verify(&by_secret(), &hs256(&with("exp", json!(10_u64.pow(18))))).unwrap().exp, MAX_EXP);
}

#[test]
fn only_an_expired_token_is_called_expired() {
    let token = |exp: u64| hs256(&json!({"sub": "alice", "exp": exp}));
    assert!(verify(&by_secret(), &token(now() - 60)).unwrap_err().is_expired());
    assert!(verify(&by_secret(), &token(now() - 2)).is_ok(), "within the leeway of 5 s");
    // A huge leeway must neither panic nor revive old tokens.
    let patient = Auth { leeway_secs: u64::MAX, ..by_secret() };
    assert!(verify(&patient, &token(now() - 3_600)).unwrap_err().is_expired());
    // Expired and forged is forged: the client is not sent for a fresh token.
    let forged = signed(
        &json!({"sub": "alice", "exp": now() - 60}),
        Algorithm::HS256,
        None,
        &EncodingKey::from_secret(OTHER_SECRET.as_bytes()),
    );
    assert!(matches!(verify(&by_secret(), &forged), Err(AuthError::Signature)));
}

#[test]
fn what_a_token_claims_is_checked() {
    for (claims, what) in [
        (with("nbf", json!(now() + 60)), "not valid yet"),
        (with("nbf", json!("soon")), "\"nbf\""),
        (with("exp", json!("never")), "\"exp\""),
        (with("exp", json!(-5)), "\"exp\""),
        (with("exp", Value::Null), "\"exp\""),
        (json!({"sub": "alice"}), "\"exp\""),
        (json!({"exp": now() + 600}), "\"sub\""),
        (with("sub", json!(7)), "\"sub\""),
        (with("sub", json!("")), "not a user id"),
        (with("sub", json!("a.b")), "not a user id"),
        (with("sub", json!("*")), "not a user id"),
        (with("sub", json!("x".repeat(65))), "not a user id"),
    ] {
        let refused = verify(&by_secret(), &hs256(&claims)).unwrap_err();
        assert!(refused.to_string().contains(what), "{claims}: {refused}");
        assert!(!refused.is_expired());
    }
    assert!(verify(&by_secret(), &hs256(&with("nbf", json!(now() + 2)))).is_ok(), "within the leeway");
}

#[test]
fn the_user_may_be_in_another_claim_and_have_other_characters() {
    let claim = Auth { user_claim: "https://example.org/id".into(), ..by_secret() };
    let token = |id: Value| hs256(&json!({"https://example.org/id": id, "sub": "mallory|x", "exp": now() + 600}));
    assert_eq!(verify(&claim, &token(json!("alice"))).unwrap().user.as_str(), "alice");
    for bad in [json!("auth0|5f7c"), json!(7), Value::Null, json!("")] {
        let refused = verify(&claim, &token(bad)).unwrap_err().to_string();
        assert!(refused.contains("https://example.org/id"), "{refused}");
    }
    let escaped = Auth { user_encoding: UserEncoding::Escaped, ..by_secret() };
    let user = |config: &Auth, id: &str| verify(config, &hs256(&with("sub", json!(id)))).map(|claims| claims.user);
    assert_eq!(user(&escaped, "auth0|5f7c").unwrap().as_str(), "auth0_7c5f7c");
    assert_eq!(user(&escaped, "alice@example.org").unwrap().as_str(), "alice_40example_2eorg");
    let long = user(&escaped, &"@".repeat(22)).unwrap_err();
    assert!(matches!(long, AuthError::LongUser { len: 66, .. }), "{long}");
    assert!(user(&escaped, "").is_err() && user(&escaped, &"@".repeat(21)).is_ok());
    // What is made for an escaped id is taken for it.
    let minter = Minter::from_config(&Auth { user_claim: "uid".into(), ..escaped.clone() }).unwrap();
    let reader = Auth { user_claim: "uid".into(), ..escaped };
    let bob = UserId::new("auth0_7cbob").unwrap();
    assert_eq!(verify(&reader, &minter.mint(&bob, Duration::from_secs(60)).unwrap()).unwrap().user, bob);
    let never = minter.mint(&UserId::new("a_b").unwrap(), Duration::from_secs(60)).unwrap_err();
    assert!(matches!(never, AuthError::NotEscaped(_)), "{never}");
}

#[test]
fn audience_and_issuer_are_asked_for_where_they_are_configured() {
    let strict = Auth { audience: vec!["natter".into()], issuer: vec!["idp".into()], ..by_secret() };
    let token = |aud: Value, iss: Value| {
        let mut claims = with("aud", aud);
        claims["iss"] = iss;
        hs256(&claims)
    };
    assert!(verify(&strict, &token(json!("natter"), json!("idp"))).is_ok());
    assert!(verify(&strict, &token(json!(["x", "natter"]), json!("idp"))).is_ok());
    for (aud, iss, what) in [
        (json!("other"), json!("idp"), "aud"),
        (Value::Null, json!("idp"), "aud"),
        (json!([]), json!("idp"), "aud"),
        (json!("natter"), json!("other"), "iss"),
        (json!("natter"), Value::Null, "iss"),
        (json!("natter"), json!(["idp"]), "iss"),
        (json!("natter"), json!(["idp", "other"]), "iss"),
        (json!("natter"), json!({"0": "idp"}), "iss"),
    ] {
        let refused = verify(&strict, &token(aud, iss)).unwrap_err();
        assert!(matches!(refused, AuthError::Claim(claim) if claim == what), "{refused}");
    }
    assert!(verify(&by_secret(), &token(json!("anything"), json!("anyone"))).is_ok(), "not configured, not looked at");
    let refused = verify(&by_secret(), &token(json!("x"), json!(["idp"]))).unwrap_err();
    assert!(matches!(refused, AuthError::Claim("iss")), "never a list: {refused}");
}

#[test]
fn what_is_no_token_is_refused() {
    let token = hs256(&good());
    let (rest, _) = token.rsplit_once('.').unwrap();
    let (_, tail) = token.split_once('.').unwrap();
    let header = |text: &str| format!("{}.{tail}", base64url(text.as_bytes()));
    for (bad, what) in [
        (String::new(), "0 bytes"),
        ("x".repeat(MAX_TOKEN_BYTES + 1), "16385 bytes"),
        ("a.b".to_owned(), "not a signed JWT"),
        ("a.b.c.d".to_owned(), "not a signed JWT"),
        ("\u{1F600}.\u{1F600}.\u{1F600}".to_owned(), "not a signed JWT"),
        (format!("{rest}."), "signature is not valid"),
        (header(r#"{"alg":"none"}"#), "not a signed JWT"),
        (header(r#"{"alg":"HS384"}"#), "does not have"),
        (header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), "extension"),
    ] {
        let refused = verify(&by_secret(), &bad).unwrap_err();
        assert!(refused.to_string().contains(what), "{bad}: {refused}");
        assert!(bad.is_empty() || !format!("{refused} {refused:?}").contains(&bad), "an error quotes the token");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_sent_it_is_refused_and_nothing_panics(text in "(\\PC{0,40}\\.){0,3}\\PC{0,40}") {
        proptest::prop_assert!(verify(&by_secret(), &text).is_err());
    }

    #[test]
    fn a_token_with_any_letter_changed_is_refused(at in 0_usize..400, letter in "[A-Za-z0-9_.=-]") {
        let token = hs256(&good());
        let at = at % token.len();
        proptest::prop_assume!(token[at..=at] != letter);
        let changed = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
        proptest::prop_assert!(verify(&by_secret(), &changed).is_err(), "{changed}");
    }
}

/// base64url without padding, so that headers can be written that no library would sign.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(n >> (18 - 6 * at)) as usize & 63]));
        }
    }
    out
}

#[test]
fn each_kind_of_public_key_verifies_its_own_and_nothing_else() {
    let signers = [
        ("rsa.pub.pem", Algorithm::RS256, EncodingKey::from_rsa_pem(&pem("rsa.key.pem")).unwrap()),
        ("ec.pub.pem", Algorithm::ES256, EncodingKey::from_ec_pem(&pem("ec.key.pem")).unwrap()),
        ("ed.pub.pem", Algorithm::EdDSA, ed("ed.key.pem")),
    ];
    for (file, ..) in &signers {
        let config = Auth { public_key_files: vec![testdata(file)], ..Auth::default() };
        for (of, alg, key) in &signers {
            let result = verify(&config, &signed(&good(), *alg, None, key));
            assert_eq!(result.is_ok(), of == file, "{of} against {file}: {result:?}");
        }
        // Algorithm confusion: the public key's own text as a shared secret.
        for secret in [pem(file), String::from_utf8(pem(file)).unwrap().trim().as_bytes().to_vec()] {
            let forged = signed(&good(), Algorithm::HS256, None, &EncodingKey::from_secret(&secret));
            assert!(matches!(verify(&config, &forged), Err(AuthError::UnknownKey)), "{file}");
        }
    }
    let both = Auth { public_key_files: vec![testdata("rsa.pub.pem")], ..by_secret() };
    let forged = signed(&good(), Algorithm::HS256, None, &EncodingKey::from_secret(&pem("rsa.pub.pem")));
    assert!(matches!(verify(&both, &forged), Err(AuthError::Signature)));
    let pkcs1 = Auth { public_key_files: vec![testdata("rsa.pkcs1.pem")], ..Auth::default() };
    assert!(verify(&pkcs1, &signed(&good(), Algorithm::RS256, None, &signers[0].2)).is_ok());
}

#[test]
fn while_keys_are_changed_both_are_good() {
    let config = Auth { public_key_files: vec![testdata("ed.pub.pem"), testdata("ed2.pub.pem")], ..Auth::default() };
    for file in ["ed.key.pem", "ed2.key.pem"] {
        assert!(verify(&config, &signed(&good(), Algorithm::EdDSA, None, &ed(file))).is_ok(), "{file}");
        let late = json!({"sub": "alice", "exp": now() - 60});
        let refused = verify(&config, &signed(&late, Algorithm::EdDSA, None, &ed(file))).unwrap_err();
        assert!(refused.is_expired(), "{file}: {refused}");
    }
    let only_new = Auth { public_key_files: vec![testdata("ed2.pub.pem")], ..Auth::default() };
    let old = signed(&good(), Algorithm::EdDSA, None, &ed("ed.key.pem"));
    assert!(matches!(verify(&only_new, &old), Err(AuthError::Signature)));
}

#[test]
fn while_a_shared_secret_is_changed_both_are_good_and_the_new_one_signs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let fresh = Auth { hs256_secret: Some(Secret::new(OTHER_SECRET)), ..Auth::default() };
    let by_text = Auth { hs256_previous_secret: Some(Secret::new(SECRET)), ..fresh.clone() };
    let by_file = Auth { hs256_previous_secret_file: Some(path), ..fresh.clone() };
    for config in [&by_text, &by_file] {
        assert!(verify(config, &hs256(&good())).is_ok(), "the old one is taken");
        let minted = Minter::from_config(config).unwrap().mint(&UserId::new("bob").unwrap(), Duration::from_secs(60));
        assert!(verify(&fresh, &minted.unwrap()).is_ok(), "the new one signs");
    }
    assert!(matches!(verify(&fresh, &hs256(&good())), Err(AuthError::Signature)));
    let short = Auth { hs256_previous_secret: Some(Secret::new("tooshort")), ..fresh };
    let fault = Verifier::from_config(&short).unwrap_err().to_string();
    assert!(fault.starts_with("auth.hs256_previous_secret has 8 bytes"), "{fault}");
}

#[test]
fn a_key_set_is_chosen_from_by_key_id() {
    let unusable = json!({"kty": "RSA", "use": "enc", "kid": "e", "n": "AQAB", "e": "AQAB"});
    let (_folder, config) = by_jwks(json!([jwk("ed.pub.pem", "one"), jwk("ed2.pub.pem", "two"), unusable]));
    let token = |kid, file| signed(&good(), Algorithm::EdDSA, kid, &ed(file));
    assert!(verify(&config, &token(Some("one"), "ed.key.pem")).is_ok());
    assert!(verify(&config, &token(Some("two"), "ed2.key.pem")).is_ok());
    assert!(verify(&config, &token(None, "ed2.key.pem")).is_ok());
    assert!(matches!(verify(&config, &token(Some("two"), "ed.key.pem")), Err(AuthError::Signature)));
    assert!(matches!(verify(&config, &token(Some("three"), "ed.key.pem")), Err(AuthError::UnknownKey)));
}

#[test]
fn a_key_set_may_hold_every_kind_and_binds_each_to_its_algorithm() {
    let secret = json!({"kty": "oct", "kid": "s", "alg": "HS512", "k": base64url(SECRET.as_bytes())});
    let mut rsa = jwk("rsa.pub.pem", "r");
    rsa["alg"] = "PS256".into();
    let (_folder, config) = by_jwks(json!([secret, rsa, jwk("ec.pub.pem", "e")]));
    let hmac = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(&pem("rsa.key.pem")).unwrap();
    let ec = EncodingKey::from_ec_pem(&pem("ec.key.pem")).unwrap();
    assert!(verify(&config, &signed(&good(), Algorithm::HS512, Some("s"), &hmac)).is_ok());
    assert!(verify(&config, &signed(&good(), Algorithm::PS256, Some("r"), &rsa)).is_ok());
    assert!(verify(&config, &signed(&good(), Algorithm::ES256, Some("e"), &ec)).is_ok());
    for (alg, kid, key) in [(Algorithm::HS256, "s", &hmac), (Algorithm::RS256, "r", &rsa)] {
        assert!(matches!(verify(&config, &signed(&good(), alg, Some(kid), key)), Err(AuthError::UnknownKey)));
    }
}

#[test]
fn a_bad_key_is_a_fault_at_the_start() {
    let files = |name: &str| Auth { public_key_files: vec![testdata(name)], ..Auth::default() };
    let mut faults = vec![
        (Auth::default(), "no key to verify tokens with"),
        (Auth { hs256_secret: Some(Secret::new("tooshort")), ..Auth::default() }, "has 8 bytes"),
        (files("no-such-file.pem"), "cannot read"),
        (files("README.md"), "not a PEM file"),
        (files("rsa1024.pub.pem"), "2048"),
        (files("rsa.key.pem"), "private key"),
        (files("ec.cert.pem"), "certificate"),
        (files("k256.pub.pem"), "do not form a key of its kind"),
    ];
    let changed = |file: &str, field: &str, value: &str| {
        let mut key = jwk(file, "x");
        key[field] = value.into();
        json!([key])
    };
    let n = jwk("rsa.pub.pem", "x")["n"].as_str().unwrap().to_owned();
    let sets = [
        (changed("ed.pub.pem", "x", "AQAB"), "32 bytes"),
        (changed("ec.pub.pem", "x", &base64url(&[1; 32])), "do not form a key of its kind"),
        (changed("ec.pub.pem", "y", "AQAB"), "do not form a key of its kind"),
        (changed("rsa.pub.pem", "e", &base64url(&[0, 1])), "from 3"),
        (changed("rsa.pub.pem", "e", &base64url(&[2])), "odd"),
        (changed("rsa.pub.pem", "e", &base64url(&[2, 0, 0, 0, 1])), "2^33"),
        (changed("rsa.pub.pem", "n", &base64url(&[[0x7f].as_slice(), &[1; 255]].concat())), "2048"),
        (changed("rsa.pub.pem", "n", &format!("{}A", &n[..n.len() - 1])), "modulus is even"),
        (json!([{"kty": "oct", "k": base64url(b"short")}]), "at least 32"),
        (json!([{"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}]), "no key for verifying"),
        (json!([]), "no key for verifying"),
        (json!("keys"), "not a JSON Web Key Set"),
    ]
    .map(|(keys, what)| (by_jwks(keys), what));
    faults.extend(sets.iter().map(|((_, config), what)| (config.clone(), *what)));
    for (config, what) in faults {
        let fault = Verifier::from_config(&config).unwrap_err();
        assert!(matches!(fault, AuthError::Key(_)));
        let mut text = fault.to_string();
        if let Some(source) = std::error::Error::source(&fault) {
            text = format!("{text}: {source}");
        }
        assert!(text.contains(what), "wanted {what:?} in {text:?}");
        assert!(!text.contains("tooshort"), "{text}");
    }
}

#[test]
fn what_is_minted_is_taken() {
    let config = Auth { audience: vec!["natter".into()], issuer: vec!["me".into()], ..by_secret() };
    let user = UserId::new("bob").unwrap();
    let minter = Minter::from_config(&config).unwrap();
    let claims = verify(&config, &minter.mint(&user, Duration::from_secs(60)).unwrap()).unwrap();
    assert_eq!(claims.user, user);
    assert!((now() + 55..=now() + 60).contains(&claims.exp), "{}", claims.exp);
    assert!(!format!("{minter:?} {:?}", Verifier::from_config(&config)).contains(SECRET));
    let keys_only = Auth { public_key_files: vec![testdata("ed.pub.pem")], ..Auth::default() };
    assert!(matches!(Minter::from_config(&keys_only), Err(AuthError::Key(KeyError::NoSecret))));
    assert!(Minter::new(&Secret::new("short")).is_err());
}

#[test]
fn a_services_token_is_no_users_and_a_users_is_no_services() {
    let auth = Auth { user_encoding: UserEncoding::Escaped, audience: vec!["chat".into()], ..by_secret() };
    let verifier = Verifier::from_config(&auth).unwrap();
    let (shop, ttl) = (UserId::new("web_shop").unwrap(), Duration::from_secs(60));
    let token = Minter::from_config(&auth).unwrap().mint_service(&shop, ttl).unwrap();
    let claims = verifier.verify_service(&token).unwrap();
    // A service's name stands in the token as it is, whatever users' ids are.
    assert!(claims.service == shop && claims.exp.abs_diff(now() + 60) < 5, "{claims:?}");
    assert!(matches!(verifier.verify(&token), Err(AuthError::NotUser)));
    for (claims, service) in [
        (with("scope", json!("natter:service")), true),
        (with("scope", json!("read natter:service write")), true),
        (with("scope", json!(["read", "natter:service"])), true),
        (with("scope", json!("natter:services")), false),
        (with("scope", json!("xnatter:service")), false),
        (with("scope", json!({"natter:service": true})), false),
        (good(), false),
    ] {
        let (token, plain) = (hs256(&claims), Verifier::from_config(&by_secret()).unwrap());
        assert_eq!(plain.verify(&token).is_ok(), !service, "{claims}");
        match plain.verify_service(&token) {
            Ok(found) => assert!(service && found.service.as_str() == "alice", "{claims}"),
            Err(refused) => assert!(!service && matches!(refused, AuthError::NotService), "{claims}: {refused}"),
        }
    }
    let mut late = with("scope", json!("natter:service"));
    late["exp"] = json!(now() - 600);
    let plain = Verifier::from_config(&by_secret()).unwrap();
    assert!(matches!(plain.verify_service(&hs256(&late)), Err(AuthError::Expired)));
    let mut nameless = with("scope", json!("natter:service"));
    nameless["sub"] = json!("a b");
    assert!(matches!(plain.verify_service(&hs256(&nameless)), Err(AuthError::BadService { .. })));
}

#[test]
fn a_secret_file_is_taken_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\r\n")).unwrap();
    let config = Auth { hs256_secret_file: Some(path), ..Auth::default() };
    assert!(verify(&config, &hs256(&good())).is_ok());
}
