//! `natter dev` as a person starts it, in a separate process. Used by the tests of the command and of its page.

use std::{path::Path, process::Command};

use natter::{nats_server, protocol::Encoding};
use serde_json::Value;

use super::{natter::natter, process::Process};
use crate::mesh::Peer;

/// A running `natter dev`; dropping it is a `kill -9`.
pub struct Dev {
    /// Its process; the nats-server is a child of it.
    pub process: Process,
    /// What it printed when it was ready.
    ready: Value,
}

impl Dev {
    /// Starts it in `folder`, which holds its data too, and waits for the line that says it is ready. `port` 0: any.
    pub async fn start(folder: &Path, nodes: usize, port: u16) -> Self {
        Self::start_with(folder, nodes, port, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_with(folder: &Path, nodes: usize, port: u16, variables: &[(&str, &str)]) -> Self {
        let server = nats_server::find(None).unwrap().path;
        let mut command = natter(folder);
        command.args(["dev", "--json", "--data", "data", "--nodes", &nodes.to_string(), "--port", &port.to_string()]);
        command.arg("--nats-server").arg(server).envs(variables.iter().copied());
        Self::of(command).await
    }

    /// This command, which prints one line of JSON when it is ready.
    pub async fn of(command: Command) -> Self {
        let mut process = Process::reading(command);
        let line = process.line_after("").await;
        let ready = serde_json::from_str(&line).unwrap_or_else(|e| panic!("natter dev said {line:?}: {e}"));
        Self { process, ready }
    }

    /// How many nodes it says it has.
    pub fn nodes(&self) -> usize {
        self.ready["nodes"].as_array().unwrap().len()
    }

    /// What it printed, by JSON pointer.
    pub fn said(&self, pointer: &str) -> &Value {
        self.ready.pointer(pointer).unwrap_or_else(|| panic!("natter dev said nothing of {pointer}: {}", self.ready))
    }

    /// The node's page.
    pub fn page(&self, node: usize) -> &str {
        self.ready["nodes"][node]["http"].as_str().unwrap()
    }

    /// The link that `natter dev` prints for a person: page, token and whom to write to.
    pub fn link(&self, node: usize, user: &str, peer: &str) -> String {
        format!("{}/#token={}&peer={peer}", self.page(node), self.token(user))
    }

    /// The node's port.
    pub fn port(&self, node: usize) -> u16 {
        self.page(node).rsplit(':').next().unwrap().parse().unwrap()
    }

    /// The token that it made for a user.
    pub fn token(&self, user: &str) -> &str {
        self.ready["tokens"][user].as_str().unwrap()
    }

    /// A session of the user on a node.
    pub async fn join(&self, user: &str, node: usize) -> Peer {
        let url = self.ready["nodes"][node]["ws"].as_str().unwrap();
        Peer::join_as(url, self.token(user), "d", Encoding::Json, 0).await.unwrap()
    }
}
