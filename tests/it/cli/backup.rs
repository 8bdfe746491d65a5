//! The drill of docs/operations.md: a backup of a running node, a lost disk, a restore.

use std::{fs, path::Path};

use natter::{
    model::Seq,
    nats_server::{NatsServer, ServerOptions},
    protocol::Encoding,
};

use crate::{
    harness::{natter::natter, process::output},
    mesh::{Peer, serve::ServeProcess},
};

const CONV: &str = "dm:alice:bob";

async fn run(folder: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = natter(folder);
    command.args(["--config", "natter.toml"]).args(args);
    let output = output(command).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

async fn send(alice: &Peer, cids: std::ops::RangeInclusive<Seq>) -> Vec<Seq> {
    let mut seqs = Vec::new();
    for n in cids {
        seqs.push(alice.send("@bob", &format!("m{n}"), &format!("text {n}")).await.1);
    }
    seqs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_is_backed_up_and_restored_after_its_disk_was_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let nats = NatsServer::start(ServerOptions::new(folder.join("nats"))).await.unwrap();
    let mut serve = ServeProcess::start(folder, &nats, "").await;
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::Json).await;
    let bob = Peer::join_quiet(&serve.url(), "bob", "phone", Encoding::Json).await;
    assert_eq!(send(&alice, 1..=20).await, (1..=20).collect::<Vec<_>>());
    bob.message(CONV, 20).await;
    bob.ack(CONV, 7);
    alice.receipt("bob has seven", |receipt| receipt.delivered == Some(7)).await;
    // While the node runs: the command asks the node.
    let said = run(folder, &["backup", "first.backup"]).await.unwrap();
    assert!(said.contains("20 messages"), "{said}");
    let again = run(folder, &["backup", "first.backup"]).await.unwrap_err();
    assert!(again.contains("exists already"), "{again}");
    // These are lost with the disk.
    assert_eq!(send(&alice, 21..=25).await, (21..=25).collect::<Vec<_>>());
    let refused = run(folder, &["restore", "first.backup"]).await.unwrap_err();
    assert!(refused.contains("in use"), "{refused}");
    serve.process.kill9();
    let refused = run(folder, &["restore", "first.backup"]).await.unwrap_err();
    assert!(refused.contains("holds a store already"), "{refused}");
    fs::rename(folder.join("data"), folder.join("lost")).unwrap();
    let said = run(folder, &["restore", "first.backup"]).await.unwrap();
    assert!(said.contains("20 messages"), "{said}");
    serve.restart().await;
    // The devices go on where the backup has them, and what comes new is numbered from its end.
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::Json).await;
    assert_eq!(send(&alice, 20..=20).await, [20], "a message of the backup is known by its cid");
    assert_eq!(send(&alice, 25..=26).await, [21, 22], "one that was lost is stored when it is sent again");
    let bob = Peer::join(&serve.url(), "bob", "phone", Encoding::Json).await;
    bob.message(CONV, 22).await;
    assert_eq!(bob.seqs(CONV), (8..=22).collect::<Vec<_>>(), "from the cursor of the backup on");
    // Without a node the command opens the store itself.
    serve.process.kill9();
    let said = run(folder, &["backup", "second.backup"]).await.unwrap();
    assert!(said.contains("22 messages"), "{said}");
}
