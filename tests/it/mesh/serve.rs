//! `natter serve` in a separate process, for what must not happen to this one: kill -9, SIGTERM, a memory measurement.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use natter::nats_server::{NatsServer, free_ports};

use super::SECRET;
use crate::harness::{http, natter::natter, process::Process};

/// A `natter serve` on its own port and data, to be killed and restarted.
pub struct ServeProcess {
    /// The current process.
    pub process: Process,
    /// Where it listens; the same after a restart.
    pub addr: SocketAddr,
    folder: PathBuf,
}

impl ServeProcess {
    /// Starts one on `nats` with its data in `folder`; `more` is added to its configuration, as TOML.
    pub async fn start(folder: &Path, nats: &NatsServer, more: &str) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_ports(1).unwrap()[0]));
        let url = nats.client_url();
        let password = &nats.passwords().node;
        let text = format!(
            "http.listen = \"{addr}\"\nnode.name = \"p1\"\nauth.hs256_secret = \"{SECRET}\"\n\
             nats.urls = [\"{url}\"]\nnats.user = \"node\"\nnats.password = \"{password}\"\n\
             store.embedded.data_dir = \"data\"\nlimits.sends_per_sec = 0\nlimits.send_burst = 0\n{more}"
        );
        Self::configured(folder, addr, &text).await
    }

    /// Starts one whose configuration is `text` and names `addr`.
    pub async fn configured(folder: &Path, addr: SocketAddr, text: &str) -> Self {
        std::fs::write(folder.join("natter.toml"), text).unwrap();
        let mut serve = Self { process: spawn(folder), addr, folder: folder.to_owned() };
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
        self.process = spawn(&self.folder);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let addr = self.addr;
        let answers = async || http::get(addr, "/readyz").await.is_some_and(|answer| answer.status == 200);
        self.process.ready("natter serve is ready", answers).await;
    }
}

fn spawn(folder: &Path) -> Process {
    let mut command = natter(folder);
    command.args(["--config", "natter.toml", "serve"]);
    Process::start(command)
}
