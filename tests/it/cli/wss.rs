//! `wss://`: the Rust client and the commands behind a TLS terminator, and what they say to a certificate that nobody
//! they trust has signed.

use std::time::Duration;

use natter::{
    client::{Authorities, Client, ClientOptions, ConnectError, Event},
    protocol::Body,
};
use tokio::time::timeout;

use crate::{
    harness::{
        PATIENCE, certificates::Certificates, natter::natter, process::output, skip::skip, terminator::Terminator,
        until,
    },
    mesh::{SECRET, TestMesh, token},
};

/// A mesh of one node behind a terminator that shows a certificate of the authority `ours`.
struct Behind {
    mesh: TestMesh,
    terminator: Terminator,
    certificates: Certificates,
}

impl Behind {
    /// `None`, and said so, without openssl.
    async fn start() -> Option<Self> {
        let Some(certificates) = Certificates::new() else {
            skip("wss://", "there is no openssl");
            return None;
        };
        let mesh = TestMesh::start(1).await;
        let node = mesh.nodes[0].addr;
        let terminator = Terminator::start(&certificates, "ours-server", node).await;
        Some(Self { mesh, terminator, certificates })
    }

    fn trusting(&self, authority: &str) -> Authorities {
        Authorities::of_file(self.certificates.path(&format!("{authority}.pem")))
    }

    /// Who waits for a first connection longer than a test does.
    fn options(&self, user: &str, authorities: Authorities) -> ClientOptions {
        let options = ClientOptions::new(self.terminator.url(), token(user), "d");
        options.authorities(authorities).connect_timeout(Duration::from_secs(3600))
    }

    async fn refusal(&self, options: ClientOptions) -> String {
        let connected = timeout(PATIENCE, Client::connect(options)).await.expect("it must be refused at once");
        let error = connected.expect_err("there must be no connection");
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        error.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_talks_through_tls_and_comes_back_when_the_certificate_is_good_again() {
    let Some(behind) = Behind::start().await else { return };
    let bob = Client::connect(behind.options("bob", behind.trusting("ours"))).await.unwrap();
    let alice = Client::connect(behind.options("alice", behind.trusting("ours"))).await.unwrap();
    assert_eq!(alice.send("@bob", Body::text("hi")).await.unwrap().seq, 1);
    let got = async |seq| loop {
        match timeout(PATIENCE, bob.next()).await.expect("bob must get a message") {
            Some(Event::Message(message)) => break assert_eq!(message.seq, seq),
            Some(Event::Closed(error)) => panic!("bob has given up: {error}"),
            _ => {}
        }
    };
    got(1).await;
    behind.terminator.show(&behind.certificates, "other-server");
    until("both have refused the certificate", async || behind.terminator.refused() >= 2).await;
    behind.terminator.show(&behind.certificates, "ours-server");
    assert_eq!(timeout(PATIENCE, alice.send("@bob", Body::text("again"))).await.unwrap().unwrap().seq, 2);
    got(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trusted_is_refused_at_once_and_in_words() {
    let Some(behind) = Behind::start().await else { return };
    let other = behind.refusal(behind.options("bob", behind.trusting("other"))).await;
    assert!(other.contains(&behind.terminator.url()) && other.contains("its certificate is not accepted"), "{other}");
    // Here the words depend on whether this machine has any authorities at all.
    behind.refusal(behind.options("bob", Authorities::system())).await;
    let gone = behind.refusal(behind.options("bob", behind.trusting("nowhere"))).await;
    assert!(gone.contains("cannot use the authorities in") && gone.contains("nowhere.pem"), "{gone}");
    let plain = behind.mesh.nodes[0].url().replace("ws://", "wss://");
    let options = behind.options("bob", behind.trusting("ours")).urls([plain]);
    let plain = behind.refusal(options).await;
    assert!(plain.contains("does not speak TLS"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_connects_takes_an_authority() {
    let Some(behind) = Behind::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let (url, ca) = (behind.terminator.url(), behind.certificates.path("ours.pem"));
    let commands = [
        vec!["send", "--user", "alice", "--to", "@bob", "hello"],
        vec!["tail", "--user", "bob", "--once"],
        vec!["bench", "idle", "--users", "2"],
    ];
    for args in commands {
        let mut command = natter(folder.path());
        command.args(&args).args(["--secret-file", "secret", "--url", &url, "--ca"]).arg(&ca);
        let good = output(command).await;
        assert!(good.status.success() && !good.stdout.is_empty(), "{args:?}: {good:?}");
    }
    let mut untrusting = natter(folder.path());
    untrusting.args(["send", "--user", "alice", "--to", "@bob", "hello", "--secret-file", "secret", "--url", &url]);
    untrusting.env("NATTER_CA", behind.certificates.path("other.pem"));
    let refused = output(untrusting).await;
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.contains("its certificate is not accepted") && errors.contains("--ca FILE"), "{errors}");
}
