//! TLS to the CQL server: each key of the configuration takes effect.

use std::{net::SocketAddr, path::Path, process::Command};

use natter::nats_server::free_ports;

use crate::harness::{
    cassandra::{Cassandra, keyspace, missing},
    certificates::Certificates,
    haproxy::haproxy,
    natter::natter,
    process::{Process, output},
    skip::skip,
    until,
};

/// HAProxy as the TLS side of a CQL server. The driver assumes that the port of its contact point is the server's own,
/// so all its connections come through here.
fn start_terminator(certificates: &Certificates, program: &Path, folder: &Path, to: SocketAddr) -> (Process, u16) {
    let port = free_ports(1).unwrap()[0];
    let read = |name: &str| std::fs::read_to_string(certificates.path(name)).unwrap();
    let both = folder.join("both.pem");
    std::fs::write(&both, read("ours-server.pem") + &read("ours-server.key")).unwrap();
    let conf = folder.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\nlisten cql\n \
         bind 127.0.0.1:{port} ssl crt {} ca-file {} verify required\n server cql {to}\n",
        both.display(),
        certificates.path("ours.pem").display(),
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&conf);
    (Process::start(command), port)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_with_certificates_on_both_sides() {
    const PART: &str = "TLS to the store";
    let Some(certificates) = Certificates::new() else { return skip(PART, "there is no openssl") };
    let Some(program) = haproxy() else { return skip(PART, "there is no haproxy; apt install haproxy") };
    if missing(PART).await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_proxy, port) = start_terminator(&certificates, &program, folder.path(), Cassandra::shared().await.addr(0));
    until("the proxy listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let keyspace = keyspace();
    let migrate = async |ca: &str, own: Option<&str>| {
        let mut command = natter(folder.path());
        command
            .args(["migrate", "--contact-points", &format!("127.0.0.1:{port}"), "--keyspace", &keyspace])
            .args(["--replication-factor", "1"])
            .env("NATTER_STORE__SCYLLA__TLS_CA_FILE", certificates.path(&format!("{ca}.pem")));
        if let Some(own) = own {
            command.env("NATTER_STORE__SCYLLA__TLS_CERT_FILE", certificates.path(&format!("{own}-node.pem")));
            command.env("NATTER_STORE__SCYLLA__TLS_KEY_FILE", certificates.path(&format!("{own}-node.key")));
        }
        output(command).await
    };
    // Each of the three keys matters: another authority, another's certificate, none at all.
    for (ca, own) in [("other", Some("ours")), ("ours", Some("other")), ("ours", None)] {
        let refused = migrate(ca, own).await;
        assert_eq!(refused.status.code(), Some(1), "{ca} {own:?}: {refused:?}");
    }
    let done = migrate("ours", Some("ours")).await;
    assert!(done.status.success(), "{done:?}");
}
