//! A running nats-server, a child of this process. Called by `natter dev` and the tests.

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Passwords, ServerError, ServerOptions, find, ready, spawn};

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long an orderly stop may take before the server is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often a supervised server is checked, and so the shortest time between two starts.
const RESTART_AFTER: Duration = Duration::from_millis(500);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A server that this process started. Killed when dropped and, on Linux, however this process dies.
#[derive(Debug)]
pub struct NatsServer {
    options: ServerOptions,
    child: Child,
    /// Set once the child has been waited for: its pid may then belong to another process.
    gone: bool,
    ports: Ports,
}

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    client: SocketAddr,
    monitor: SocketAddr,
    cluster: Option<SocketAddr>,
}

impl NatsServer {
    /// Starts a server and waits until it answers. A restarted server keeps its ports.
    ///
    /// # Errors
    /// There is no program, its files cannot be written, or the server ends or stays silent; the error contains or
    /// names its log.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let (answer, answered) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let result = Self::launch(options, &|| answer.is_closed());
            // If nobody is waiting any more, the server is killed when the result is dropped.
            drop(answer.send(result));
        });
        let gone = |e| ServerError::Io { what: "starting nats-server".to_owned(), source: io::Error::other(e) };
        answered.await.map_err(gone)?
    }

    fn launch(mut options: ServerOptions, given_up: &dyn Fn() -> bool) -> Result<Self, ServerError> {
        let program = find(options.program.as_deref())?.path;
        options.program = Some(program.clone());
        let (child, ports) = Starting::begin(&program, &options)?.finish(&options, given_up)?;
        options.port = ports.client.port();
        if let (Some(cluster), Some(addr)) = (&mut options.cluster, ports.cluster) {
            cluster.port = addr.port();
        }
        Ok(Self { options, child, gone: false, ports })
    }

    /// Kills the server if it still runs, and starts it again with the same ports and folder.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill9();
        *self = Self::start(self.options.clone()).await?;
        Ok(())
    }

    /// Asks the server to stop, and kills it if it does not.
    pub async fn stop(&mut self) {
        self.resume();
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.exited().is_none() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.kill9();
    }

    /// Starts the server again whenever it ends, as long as this is polled. Never returns.
    pub async fn watch_over(&mut self) {
        loop {
            tokio::time::sleep(RESTART_AFTER).await;
            if let Some(status) = self.exited() {
                tracing::warn!(%status, log = %self.options.log().display(), "nats-server ended; starting it again");
                match self.restart().await {
                    Ok(()) => tracing::warn!(pid = self.pid(), "nats-server runs again"),
                    Err(error) => tracing::error!(%error, "cannot start nats-server again; will keep trying"),
                }
            }
        }
    }

    /// How the server ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.gone |= status.is_some();
        status
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Suspends the process (SIGSTOP) and returns when all its threads have stopped: the kernel still accepts
    /// connections, but nothing answers.
    pub fn pause(&self) {
        if let Some(pid) = self.signal(libc::SIGSTOP) {
            // The signal alone is not enough: a thread on another core may run on for a moment, and answer.
            // SAFETY: an all-zero siginfo_t is valid, and waitid writes only there. WNOWAIT leaves the child to be
            // waited for.
            unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::waitid(libc::P_PID, pid, &mut info, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT);
            }
        }
    }

    /// Continues a paused process.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills the server without warning (SIGKILL) and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.gone = true;
    }

    /// Sends a signal, unless the child has been waited for: its pid may then belong to another process.
    fn signal(&self, signal: libc::c_int) -> Option<libc::id_t> {
        let pid = libc::pid_t::try_from(self.child.id()).ok().filter(|_| !self.gone)?;
        // SAFETY: kill touches no memory, and the pid is our child's.
        unsafe { libc::kill(pid, signal) };
        Some(self.child.id())
    }

    /// Where clients connect, as a URL without user and password.
    pub fn client_url(&self) -> String {
        format!("nats://{}", self.ports.client)
    }

    /// Where clients connect, as an address.
    pub fn client_addr(&self) -> SocketAddr {
        self.ports.client
    }

    /// Where other servers connect; `None` for a single server.
    pub fn cluster_addr(&self) -> Option<SocketAddr> {
        self.ports.cluster
    }

    /// The names of the servers to which this one has a route now. Asks the server; empty if it does not answer.
    pub async fn routes(&self) -> BTreeSet<String> {
        let monitor = self.ports.monitor;
        let ask = tokio::task::spawn_blocking(move || ready::routes(monitor).unwrap_or_default());
        ask.await.unwrap_or_default()
    }

    /// The passwords of its users.
    pub fn passwords(&self) -> &Passwords {
        &self.options.passwords
    }

    /// The options it was started with, with the ports it uses.
    pub fn options(&self) -> &ServerOptions {
        &self.options
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A process that does not answer yet; killed when dropped.
struct Starting(Option<Child>);

impl Starting {
    fn begin(program: &Path, options: &ServerOptions) -> Result<Self, ServerError> {
        let failed = || ServerError::io(format!("cannot prepare {}", options.folder.display()));
        options.write_files().map_err(failed())?;
        let log = fs::File::options().create(true).append(true).open(options.log()).map_err(failed())?;
        let mut command = Command::new(program);
        command
            .args(options.arguments())
            .envs(options.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = spawn::spawn(command).map_err(ServerError::io(format!("cannot start {}", program.display())))?;
        Ok(Self(Some(child)))
    }

    /// Waits until the server has written its ports and answers there.
    fn finish(mut self, options: &ServerOptions, given_up: &dyn Fn() -> bool) -> Result<(Child, Ports), ServerError> {
        let deadline = Instant::now() + START_PATIENCE;
        while let Some(mut child) = self.0.take() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(ended(status, options));
            }
            let ports = read_ports(&options.ports_folder(), child.id());
            match ports.filter(|ports| ready::ping(ports.client, "node", &options.passwords.node).is_ok()) {
                Some(ports) => return Ok((child, ports)),
                None => self.0 = Some(child),
            }
            if Instant::now() > deadline || given_up() {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        Err(ServerError::Silent(START_PATIENCE, options.log()))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended(status: ExitStatus, options: &ServerOptions) -> ServerError {
    let log = options.log();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(5)..].join(" | ");
    ServerError::Ended { status: status.to_string(), log, tail }
}

/// Reads the ports file; `None` while it is missing or incomplete.
fn read_ports(folder: &Path, pid: u32) -> Option<Ports> {
    #[derive(serde::Deserialize)]
    struct File {
        nats: Vec<String>,
        monitoring: Vec<String>,
        #[serde(default)]
        cluster: Vec<String>,
    }
    let suffix = format!("_{pid}.ports");
    let mut entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let entry = entries.find(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))?;
    let file: File = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
    let addr = |urls: &[String]| urls.first()?.split_once("://")?.1.parse().ok();
    Some(Ports { client: addr(&file.nats)?, monitor: addr(&file.monitoring)?, cluster: addr(&file.cluster) })
}
