//! TLS to NATS and to the store, with certificates that the test makes: the keys of the configuration are in force,
//! and a server that shows another authority's certificate is refused.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use natter::nats_server::{find, free_ports};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::nats_server::until,
    harness::{
        cassandra::{self, Cassandra, keyspace},
        running::{Running, haproxy, natter, output},
        skip::skip,
    },
};

/// Authorities and what they signed: `<ca>.pem`, `<ca>-server.pem`, `<ca>-node.pem`, each with a `.key`.
struct Papers(TempDir);

impl Papers {
    /// `None` where there is no openssl.
    fn new() -> Option<Self> {
        let there = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        there.ok().filter(std::process::ExitStatus::success)?;
        let papers = Self(tempfile::tempdir().unwrap());
        for ca in ["ours", "other"] {
            papers.openssl(&["req", "-x509", "-subj", "/CN=authority", "-days", "2"], ca, &[]);
            for who in ["server", "node"] {
                papers.sign(ca, who);
            }
        }
        Some(papers)
    }

    fn sign(&self, ca: &str, who: &str) {
        let name = format!("{ca}-{who}");
        let authority = [self.path(&format!("{ca}.pem")), self.path(&format!("{ca}.key"))];
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let signed = ["-CA", authority[0].to_str().unwrap(), "-CAkey", authority[1].to_str().unwrap()];
        let leaf = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
        let subject = format!("/CN={who}");
        self.openssl(&["req", "-x509", "-subj", &subject, "-days", "2"], &name, &[&signed[..], &leaf[..]].concat());
    }

    /// Makes a key and a certificate of this name.
    fn openssl(&self, what: &[&str], name: &str, more: &[&str]) {
        let output = Command::new("openssl")
            .args(what)
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.pem")))
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A nats-server that asks for a certificate of our authority.
async fn start_server(papers: &Papers, folder: &Path) -> (Running, u16) {
    let port = free_ports(1).unwrap()[0];
    let conf = folder.join("tls.conf");
    let file = |name: &str| papers.path(name).display().to_string();
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nauthorization {{ user: node, password: secret }}\n\
         tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
        file("ours-server.pem"),
        file("ours-server.key"),
        file("ours.pem"),
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new(find(None).unwrap().path);
    command.arg("-c").arg(&conf);
    let mut server = Running::start(command, folder.join("nats.log"));
    until("the server is ready", async || {
        assert!(server.exited().is_none(), "{}", server.log());
        server.log().contains("Server is ready")
    })
    .await;
    (server, port)
}

/// The doctor's finding on the server.
async fn server_finding(folder: &Path, port: u16, variables: &[(&str, PathBuf)]) -> Value {
    let mut doctor = natter(folder);
    doctor
        .args(["doctor", "--json"])
        // No word of TLS here: the files ask for it.
        .env("NATTER_NATS__URLS", format!("nats://127.0.0.1:{port}"))
        .env("NATTER_NATS__USER", "node")
        .env("NATTER_NATS__PASSWORD", "secret")
        .envs(variables.iter().map(|(name, path)| (*name, path)));
    let output = output(doctor).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    report["findings"][0].clone()
}

#[tokio::test]
async fn nats_with_certificates_on_both_sides() {
    let Some(papers) = Papers::new() else { return skip("TLS to NATS", "there is no openssl") };
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = start_server(&papers, folder.path()).await;
    let files = |ca: &str, own: &str| {
        [
            ("NATTER_NATS__TLS_CA_FILE", papers.path(&format!("{ca}.pem"))),
            ("NATTER_NATS__TLS_CERT_FILE", papers.path(&format!("{own}-node.pem"))),
            ("NATTER_NATS__TLS_KEY_FILE", papers.path(&format!("{own}-node.key"))),
        ]
    };
    let good = server_finding(folder.path(), port, &files("ours", "ours")).await;
    assert_eq!(good["state"], "ok", "{good}");
    // Each of the three keys counts: another authority, another's certificate, none at all.
    for wrong in [&files("other", "ours")[..], &files("ours", "other"), &files("ours", "ours")[..1], &[]] {
        let found = server_finding(folder.path(), port, wrong).await;
        assert_eq!(found["state"], "fail", "{found}");
    }
    let gone = [("NATTER_NATS__TLS_CA_FILE", papers.path("nowhere.pem"))];
    let found = server_finding(folder.path(), port, &gone).await;
    assert!(found["state"] == "fail" && found["says"].as_str().unwrap().contains("nowhere.pem"), "{found}");
}

#[tokio::test]
async fn the_stores_certificates_are_read_and_checked_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = async |variables: &[(&str, &str)]| {
        let mut command = natter(folder.path());
        command.args(["doctor", "--json"]).env("NATTER_STORE__KIND", "scylla").envs(variables.iter().copied());
        output(command).await
    };
    let lone =
        doctor(&[("NATTER_STORE__SCYLLA__TLS_CERT_FILE", "c.pem"), ("NATTER_STORE__SCYLLA__TLS_KEY_FILE", "k.pem")]);
    let lone = lone.await;
    let said = String::from_utf8_lossy(&lone.stderr);
    assert!(lone.status.code() == Some(2) && said.contains("needs store.scylla.tls_ca_file"), "{said}");
    let gone = doctor(&[("NATTER_STORE__SCYLLA__TLS_CA_FILE", "nowhere.pem")]).await;
    let said = String::from_utf8_lossy(&gone.stdout);
    assert!(gone.status.code() == Some(1) && said.contains("nowhere.pem"), "{said}");
}

/// HAProxy as the TLS side of a CQL server. The driver takes the port of its contact point for the server's own, so
/// all its connections come through here.
fn start_terminator(papers: &Papers, program: &Path, folder: &Path, to: std::net::SocketAddr) -> (Running, u16) {
    let port = free_ports(1).unwrap()[0];
    let read = |name: &str| std::fs::read_to_string(papers.path(name)).unwrap();
    let both = folder.join("both.pem");
    std::fs::write(&both, read("ours-server.pem") + &read("ours-server.key")).unwrap();
    let conf = folder.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\nlisten cql\n \
         bind 127.0.0.1:{port} ssl crt {} ca-file {} verify required\n server cql {to}\n",
        both.display(),
        papers.path("ours.pem").display(),
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&conf);
    (Running::start(command, folder.join("haproxy.log")), port)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_with_certificates_on_both_sides() {
    const PART: &str = "TLS to the store";
    let Some(papers) = Papers::new() else { return skip(PART, "there is no openssl") };
    let Some(program) = haproxy() else { return skip(PART, "there is no haproxy; apt install haproxy") };
    if let Err(why) = cassandra::available() {
        return skip(PART, &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let (_proxy, port) = start_terminator(&papers, &program, folder.path(), Cassandra::shared().await.addr(0));
    until("the proxy listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let keyspace = keyspace();
    let migrate = async |ca: &str, own: Option<&str>| {
        let mut command = natter(folder.path());
        command
            .args(["migrate", "--contact-points", &format!("127.0.0.1:{port}"), "--keyspace", &keyspace])
            .args(["--replication-factor", "1"])
            .env("NATTER_STORE__SCYLLA__TLS_CA_FILE", papers.path(&format!("{ca}.pem")));
        if let Some(own) = own {
            command.env("NATTER_STORE__SCYLLA__TLS_CERT_FILE", papers.path(&format!("{own}-node.pem")));
            command.env("NATTER_STORE__SCYLLA__TLS_KEY_FILE", papers.path(&format!("{own}-node.key")));
        }
        output(command).await
    };
    // Each of the three keys counts: another authority, another's certificate, none at all.
    for (ca, own) in [("other", Some("ours")), ("ours", Some("other")), ("ours", None)] {
        let refused = migrate(ca, own).await;
        assert_eq!(refused.status.code(), Some(1), "{ca} {own:?}: {refused:?}");
    }
    let done = migrate("ours", Some("ours")).await;
    assert!(done.status.success(), "{done:?}");
}
