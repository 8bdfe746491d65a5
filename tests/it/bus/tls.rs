//! TLS to NATS: each key of the configuration takes effect, and a server that shows another authority's certificate is
//! refused.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use natter::nats_server::{find, free_ports};
use serde_json::Value;

use crate::harness::{
    certificates::Certificates,
    natter::natter,
    process::{Process, output},
    skip::skip,
};

/// A nats-server that asks for a certificate from our authority.
async fn start_server(certificates: &Certificates, folder: &Path) -> (Process, u16) {
    let port = free_ports(1).unwrap()[0];
    let conf = folder.join("tls.conf");
    let file = |name: &str| certificates.path(name).display().to_string();
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
    let mut server = Process::start(command);
    server.says("Server is ready").await;
    (server, port)
}

/// The doctor's finding about the server.
async fn server_finding(folder: &Path, port: u16, variables: &[(&str, PathBuf)]) -> Value {
    let mut doctor = natter(folder);
    doctor
        .args(["doctor", "--json"])
        // The URL does not mention TLS: the certificate files ask for it.
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
    let Some(certificates) = Certificates::new() else { return skip("TLS to NATS", "there is no openssl") };
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = start_server(&certificates, folder.path()).await;
    let files = |ca: &str, own: &str| {
        [
            ("NATTER_NATS__TLS_CA_FILE", certificates.path(&format!("{ca}.pem"))),
            ("NATTER_NATS__TLS_CERT_FILE", certificates.path(&format!("{own}-node.pem"))),
            ("NATTER_NATS__TLS_KEY_FILE", certificates.path(&format!("{own}-node.key"))),
        ]
    };
    let good = server_finding(folder.path(), port, &files("ours", "ours")).await;
    assert_eq!(good["state"], "ok", "{good}");
    // Each of the three keys matters: another authority, another's certificate, none at all.
    for wrong in [&files("other", "ours")[..], &files("ours", "other"), &files("ours", "ours")[..1], &[]] {
        let found = server_finding(folder.path(), port, wrong).await;
        assert_eq!(found["state"], "fail", "{found}");
    }
    let gone = [("NATTER_NATS__TLS_CA_FILE", certificates.path("nowhere.pem"))];
    let found = server_finding(folder.path(), port, &gone).await;
    assert!(found["state"] == "fail" && found["says"].as_str().unwrap().contains("nowhere.pem"), "{found}");
}
