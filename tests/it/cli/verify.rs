//! A damaged store, as its operator meets it: `verify` says what is wrong, `serve` refuses, and goes on when told so.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use natter::{
    nats_server::{NatsServer, ServerOptions},
    protocol::Encoding,
};
use serde_json::Value;

use crate::{
    harness::{natter::natter, process::output},
    mesh::{Peer, serve::ServeProcess},
};

/// Exit code, standard output and standard error.
async fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = natter(folder);
    command.args(["--config", "natter.toml"]).args(args);
    let output = output(command).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_told_refused_and_accepted() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let nats = NatsServer::start(ServerOptions::new(folder.join("nats"))).await.unwrap();
    let mut serve = ServeProcess::start(folder, &nats, "").await;
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::Json).await;
    for n in 1..=20 {
        alice.send("@bob", &format!("m{n}"), &format!("text {n}")).await;
    }
    let (code, _, told) = run(folder, &["verify"]).await;
    assert!(code == Some(1) && told.contains("open") && told.contains("stop the node"), "{told}");
    serve.process.kill9();
    let (code, said, told) = run(folder, &["verify"]).await;
    assert!(code == Some(0) && said.contains("20 messages") && said.contains("all is well"), "{said} {told}");
    damage(&folder.join("data/store/data/0.jnl"));
    let (code, said, _) = run(folder, &["verify", "--json"]).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["rows_checked"]), (Some(1), &Value::Bool(false)), "{said}");
    assert!(report["problems"][0].as_str().unwrap().contains("commits are missing"), "{said}");
    let (code, _, told) = run(folder, &["serve"]).await;
    assert!(code == Some(1) && told.contains("commits are missing") && told.contains("--accept-loss"), "{told}");
    serve.start_again(&["--accept-loss"]).await;
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::Json).await;
    let seq = alice.send("@bob", "after", "text").await.1;
    assert!(seq > 1_000_000, "{seq}: clients that have the lost ones must not take this for one of them");
    assert_eq!(alice.send("@bob", "m1", "text 1").await.1, 1, "what is left is known");
}

/// A byte in the middle of what is written.
fn damage(journal: &Path) {
    let bytes = fs::read(journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let file = fs::OpenOptions::new().write(true).open(journal).unwrap();
    file.write_all_at(&[bytes[end * 3 / 4] ^ 0xff], (end * 3 / 4) as u64).unwrap();
}
