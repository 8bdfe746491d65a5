//! Every way to prove to a server who a node is, over either link: token, key, credentials file, TLS. Wrong ones are refused
//! at the start, and what was changed while the node ran counts at its next connection.

use std::{fs, path::Path, process::Command, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use natter::{
    bus::{BusError, BusEvent, NatsAuth, NatsOptions, NatsTls},
    config::NatsLink,
    nats_server::{find, free_ports},
};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::site::connect;
use crate::harness::{certificates::Certificates, links::on_both_links, process::Process, skip::skip, until};

/// A nats-server with this configuration besides its address.
async fn serve(folder: &Path, port: u16, conf: &str) -> Process {
    let path = folder.join("nats.conf");
    fs::write(&path, format!("listen: \"127.0.0.1:{port}\"\n{conf}")).unwrap();
    let mut command = Command::new(find(None).unwrap().path);
    command.arg("-c").arg(path);
    let mut server = Process::start(command);
    server.says("Server is ready").await;
    server
}

fn options(link: NatsLink, port: u16, auth: NatsAuth) -> NatsOptions {
    let mut options = NatsOptions::new("n1", [format!("nats://127.0.0.1:{port}")]);
    (options.link, options.auth, options.ping_interval) = (link, auth, Duration::from_secs(1));
    options
}

async fn gets_in(options: NatsOptions) {
    let bus = connect(options).await.unwrap();
    assert_eq!(bus.fence().await, Ok(1));
}

async fn is_refused(options: NatsOptions) {
    let Err(BusError::Other(why)) = connect(options).await.map(drop) else { panic!("got in, or waits for ever") };
    assert!(why.contains("refuse"), "{why}");
}

async fn a_token_is_taken_and_a_wrong_one_is_not(link: NatsLink) {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1).unwrap()[0]);
    let _server = serve(folder.path(), port, "authorization { token: \"s3cret\" }\n").await;
    gets_in(options(link, port, NatsAuth::Token("s3cret".into()))).await;
    let mut in_the_url = options(link, port, NatsAuth::None);
    in_the_url.urls = NatsOptions::new("n1", [format!("nats://s3cre%74@127.0.0.1:{port}")]).urls;
    gets_in(in_the_url).await;
    for wrong in [NatsAuth::Token("other".into()), NatsAuth::None] {
        is_refused(options(link, port, wrong)).await;
    }
}

fn key_server(keys: &KeyPair) -> String {
    format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", keys.public_key())
}

async fn a_key_is_taken_and_a_wrong_one_is_not(link: NatsLink) {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1).unwrap()[0]);
    let keys = KeyPair::new_user();
    let _server = serve(folder.path(), port, &key_server(&keys)).await;
    let path = folder.path().join("node.nk");
    fs::write(&path, keys.seed().unwrap() + "\n").unwrap();
    gets_in(options(link, port, NatsAuth::NKey(path.clone()))).await;
    fs::write(&path, KeyPair::new_user().seed().unwrap()).unwrap();
    is_refused(options(link, port, NatsAuth::NKey(path))).await;
}

/// A JWT as `nsc` makes it, of what `claims` says.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let claims = json!({ "jti": "x", "iat": 1, "name": "n", "iss": issuer.public_key(), "sub": subject.public_key(), "nats": claims });
    let encode = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
    let signed = [encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(&claims)].join(".");
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn creds(jwt: &str, keys: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        keys.seed().unwrap()
    )
}

async fn a_credentials_file_is_taken_and_a_strangers_is_not(link: NatsLink) {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1).unwrap()[0]);
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let no_limits = json!({ "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
        "wildcards": true });
    let of_operator = jwt(&operator, &operator, json!({ "type": "operator", "version": 2 }));
    let of_account = jwt(&operator, &account, json!({ "type": "account", "version": 2, "limits": no_limits }));
    let of_user = |issuer: &KeyPair| {
        jwt(
            issuer,
            &user,
            json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 }),
        )
    };
    let conf = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}\n",
        account.public_key()
    );
    let _server = serve(folder.path(), port, &conf).await;
    let path = folder.path().join("node.creds");
    fs::write(&path, creds(&of_user(&account), &user)).unwrap();
    gets_in(options(link, port, NatsAuth::Creds(path.clone()))).await;
    fs::write(&path, creds(&of_user(&KeyPair::new_account()), &user)).unwrap();
    is_refused(options(link, port, NatsAuth::Creds(path))).await;
}

/// TLS with certificates on both sides, before and after the server's first words.
async fn certificates_are_shown_on_both_sides(link: NatsLink) {
    let Some(certificates) = Certificates::new() else { return skip("TLS to NATS", "there is no openssl") };
    let file = |name: &str| certificates.path(name);
    let shown = |name: &str| file(name).display().to_string();
    for first in [false, true] {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1).unwrap()[0]);
        let conf = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true, handshake_first: {first} }}\n",
            shown("ours-server.pem"),
            shown("ours-server.key"),
            shown("ours.pem"),
        );
        let _server = serve(folder.path(), port, &conf).await;
        let with = |ca: &str, own: &str, first: bool| {
            let mut options = options(link, port, NatsAuth::None);
            let (cert, key) = (file(&format!("{own}-node.pem")), file(&format!("{own}-node.key")));
            options.tls = NatsTls { ca_file: Some(file(ca)), cert_file: Some(cert), key_file: Some(key) };
            options.tls_first = first;
            options.connect_timeout = Duration::from_millis(1_500);
            options
        };
        gets_in(with("ours.pem", "ours", first)).await;
        // A server may be away for a while, so these start, and have no connection.
        for (ca, own, first) in
            [("other.pem", "ours", first), ("ours.pem", "other", first), ("ours.pem", "ours", !first)]
        {
            // A server that waits for TLS says nothing.
            let bus = connect(with(ca, own, first)).await.unwrap();
            assert_eq!(bus.connected(), None, "{ca} {own} {first}");
        }
    }
}

on_both_links!(
    a_token_is_taken_and_a_wrong_one_is_not,
    a_key_is_taken_and_a_wrong_one_is_not,
    a_credentials_file_is_taken_and_a_strangers_is_not,
    certificates_are_shown_on_both_sides,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_changed_counts_at_the_next_connection() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_ports(1).unwrap()[0]);
    let (before, after) = (KeyPair::new_user(), KeyPair::new_user());
    let server = serve(folder.path(), port, &key_server(&before)).await;
    let path = folder.path().join("node.nk");
    fs::write(&path, before.seed().unwrap()).unwrap();
    let bus = connect(options(NatsLink::Own, port, NatsAuth::NKey(path.clone()))).await.unwrap();
    let mut events = bus.events();
    drop(server);
    let _server = serve(folder.path(), port, &key_server(&after)).await;
    assert_eq!(events.recv().await, Ok(BusEvent::Disconnected));
    until("the old key is refused", async || bus.refusal().is_some()).await;
    fs::write(&path, after.seed().unwrap()).unwrap();
    until("the new key is taken", async || bus.fence().await == Ok(2)).await;
    assert_eq!(bus.refusal(), None);
}
