//! A key set that moves, breaks and goes away, served by a real HTTP server on the loopback.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    auth::{AuthError, Verifier},
    model::now_millis,
};

/// Answers every request with what it is told to.
struct Provider {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Provider {
    async fn serving(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (text, count) = (answer.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /keys HTTP/1.1\r\n"));
                count.fetch_add(1, Ordering::AcqRel);
                let answer = text.lock().unwrap().clone();
                // It may have hung up.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, answer, asked, task }
    }

    fn serve(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    fn auth(&self) -> Auth {
        Auth { jwks_url: Some(self.url.clone()), ..Auth::default() }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/src/auth/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn jwk(file: &str, kid: &str) -> Value {
    let key = jsonwebtoken::DecodingKey::from_ed_pem(&pem(file)).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn set(keys: &[Value]) -> String {
    ok(&json!({ "keys": keys }).to_string())
}

fn token(kid: &str, file: &str) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = json!({"sub": "alice", "exp": now_millis() / 1000 + 600});
    encode(&header, &claims, &EncodingKey::from_ed_pem(&pem(file)).unwrap()).unwrap()
}

fn one() -> Value {
    jwk("ed.pub.pem", "one")
}

fn two() -> Value {
    jwk("ed2.pub.pem", "two")
}

async fn fault(auth: &Auth) -> String {
    Verifier::start(auth, None).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_key_that_is_new_at_the_provider_is_fetched_when_a_token_names_it() {
    let provider = Provider::serving(set(&[one()])).await;
    let verifier = Verifier::start(&provider.auth(), None).await.unwrap();
    assert!(verifier.verify(&token("one", "ed.key.pem")).is_ok() && provider.asked() == 1);
    assert!(!verifier.lacks_key(&token("one", "ed.key.pem")), "a known key never waits");
    provider.serve(set(&[two()]));
    let fresh = token("two", "ed2.key.pem");
    assert!(verifier.lacks_key(&fresh));
    let begin = Instant::now();
    verifier.fetch_again().await;
    assert!(begin.elapsed() <= LOGIN_WAIT);
    assert!(verifier.verify(&fresh).is_ok());
    let gone = verifier.verify(&token("one", "ed.key.pem"));
    assert!(matches!(gone, Err(AuthError::UnknownKey)), "what the provider withdrew is not taken any more: {gone:?}");
}

#[tokio::test]
async fn made_up_key_ids_do_not_turn_the_node_against_the_provider() {
    let provider = Provider::serving(set(&[one()])).await;
    let verifier = Verifier::start(&provider.auth(), None).await.unwrap();
    let begin = Instant::now();
    // All of them wait for the same fetch.
    tokio::join!(verifier.fetch_again(), verifier.fetch_again(), verifier.fetch_again(), verifier.fetch_again());
    assert_eq!(provider.asked(), 2);
    assert!(begin.elapsed() >= FETCH_EVERY - Duration::from_secs(1), "the next fetch came {:?} later", begin.elapsed());
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_last_good_keys_in_force() {
    let provider = Provider::serving(set(&[one()])).await;
    let place = Place::from_config(&provider.auth()).unwrap();
    let fetcher = Fetcher::new(&place.url, None).unwrap();
    for (answer, what) in [
        (ok("{"), "not a JSON Web Key Set"),
        (ok("{\"keys\": []}"), "holds no key"),
        (
            set(&[json!({"kty": "oct", "alg": "HS256", "k": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"})]),
            "holds no key",
        ),
        (set(&vec![one(); 101]), "101 keys"),
        (ok(&"x".repeat(300 << 10)), "at most 262144 bytes"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(), "500"),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(), "redirects are not followed"),
        ("SSH-2.0-nonsense\r\n".to_owned(), "no answer"),
    ] {
        provider.serve(answer);
        let reason = fetch(&fetcher).await.err().unwrap_or_default();
        assert!(reason.contains(what), "wanted {what:?} in {reason:?}");
    }
    // Keys of a kind that nobody knows yet, and bad ones, do not spoil the good ones.
    provider.serve(set(&[json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}), json!({"kty": "OKP"}), one()]));
    assert_eq!(fetch(&fetcher).await.map(|(_, keys)| keys.len()), Ok(1));

    provider.serve(set(&[one()]));
    let verifier = Verifier::start(&provider.auth(), None).await.unwrap();
    provider.serve(ok("{"));
    verifier.fetch_again().await;
    assert!(verifier.verify(&token("one", "ed.key.pem")).is_ok());
}

#[tokio::test]
async fn a_copy_helps_a_start_while_the_url_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("keys.json");
    let provider = Provider::serving(set(&[one()])).await;
    let auth = Auth { jwks_copy_file: Some(copy.clone()), ..provider.auth() };
    drop(Verifier::start(&auth, None).await.unwrap());
    provider.task.abort();
    let _ = (&mut { provider.task }).await;
    let verifier = Verifier::start(&auth, None).await.unwrap();
    assert!(verifier.verify(&token("one", "ed.key.pem")).is_ok());
    let without = fault(&Auth { jwks_copy_file: None, ..auth.clone() }).await;
    assert!(without.contains("cannot connect") && without.contains("auth.jwks_copy_file"), "{without}");
    std::fs::write(&copy, "{").unwrap();
    let spoilt = fault(&auth).await;
    assert!(spoilt.contains("cannot connect") && spoilt.contains("keys.json: not a JSON"), "{spoilt}");
}

#[tokio::test]
async fn a_url_that_does_not_answer_delays_nobody_for_longer_than_stated() {
    // Accepts in the backlog and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", silent.local_addr().unwrap());
    let begin = Instant::now();
    let fault = fault(&Auth { jwks_url: Some(url), ..Auth::default() }).await;
    assert!(fault.contains("no answer within 3 s"), "{fault}");
    assert!(begin.elapsed() < FETCH_TIMEOUT + Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn reading_the_configuration_again_keeps_what_was_fetched() {
    let provider = Provider::serving(set(&[one()])).await;
    let before = Verifier::start(&provider.auth(), None).await.unwrap();
    provider.serve(ok("{"));
    let after = Verifier::start(&Auth { leeway_secs: 7, ..provider.auth() }, Some(&before)).await.unwrap();
    drop(before);
    assert!(after.verify(&token("one", "ed.key.pem")).is_ok());
    provider.serve(set(&[two()]));
    after.fetch_again().await;
    assert!(after.verify(&token("two", "ed2.key.pem")).is_ok(), "its task still runs");
}
