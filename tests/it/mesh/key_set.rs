//! Users of an identity provider whose keys a node fetches over HTTPS: at its start, and when the provider has changed
//! them, at a login and in a session.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode, jwk::Jwk};
use natter::{
    model::now_millis,
    protocol::{Encoding, ServerFrame, client::Outgoing},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{Peer, TestMesh};
use crate::harness::{certificates::Certificates, skip::skip};

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata").join(name)).unwrap()
}

/// A key set with one key.
fn set(file: &str, kid: &str) -> String {
    let key = DecodingKey::from_ed_pem(&pem(file)).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    json!({ "keys": [jwk] }).to_string()
}

fn token(file: &str, kid: &str, id: &str) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let claims = json!({"id": id, "exp": now_millis() / 1000 + 600});
    encode(&header, &claims, &EncodingKey::from_ed_pem(&pem(file)).unwrap()).unwrap()
}

/// Serves `keys` over TLS with the certificate of `ours`; returns its port.
async fn provider(certificates: &Certificates, keys: Arc<Mutex<String>>) -> u16 {
    let chain = CertificateDer::pem_file_iter(certificates.path("ours-server.pem")).unwrap().map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_file(certificates.path("ours-server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain.collect(), key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust the certificate hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let body = keys.lock().unwrap().clone();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_provider_log_in_also_when_it_has_changed_its_keys() {
    let Some(certificates) = Certificates::new() else { return skip("a key set over HTTPS", "there is no openssl") };
    let keys = Arc::new(Mutex::new(set("ed.pub.pem", "one")));
    let port = provider(&certificates, keys.clone()).await;
    let mesh = TestMesh::tuned(1, |config| {
        config.auth.hs256_secret = None;
        config.auth.jwks_url = Some(format!("https://localhost:{port}/keys"));
        config.auth.jwks_ca_file = Some(certificates.path("ours.pem"));
        config.auth.user_claim = "id".into();
        config.auth.user_encoding = natter::config::UserEncoding::Escaped;
    });
    let mesh = mesh.await;
    let url = mesh.nodes[0].url();
    let join = async |token: &str| Peer::join_as(&url, token, "d", Encoding::Json, 0).await;
    let alice = join(&token("ed.key.pem", "one", "auth0|alice")).await.unwrap();
    assert_eq!(alice.welcome.as_ref().unwrap().user.as_str(), "auth0_7calice");

    *keys.lock().unwrap() = set("ed2.pub.pem", "two");
    // In a session, and at a login: each waits for the new key.
    let fresh = token("ed2.key.pem", "two", "auth0|alice");
    let reference = alice.fresh_ref();
    alice.say(&Outgoing::Token { token: &fresh, reference: Some(reference) });
    let answer = alice.answer(reference).await;
    assert!(matches!(answer, ServerFrame::TokenOk { .. }), "{answer:?}");
    *keys.lock().unwrap() = set("ed.pub.pem", "three");
    join(&token("ed.key.pem", "three", "bob")).await.unwrap();
    let Err(refused) = join(&token("ed2.key.pem", "two", "bob")).await else {
        panic!("the provider has withdrawn that key");
    };
    assert!(format!("{refused:?}").contains("4100"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let Some(certificates) = Certificates::new() else { return skip("a key set over HTTPS", "there is no openssl") };
    let port = provider(&certificates, Arc::new(Mutex::new(set("ed.pub.pem", "one")))).await;
    let auth = natter::config::Auth {
        jwks_url: Some(format!("https://localhost:{port}/keys")),
        jwks_ca_file: Some(certificates.path("other.pem")),
        ..natter::config::Auth::default()
    };
    let fault = natter::auth::Verifier::start(&auth, None).await.unwrap_err().to_string();
    assert!(fault.contains("no TLS") && fault.contains("auth.jwks_url https://localhost"), "{fault}");
}
