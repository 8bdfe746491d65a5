//! `natter dev --json` as its user sees it: it starts, its tokens work for a chat over its nodes, and however it ends,
//! no nats-server is left behind.

use tempfile::TempDir;

use crate::harness::{
    dev::Dev,
    process::{runs, stat},
    until,
};

async fn start() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Dev::start(folder.path(), 2, 0).await, folder)
}

/// The nats-server that it started: its only child.
fn server_of(dev: &Dev) -> u32 {
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let child = |pid: &u32| stat(*pid).is_some_and(|stat| stat.state != 'Z' && stat.parent == dev.process.pid());
    pids.find(child).expect("no nats-server is running")
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
