//! `natter dev` as a person starts it, in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::process::Process;

/// Far longer than it takes on a loaded machine, a recovery of the store included.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `natter dev`; a drop is a `kill -9`.
pub struct Dev {
    process: Process,
    ready: Value,
}

impl Dev {
    /// Starts it and waits for the line that says it is ready. `port` 0: any.
    pub fn start(data: &Path, nodes: usize, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_natter"));
        command.args(["dev", "--json", "--nodes", &nodes.to_string(), "--port", &port.to_string(), "--data"]);
        command.arg(data).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(command).unwrap();
        let mut output = BufReader::new(process.child().stdout.take().unwrap());
        let (told, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            let _ = told.send(line);
        });
        let line = line.recv_timeout(PATIENCE).expect("natter dev does not get ready");
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("natter dev said {line:?}: {e}"));
        Self { process, ready }
    }

    /// The node's page.
    pub fn page(&self, node: usize) -> &str {
        self.ready["nodes"][node]["http"].as_str().unwrap()
    }

    /// The link that `natter dev` prints for a person: page, token and whom to write to.
    pub fn link(&self, node: usize, user: &str, peer: &str) -> String {
        let token = self.ready["tokens"][user].as_str().unwrap();
        format!("{}/#token={token}&peer={peer}", self.page(node))
    }

    /// The node's port.
    pub fn port(&self, node: usize) -> u16 {
        self.page(node).rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Stops the process where it is: what is written to its sockets is neither read nor answered.
    pub fn pause(&self) {
        self.process.pause();
    }
}
