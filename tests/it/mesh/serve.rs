//! `natter serve` in a separate process, for what must not happen to this one: kill -9, SIGTERM, a memory measurement.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use natter::nats_server::{NatsServer, free_ports};

use super::SECRET;
use crate::harness::{http, natter::natter, preload::Variables, process::Process};

/// A `natter serve` on its own port and data, to be killed and restarted.
pub struct ServeProcess {
    /// The current process.
    pub process: Process,
    /// Where it listens; the same after a restart.
    pub addr: SocketAddr,
    folder: PathBuf,
    around: Around,
}

/// What the machine gives a process, each time it is started.
#[derive(Default)]
pub struct Around {
    /// How many files it may open; else as many as the test.
    pub files: Option<u64>,
    /// Its environment.
    pub variables: Variables,
}

impl ServeProcess {
    /// Starts one on `nats` with its data in `folder`; `more` is added to its configuration, as TOML.
    pub async fn start(folder: &Path, nats: &NatsServer, more: &str) -> Self {
        Self::start_with(folder, nats, more, Around::default()).await
    }

    /// The same for a process with this around it.
    pub async fn start_with(folder: &Path, nats: &NatsServer, more: &str, around: Around) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_ports(1).unwrap()[0]));
        let url = nats.client_url();
        let password = &nats.passwords().node;
        let text = format!(
            "http.listen = \"{addr}\"\nnode.name = \"p1\"\nauth.hs256_secret = \"{SECRET}\"\n\
             nats.urls = [\"{url}\"]\nnats.user = \"node\"\nnats.password = \"{password}\"\n\
             store.embedded.data_dir = \"data\"\nlimits.sends_per_sec = 0\nlimits.send_burst = 0\n{more}"
        );
        Self::configured_with(folder, addr, &text, around).await
    }

    /// Starts one whose configuration is `text` and names `addr`.
    pub async fn configured(folder: &Path, addr: SocketAddr, text: &str) -> Self {
        Self::configured_with(folder, addr, text, Around::default()).await
    }

    /// The same for a process with this around it.
    pub async fn configured_with(folder: &Path, addr: SocketAddr, text: &str, around: Around) -> Self {
        std::fs::write(folder.join("natter.toml"), text).unwrap();
        let mut serve = Self { process: spawn(folder, &around, &[]), addr, folder: folder.to_owned(), around };
        serve.ready().await;
        serve
    }

    /// The WebSocket's address.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.addr)
    }

    /// Kills it and starts it again; returns when it is ready.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.start_again(&[]).await;
    }

    /// Starts it again with more arguments, after it ended.
    pub async fn start_again(&mut self, arguments: &[&str]) {
        self.process = spawn(&self.folder, &self.around, arguments);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let addr = self.addr;
        let answers = async || http::get(addr, "/readyz").await.is_some_and(|answer| answer.status == 200);
        self.process.ready("natter serve is ready", answers).await;
    }
}

fn spawn(folder: &Path, around: &Around, arguments: &[&str]) -> Process {
    let mut command = natter(folder);
    command.envs(around.variables.iter().map(|(name, value)| (name, value)));
    if let Some(files) = around.files {
        limit_files(&mut command, files);
    }
    command.args(["--config", "natter.toml", "serve"]).args(arguments);
    Process::start(command)
}

/// Lets the process open so many files, and raise that no further.
fn limit_files(command: &mut Command, files: u64) {
    let limit = libc::rlimit { rlim_cur: files / 2, rlim_max: files };
    // SAFETY: setrlimit is async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
