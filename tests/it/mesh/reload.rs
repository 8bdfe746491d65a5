//! SIGHUP at a running node: keys, services and the log filter are taken without a restart, and a faulty configuration
//! changes nothing. And what the log says of sessions and refused tokens.

use std::{net::SocketAddr, path::Path, time::Duration};

use natter::{
    auth::Minter,
    config::Secret,
    model::UserId,
    nats_server::{NatsServer, Passwords, ServerOptions, free_ports},
    protocol::{CloseReason, Encoding},
};

use super::{Peer, SECRET, serve::ServeProcess, services};
use crate::harness::until;

const NEW_SECRET: &str = "the-secret-that-comes-after-the-first-one";

/// A password with everything that a shell, a URL, TOML or the NATS server's configuration could stumble over.
const ODD: &str = "\"1p@ss: w/o?r#d%41 $x${y}{[,;]}'&=+|~`!*()<>^ä";

struct Site {
    folder: tempfile::TempDir,
    nats: NatsServer,
    node: ServeProcess,
    head: String,
}

impl Site {
    /// A node with `more` in its configuration, on a server where the node's password is [`ODD`].
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(folder.path().join("nats"));
        options.passwords = Passwords { node: ODD.to_owned(), ..Passwords::random() };
        let nats = NatsServer::start(options).await.unwrap();
        std::fs::write(folder.path().join("password"), format!("{ODD}\n")).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_ports(1).unwrap()[0]));
        let head = format!(
            "http.listen = \"{addr}\"\nnode.name = \"p1\"\nnats.urls = [\"{}\"]\nnats.user = \"node\"\n\
             nats.password_file = \"password\"\nstore.embedded.data_dir = \"data\"\n",
            nats.client_url()
        );
        let node = ServeProcess::configured(folder.path(), addr, &format!("{head}{more}")).await;
        Self { folder, nats, node, head }
    }

    /// Reads another configuration, and waits until the log says `words`.
    async fn reread(&mut self, more: &str, words: &str) {
        std::fs::write(self.folder.path().join("natter.toml"), format!("{}{more}", self.head)).unwrap();
        self.node.process.signal(libc::SIGHUP);
        self.node.process.says(words).await;
    }

    /// Whether a token that is signed with `secret` is taken.
    async fn takes(&self, secret: &str) -> bool {
        let minter = Minter::new(&Secret::new(secret)).unwrap();
        let token = minter.mint(&UserId::new("alice").unwrap(), Duration::from_secs(60)).unwrap();
        match Peer::join_as(&self.node.url(), &token, "d", Encoding::Json, 0).await {
            Ok(_) => true,
            Err(error) => {
                assert!(format!("{error:?}").contains(&CloseReason::BadToken.code().to_string()), "{error:?}");
                false
            }
        }
    }
}

fn secret(key: &str, secret: &str) -> String {
    format!("auth.{key} = \"{secret}\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_takes_keys_services_and_log_filter_or_nothing() {
    let (first, second) = (secret("hs256_secret", SECRET), secret("hs256_secret", NEW_SECRET));
    let both = format!("{second}{}", secret("hs256_previous_secret", SECRET));
    let mut site = Site::start(&first).await;
    assert!(site.takes(SECRET).await && !site.takes(NEW_SECRET).await);
    assert!(!services::may_send_as(&site.nats, "alice").await);
    assert!(!site.node.process.log().contains("DEBUG"), "{}", site.node.process.log());

    let more = "services.billing.may_send_as = [\"alice\"]\nlog.filter = \"info,natter=debug\"\nlimits.window = 7\n";
    site.reread(&format!("{both}{more}"), "SIGHUP: took the keys, the services and the log filter").await;
    assert!(site.takes(SECRET).await && site.takes(NEW_SECRET).await, "both secrets are good");
    assert!(services::may_send_as(&site.nats, "alice").await);
    site.node.process.says("DEBUG").await;
    site.node.process.says("need a restart").await;
    assert!(site.node.process.log().contains("limits.window"), "{}", site.node.process.log());

    // A fault anywhere: nothing is taken, not even what is good.
    site.reread(&format!("{first}limits.window = 0\n"), "everything stays as it was").await;
    site.node.process.says("limits.window = 0 must be").await;
    site.reread("auth.hs256_secret_file = \"gone\"\n", "cannot read gone").await;
    assert!(site.takes(NEW_SECRET).await && services::may_send_as(&site.nats, "alice").await);

    site.reread(&format!("{second}limits.window = 9\n"), "services=\"\"").await;
    assert!(site.takes(NEW_SECRET).await && !site.takes(SECRET).await, "the first secret is gone");
    assert!(!services::may_send_as(&site.nats, "alice").await);
    assert!(!site.node.process.log().contains(NEW_SECRET) && !site.node.process.log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_each_session_and_each_refused_token() {
    let site = Site::start(&secret("hs256_secret", SECRET)).await;
    assert!(site.takes(SECRET).await && !site.takes(NEW_SECRET).await);
    let line = |words: &str| site.node.process.log().lines().find(|line| line.contains(words)).map(str::to_owned);
    until("the session is closed", async || line("session closed").is_some()).await;
    for (words, fields) in [
        ("session opened", &["INFO", "user=alice", "device=d", "session=", "address=\"127.0.0.1"][..]),
        ("session closed", &["INFO", "user=alice", "device=d", "session=", "reason=", "seconds="]),
        ("a token was refused", &["INFO", "address=\"127.0.0.1", "reason=\"token: the signature is not valid\""]),
    ] {
        let line = line(words).unwrap_or_else(|| panic!("no line {words:?} in {}", site.node.process.log()));
        for field in fields {
            assert!(line.contains(field), "wanted {field} in {line}");
        }
    }
}

/// The same password as a file (above), as a variable, and encoded in the URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_may_have_any_characters_in_a_variable_and_in_a_url() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(folder.path().join("nats"));
    options.passwords = Passwords { node: ODD.to_owned(), ..Passwords::random() };
    let nats = NatsServer::start(options).await.unwrap();
    let encoded: String = ODD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = nats.client_url().replace("://", &format!("://node:{encoded}@"));
    let by_variables = [("NATTER_NATS__URLS", nats.client_url()), ("NATTER_NATS__PASSWORD", ODD.to_owned())];
    doctor(folder.path(), by_variables.into_iter().chain([("NATTER_NATS__USER", "node".to_owned())])).await;
    doctor(folder.path(), [("NATTER_NATS__URLS", url)]).await;
}

/// The quotes that docker-compose.yml puts around a password reach the server, and the node gets it as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_the_env_file_may_have_any_characters_but_the_quote() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compose = std::fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let line = "  NATTER_NODE_PASSWORD: \"'${NATTER_NODE_PASSWORD:?set it in .env}'\"\n";
    assert!(compose.contains(line), "the quotes are gone from docker-compose.yml");
    let password = ODD.replace('\'', "");
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1).unwrap()[0];
    let mut command = std::process::Command::new(natter::nats_server::find(None).unwrap().path);
    command.arg("-c").arg(root.join("nats/server.conf")).args(["-p", &port.to_string()]);
    command.env("NATTER_NATS_STORE", format!("\"{}\"", folder.path().display()));
    for name in ["NATTER_NODE_PASSWORD", "NATTER_OPERATOR_PASSWORD", "NATTER_BILLING_PASSWORD"] {
        command.env(name, format!("'{password}'"));
    }
    let mut server = crate::harness::process::Process::start(command);
    server.says("Server is ready").await;
    let node = [
        ("NATTER_NATS__URLS", format!("nats://127.0.0.1:{port}")),
        ("NATTER_NATS__USER", "node".to_owned()),
        ("NATTER_NATS__PASSWORD", password),
    ];
    doctor(folder.path(), node).await;
}

/// `natter doctor` signs in like a node; it says so when the server refuses.
async fn doctor(folder: &Path, variables: impl IntoIterator<Item = (&'static str, String)>) {
    let mut command = crate::harness::natter::natter(folder);
    command.args(["doctor", "--json"]).envs(variables).env("NATTER_AUTH__HS256_SECRET", SECRET);
    let output = crate::harness::process::output(command).await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["part"] == "nats");
    let states: Vec<_> = findings.map(|finding| &finding["state"]).collect();
    assert!(!states.is_empty() && states.iter().all(|state| **state != "fail"), "{report:#}");
}
