//! What operators see of a mesh and do with it: the commands as a person runs them, with the account of operators, against
//! nodes in this process on a server with the files of `nats/`.

mod commands;
mod convention;
mod permitted;
mod traced;
mod why;

use std::process::{Command, Output};

use natter::config::{Config, NatsLink};
use serde_json::Value;

use crate::{
    harness::{natter::natter, process::output},
    mesh::TestMesh,
};

/// A mesh, and commands beside it.
pub struct Site {
    pub mesh: TestMesh,
    folder: tempfile::TempDir,
}

impl Site {
    /// Nodes that connect over this link.
    pub async fn start(link: NatsLink, nodes: usize) -> Self {
        Self::tuned(nodes, |config| config.nats.link = link).await
    }

    pub async fn tuned(nodes: usize, tune: impl FnOnce(&mut Config)) -> Self {
        Self::of(TestMesh::tuned(nodes, tune).await)
    }

    pub fn of(mesh: TestMesh) -> Self {
        Self { mesh, folder: tempfile::tempdir().unwrap() }
    }

    /// A command of an operator.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = natter(self.folder.path());
        command.args(args).args(["--nats", &self.mesh.nats.client_url()]);
        command.env("NATTER_OPERATOR_PASSWORD", &self.mesh.nats.passwords().operator);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        output(self.command(args)).await
    }

    /// What one prints that does what it is asked.
    pub async fn good(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What one says that does not.
    pub async fn bad(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The objects that a command printed, one a line.
pub fn objects(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}
