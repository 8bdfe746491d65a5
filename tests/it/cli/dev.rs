//! `natter dev --json` as its user sees it: it starts, its tokens are good for a chat over its nodes, and however it
//! ends no nats-server is left behind.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use natter::{nats_server, protocol::Encoding};
use serde_json::Value;
use tempfile::TempDir;

use crate::mesh::{
    Peer,
    process::{Process, natter},
    until,
};

struct Dev {
    process: Process,
    ready: Value,
    folder: TempDir,
}

impl Dev {
    /// Starts it in an empty folder and waits for its line.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = nats_server::find(None).unwrap().path;
        let mut command = natter(folder.path());
        command.args(["dev", "--json", "--port", "0", "--data", "data", "--nats-server"]).arg(server);
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(folder.path().join("stderr")).unwrap());
        let mut process = Process::spawn(command);
        let stdout = process.child().stdout.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(crate::mesh::PATIENCE, read).await.expect("no line came").unwrap().unwrap();
        Self { process, ready: serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}")), folder }
    }

    async fn join(&self, user: &str, node: usize) -> Peer {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (url, token) = (text(&self.ready["nodes"][node]["ws"]), text(&self.ready["tokens"][user]));
        Peer::join_as(&url, &token, "d", Encoding::Json, 0).await.unwrap()
    }

    /// The nats-server that it started: its only child.
    fn server(&self) -> u32 {
        let processes = std::fs::read_dir("/proc").unwrap();
        let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.find(|pid| parent(*pid) == Some(self.process.pid())).expect("no nats-server is running")
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }
}

/// A process's parent; `None` when it is gone or a zombie.
fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    if words.next()? == "Z" { None } else { words.next()?.parse().ok() }
}

async fn gone(pid: u32) {
    until("the nats-server is gone", async || parent(pid).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_run_chats_and_ctrl_c_leaves_nothing_behind() {
    let mut dev = Dev::start().await;
    assert_eq!(dev.ready["nodes"].as_array().map(Vec::len), Some(2));
    let (alice, bob) = (dev.join("alice", 0).await, dev.join("bob", 1).await);
    alice.send("@bob", "c1", "hello").await;
    bob.message("dm:alice:bob", 1).await;
    bob.send("@alice", "c2", "hello too").await;
    alice.message("dm:alice:bob", 2).await;
    let server = dev.server();
    dev.process.signal(libc::SIGINT);
    assert_eq!(alice.closed().await.0, 4000);
    let status = dev.process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", dev.stderr());
    gone(server).await;
    assert_eq!(dev.stderr(), "", "a quiet run says nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_leaves_no_server_either() {
    let mut dev = Dev::start().await;
    let server = dev.server();
    dev.process.kill9();
    gone(server).await;
}
