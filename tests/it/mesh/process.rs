//! `natter serve` and `natter dev` as processes of their own, for what must not happen to this one: kill -9,
//! SIGTERM, a measured memory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use natter::nats_server::{NatsServer, free_ports};

use super::{PATIENCE, SECRET, until};
use crate::harness::http;

/// The command in an empty environment that dies with the thread that started it.
pub fn natter(folder: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(env!("CARGO_BIN_EXE_natter"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    command
}

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn spawn(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its own handle.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill touches no memory, and the child has not been waited for.
        unsafe { libc::kill(libc::pid_t::try_from(self.0.id()).unwrap(), signal) };
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits for its own end.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Its memory now, in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A `natter serve` on its own port and data, to be killed and started again.
pub struct ServeProcess {
    /// The process of now.
    pub process: Process,
    /// Where it listens, the same after a restart.
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

    /// Starts one whose configuration is `text` and says `addr`.
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

    /// Kills it and starts it again; gives back when it is ready.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = spawn(&self.folder);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let (addr, process) = (self.addr, &mut self.process);
        until("natter serve is ready", async || {
            let ended = process.child().try_wait().unwrap();
            assert!(ended.is_none(), "natter serve ended: {ended:?}");
            http::get(addr, "/readyz").await.is_some_and(|answer| answer.status == 200)
        })
        .await;
    }
}

fn spawn(folder: &Path) -> Process {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("serve.log")).unwrap();
    let mut command = natter(folder);
    command.args(["--config", "natter.toml", "serve"]).stdout(Stdio::null()).stderr(log);
    Process::spawn(command)
}
