//! `natter dev --json` as its user sees it: it starts, its tokens work for a chat over its nodes, and however it ends,
//! no nats-server is left behind.

use std::path::Path;

use natter::nats_server;
use tempfile::TempDir;

use super::readme::{nats_request, words};
use crate::harness::{
    dev::Dev,
    natter::natter,
    process::{Process, output, runs, stat},
    until,
};

async fn start() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Dev::start(folder.path(), 2, 0).await, folder)
}

/// The nats-server that it started: its only child.
fn server_of(dev: &Dev) -> u32 {
    child_of(dev).expect("no nats-server is running")
}

fn child_of(dev: &Dev) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let child = |pid: &u32| stat(*pid).is_some_and(|stat| stat.state != 'Z' && stat.parent == dev.process.pid());
    pids.find(child)
}

async fn gone(pid: u32) {
    until("the nats-server is gone", async || !runs(pid)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_run_chats_and_ctrl_c_leaves_nothing_behind() {
    let (mut dev, _folder) = start().await;
    assert_eq!(dev.nodes(), 2);
    let (alice, bob) = (dev.join("alice", 0).await, dev.join("bob", 1).await);
    alice.send("@bob", "c1", "hello").await;
    bob.message("dm:alice:bob", 1).await;
    bob.send("@alice", "c2", "hello too").await;
    alice.message("dm:alice:bob", 2).await;
    let server = server_of(&dev);
    dev.process.signal(libc::SIGINT);
    assert_eq!(alice.closed().await.0, 4000);
    let status = dev.process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", dev.process.log());
    gone(server).await;
    assert_eq!(dev.process.log(), "", "a quiet run says nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_leaves_no_server_either() {
    let (mut dev, _folder) = start().await;
    let server = server_of(&dev);
    dev.process.kill9();
    gone(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_server_that_dies_is_started_again_and_the_nodes_find_it() {
    let (mut dev, _folder) = start().await;
    let (alice, bob) = (dev.join("alice", 0).await, dev.join("bob", 1).await);
    let server = server_of(&dev);
    // SAFETY: kill touches no memory; the server is the child of a process of ours.
    unsafe { libc::kill(libc::pid_t::try_from(server).unwrap(), libc::SIGKILL) };
    dev.process.says("nats-server ended; starting it again").await;
    dev.process.says("nats-server runs again").await;
    assert!(child_of(&dev).is_some_and(|next| next != server), "{}", dev.process.log());
    // From node to node: not before both are on the new server.
    alice.send("@bob", "c1", "still there?").await;
    bob.message("dm:alice:bob", 1).await;
    let next = server_of(&dev);
    dev.process.signal(libc::SIGINT);
    assert_eq!(dev.process.ended().await.code(), Some(0), "{}", dev.process.log());
    gone(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_find_it_from_any_folder_and_a_service_gets_in_with_what_is_printed() {
    let (folder, elsewhere, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let cache = cache.path().to_str().unwrap();
    let password = "it is a \"secret\" #1";
    let variables = [("NATTER_CACHE", cache), ("NATTER_BILLING_PASSWORD", password)];
    let mut dev = Dev::start_with(folder.path(), 2, 0, &variables).await;
    let run = async |args: &[&str]| {
        let mut command = natter(elsewhere.path());
        command.args(args).env("NATTER_CACHE", cache);
        output(command).await
    };
    let send = ["send", "--user", "alice", "--to", "@bob", "hi"];
    let sent = run(&send).await;
    assert_eq!(String::from_utf8_lossy(&sent.stdout), "dm:alice:bob 1\n", "{sent:?}");
    let token = dev.token("bob").to_owned();
    for identity in [["--user", "bob"], ["--token", &token]] {
        let tail = [&["tail", "--once", "--from-start"], &identity[..]].concat();
        let tailed = run(&tail).await;
        assert!(String::from_utf8_lossy(&tailed.stdout).ends_with("alice: hi\n"), "{tailed:?}");
    }
    let nodes = run(&["nodes", "--json"]).await;
    assert_eq!(String::from_utf8_lossy(&nodes.stdout).lines().count(), 2, "{nodes:?}");
    assert_eq!(dev.said("/service/password"), password);
    let command = words(dev.said("/service/command").as_str().unwrap(), &[]);
    assert!(nats_request(&command).await.contains("dm:billing:bob"), "{command:?}");
    let command = words(dev.said("/service/queue_command").as_str().unwrap(), &[]);
    assert!(nats_request(&command).await.contains("NATTER_QUEUE"), "{command:?}");
    until("what was queued is there", async || {
        let shown = run(&["history", "--user", "bob", "dm:billing:bob"]).await;
        String::from_utf8_lossy(&shown.stdout).contains("billing: paid later")
    })
    .await;
    assert_eq!(dev.said("/changed/queue.enabled"), true);
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", dev.said("/service/http_command").as_str().unwrap()]);
    let sent = shell.output().await.unwrap();
    assert!(String::from_utf8_lossy(&sent.stdout).contains("dm:billing:bob"), "{sent:?}");
    assert_eq!(dev.said("/changed/limits.sends_per_sec"), 0);
    dev.process.kill9();
    let lost = run(&send).await;
    let errors = String::from_utf8_lossy(&lost.stderr);
    assert!(lost.status.code() == Some(1) && errors.contains("start natter dev"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_what_is_different_here_and_a_limit_of_his_own_stays() {
    let folder = TempDir::new().unwrap();
    let mut dev = by_hand(folder.path(), &[]);
    assert!(dev.line_after("  nats --server nats://").await.contains("--inbox-prefix _INBOX_billing req"));
    assert_eq!(dev.line_after("  limits.sends_per_sec = 0").await, "(no rate limit)");
    drop(dev);
    let folder = TempDir::new().unwrap();
    let mut dev = by_hand(folder.path(), &[("NATTER_LIMITS__SENDS_PER_SEC", "7")]);
    dev.line_after("Other than with natter serve:").await;
    while let Some(line) = dev.line().await.filter(|line| !line.starts_with("Ctrl-C")) {
        assert!(!line.contains("limits."), "{line}");
    }
}

/// `natter dev` as a person starts it.
fn by_hand(folder: &Path, variables: &[(&str, &str)]) -> Process {
    let mut command = natter(folder);
    command.args(["dev", "--port", "0", "--nats-server"]).arg(nats_server::find(None).unwrap().path);
    command.envs(variables.iter().copied());
    Process::reading(command)
}
