//! Two nodes in this process, and commands that a person runs beside them. Called by the tests of the commands.

use std::process::{Command, Output};

use crate::{
    harness::{natter::natter, process::output_of},
    mesh::{SECRET, TestMesh},
};

/// A mesh, and commands that know its secret.
pub struct Shell {
    /// Two nodes.
    pub mesh: TestMesh,
    /// Where the commands run; the secret is in the file `secret` there.
    pub folder: tempfile::TempDir,
}

impl Shell {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        Self { mesh: TestMesh::start(2).await, folder }
    }

    pub fn urls(&self) -> [String; 2] {
        [0, 1].map(|node| self.mesh.nodes[node].url())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = natter(self.folder.path());
        command.args(args).args(["--secret-file", "secret"]);
        command
    }

    /// Runs a command to its end without blocking the nodes.
    pub async fn run(&self, args: &[&str], input: &str) -> Output {
        output_of(self.command(args), input).await
    }

    pub async fn good(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input).await;
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {} {errors} {text}", output.status);
        text
    }
}
