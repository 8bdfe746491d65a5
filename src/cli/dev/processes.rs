//! `natter dev --processes`: each node is a process of its own, `natter serve`, that one can kill to see what happens.
//! Called by the command. Such nodes share a CQL store: the embedded one belongs to one process.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::{BILLING, NodeInfo, next_free};
use crate::{
    auth::dev_secret_path,
    cli::{Global, health::ask, report::Hint},
    config::{Config, StoreKind},
    nats_server::{NatsServer, spawn_bound},
    store::scylla::{ScyllaOptions, migrate},
};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed node stays away: long enough to see its clients move, short enough to wait for.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// What a node may take to end, beyond its drain.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Whether nodes in several processes can share this store.
///
/// # Errors
/// The store is the embedded one; says what to do instead.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    if config.store.kind == StoreKind::Scylla {
        return Ok(());
    }
    Err(Hint::on(
        anyhow::anyhow!(
            "--processes needs a store that processes can share, and the embedded one belongs to one process"
        ),
        "run a CQL server (docker run -p 9042:9042 cassandra:5) and name it: NATTER_STORE__KIND=scylla \
         NATTER_STORE__SCYLLA__CONTACT_POINTS=127.0.0.1:9042 NATTER_STORE__SCYLLA__REPLICATION_FACTOR=1",
    ))
}

/// The nodes' processes. All of them are killed when this one ends, however it ends.
pub(super) struct Processes {
    nodes: Vec<Process>,
    drain: Duration,
}

struct Process {
    name: String,
    address: SocketAddr,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    child: Child,
    ended: Option<Instant>,
}

impl Processes {
    /// Brings the schema up to date, and starts `count` nodes that listen from `first` on; 0 means any port.
    ///
    /// # Errors
    /// The store or a node cannot be started; the node's own words are on standard error.
    pub(super) async fn start(config: &Config, global: &Global, count: u16, first: u16) -> anyhow::Result<Self> {
        migrate(&ScyllaOptions::from(&config.store.scylla)).await?;
        let drain = Duration::from_secs(config.timing.drain_min_secs + config.timing.drain_secs);
        let mut started = Self { nodes: Vec::new(), drain };
        let mut port = first;
        for number in 1..=count {
            // Free a moment ago; whoever takes it in between makes the node say so.
            let address = next_free(port, first == 0).await?.local_addr()?;
            port = address.port().checked_add(1).context("there are no ports left, choose a smaller --port")?;
            started.nodes.push(Process::start(format!("n{number}"), address, config, global)?);
        }
        for node in &mut started.nodes {
            node.ready().await?;
        }
        Ok(started)
    }

    /// For the line that says that all is ready.
    pub(super) fn infos(&self) -> Vec<NodeInfo> {
        self.nodes
            .iter()
            .map(|node| NodeInfo { pid: Some(node.child.id()), ..NodeInfo::at(&node.name, node.address) })
            .collect()
    }

    /// Starts again what was killed, the NATS server too, until `shutdown`; then stops the nodes. Whether all of them
    /// ended as they should.
    pub(super) async fn attend(&mut self, nats: &mut NatsServer, shutdown: &CancellationToken) -> bool {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = nats.watch_over() => {}
            () = self.watch_over() => {}
        }
        self.stop().await
    }

    async fn watch_over(&mut self) {
        loop {
            self.nodes.iter_mut().for_each(Process::look);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn stop(&mut self) -> bool {
        let deadline = Instant::now() + self.drain + STOP_PATIENCE;
        self.nodes.iter().for_each(Process::terminate);
        let mut clean = true;
        for node in &mut self.nodes {
            clean &= node.ended_by(deadline).await.is_some_and(|status| status.success()) || node.ended.is_some();
        }
        clean
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Both fail only for one that has already ended.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

impl Process {
    fn start(name: String, address: SocketAddr, config: &Config, global: &Global) -> anyhow::Result<Self> {
        let command = command(&name, address, config, global)?;
        let child = spawn_bound(command()).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, address, command, child, ended: None })
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let (deadline, address) = (Instant::now() + START_PATIENCE, self.address.to_string());
        loop {
            if ask(&address, "/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{} ended while it started: {status}", self.name);
            }
            anyhow::ensure!(Instant::now() < deadline, "{} is not ready after {START_PATIENCE:?}", self.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says when the node has ended, and starts it again after a while.
    fn look(&mut self) {
        let Some(ended) = self.ended else {
            if let Ok(Some(status)) = self.child.try_wait() {
                eprintln!(
                    "natter: {} (pid {}) {}; it starts again in {RESTART_AFTER:?}",
                    self.name,
                    self.child.id(),
                    words(status)
                );
                self.ended = Some(Instant::now());
            }
            return;
        };
        if ended.elapsed() < RESTART_AFTER {
            return;
        }
        match spawn_bound((self.command)()) {
            Ok(child) => {
                eprintln!("natter: {} starts again, pid {}", self.name, child.id());
                (self.child, self.ended) = (child, None);
            }
            Err(error) => {
                eprintln!("natter: cannot start {} again: {error}", self.name);
                self.ended = Some(Instant::now());
            }
        }
    }

    fn terminate(&self) {
        if let (None, Ok(pid)) = (self.ended, libc::pid_t::try_from(self.child.id())) {
            // SAFETY: kill touches no memory, and a child that has not been waited for keeps its pid.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    async fn ended_by(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                done => return done.ok().flatten(),
            }
        }
    }
}

fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with {status}"),
    }
}

/// How to start a node: with the file and the variables of this process, and what is different here on top.
fn command(
    name: &str,
    address: SocketAddr,
    config: &Config,
    global: &Global,
) -> anyhow::Result<Box<dyn Fn() -> Command + Send + Sync>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let own = || dev_secret_path(&config.store.embedded.data_dir);
    let secret = config.auth.hs256_secret_file.clone().unwrap_or_else(own);
    let urls: Vec<_> = config.nats.urls.iter().map(|url| url.expose().to_owned()).collect();
    let variables = [
        ("NATTER_NODE__NAME", name.to_owned()),
        ("NATTER_HTTP__LISTEN", address.to_string()),
        ("NATTER_NATS__URLS", urls.join(",")),
        ("NATTER_NATS__USER", config.nats.user.clone().unwrap_or_default()),
        ("NATTER_NATS__PASSWORD", config.nats.password.as_ref().map_or_else(String::new, |p| p.expose().to_owned())),
        ("NATTER_LIMITS__SENDS_PER_SEC", config.limits.sends_per_sec.to_string()),
        ("NATTER_LIMITS__SEND_BURST", config.limits.send_burst.to_string()),
        ("NATTER_SERVICES__BILLING__HTTP", config.services.get(BILLING).is_some_and(|it| it.http).to_string()),
        ("NATTER_QUEUE__ENABLED", config.queue.enabled.to_string()),
        ("NATTER_LOG__FILTER", config.log.filter.clone()),
        ("NATTER_AUTH__HS256_SECRET_FILE", secret.display().to_string()),
    ];
    let file = global.config.clone();
    Ok(Box::new(move || {
        let mut command = Command::new(&program);
        command.arg("serve").args(file.iter().flat_map(|file| ["--config".as_ref(), file.as_os_str()]));
        // What the nodes say belongs to standard error: a script reads this process's standard output.
        command.env_remove("NATTER_AUTH__HS256_SECRET");
        command
            .envs(variables.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_store_is_refused_with_what_to_do() {
        let error = check(&Config::default()).unwrap_err();
        assert!(error.to_string().contains("belongs to one process"), "{error}");
        let mut config = Config::default();
        config.store.kind = StoreKind::Scylla;
        check(&config).unwrap();
    }
}
