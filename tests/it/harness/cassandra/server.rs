//! One Cassandra process: its files, its command line, its end.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use natter::store::scylla::ScyllaOptions;
use scylla::{client::session_builder::SessionBuilder, statement::Consistency, statement::unprepared::Statement};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{address, fetch};
use crate::harness::process::Process;

const START_PATIENCE: Duration = Duration::from_secs(240);

/// A server process and its data directory.
pub struct Server {
    addr: SocketAddr,
    dir: PathBuf,
    life: Life,
    /// The process, to be signalled and killed.
    pub process: Process,
}

/// How often a server starts on its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is never started again.
    Once,
    /// It is killed and comes back.
    Again,
}

impl Server {
    async fn start(dir: PathBuf, addr: SocketAddr, life: Life) -> Self {
        let process = spawn(&dir, life);
        let mut server = Self { addr, dir, life, process };
        server.wait_for_cql().await;
        server
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts it again on its old data.
    pub async fn restart(&mut self) {
        assert!(self.process.exited().is_some(), "kill it first");
        assert_eq!(self.life, Life::Again, "its schema was not flushed");
        self.process = spawn(&self.dir, self.life);
        self.wait_for_cql().await;
    }

    /// Copies the files of a stopped server to `to`, which must not exist.
    pub fn save(&mut self, to: &Path) {
        assert!(self.process.exited().is_some(), "kill it first");
        copy(&self.dir, to);
    }

    /// Puts such a copy in the place of a stopped server's files.
    pub fn put_back(&mut self, from: &Path) {
        assert!(self.process.exited().is_some(), "kill it first");
        fs::remove_dir_all(&self.dir).unwrap();
        copy(from, &self.dir);
    }

    /// Whether this server has heard that the one at `other` is up. No table says so, but its log does.
    pub fn sees(&self, other: IpAddr) -> bool {
        let heard = format!("InetAddress /{other}:");
        self.process.log().lines().any(|line| line.contains(&heard) && line.ends_with("is now UP"))
    }

    async fn wait_for_cql(&mut self) {
        let addr = self.addr;
        self.process.ready_within(START_PATIENCE, "cassandra answers CQL", async || answers_cql(addr).await).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill9();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Starts the servers one after the other: a ring does not accept two newcomers at once.
pub async fn start_all(nodes: usize, life: Life) -> Vec<Server> {
    let root = fresh_dir();
    let native = free_port(nodes, &[]);
    let storage = free_port(nodes, &[native]);
    let mut servers = Vec::new();
    for node in 0..nodes {
        let dir = root.join(node.to_string());
        write_config(&dir, node, nodes, native, storage);
        servers.push(Server::start(dir, SocketAddr::new(address(node), native), life).await);
    }
    servers
}

/// Succeeds when every server accepts a write: then all see one another.
pub async fn write_at_all(options: &ScyllaOptions) -> Result<(), String> {
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await;
    let session = session.map_err(|e| e.to_string())?;
    let (ks, rf) = (&options.keyspace, options.replication_factor);
    for cql in [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {ks} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {rf}}}"
        ),
        format!("CREATE TABLE IF NOT EXISTS {ks}.probe (id int PRIMARY KEY)"),
        format!("INSERT INTO {ks}.probe (id) VALUES (1)"),
    ] {
        let mut statement = Statement::new(cql);
        statement.set_consistency(Consistency::All);
        session.query_unpaged(statement, &[]).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// A directory that a later run removes if this one cannot: its name contains the pid of the process that owns it.
fn fresh_dir() -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = ROOT.get_or_init(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cassandra");
        for old in fs::read_dir(&base).into_iter().flatten().flatten() {
            let owner = old.file_name().to_string_lossy().into_owned();
            if !Path::new("/proc").join(owner).exists() {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        base.join(std::process::id().to_string())
    });
    root.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}

/// A port that is free on the addresses of all nodes: servers of one cluster differ in address only.
fn free_port(nodes: usize, taken: &[u16]) -> u16 {
    loop {
        // Below the range that the kernel uses for outgoing connections, which could take it again at once.
        let port = rand::random_range(15_000..30_000);
        let free = |node| TcpListener::bind((address(node), port)).is_ok();
        if !taken.contains(&port) && (0..nodes).all(free) {
            return port;
        }
    }
}

/// Asks for the protocol options, the one request that needs no start-up.
async fn answers_cql(addr: SocketAddr) -> bool {
    let ask = async || -> io::Result<u8> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0]).await?;
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        Ok(header[4])
    };
    matches!(timeout(Duration::from_secs(2), ask()).await, Ok(Ok(6)))
}

fn write_config(dir: &Path, node: usize, nodes: usize, native: u16, storage: u16) {
    fs::create_dir_all(dir).unwrap();
    let (here, at) = (address(node), dir.display());
    // Tokens that cut the ring into equal parts.
    let token = i128::from(i64::MIN) + i128::from(u64::MAX) / nodes as i128 * node as i128;
    let yaml = format!(
        r#"cluster_name: natter-test
num_tokens: 1
initial_token: "{token}"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: {here}
rpc_address: {here}
storage_port: {storage}
native_transport_port: {native}
auto_bootstrap: false
auto_snapshot: false
# What was answered must be there after kill -9, so every write waits for its fsync.
commitlog_sync: batch
commitlog_segment_size: 8MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
memtable_allocation_type: unslabbed_heap_buffers
key_cache_size: 4MiB
# By default a share of the heap, 12 MiB: too few for the statements of two hundred keyspaces. Those of nodes that run were
# put out by the next test's, prepared again, put out again, and from some test on nearly every request failed.
prepared_statements_cache_size: 256MiB
file_cache_size: 32MiB
concurrent_compactors: 1
data_file_directories: [{at}/data]
commitlog_directory: {at}/commitlog
saved_caches_directory: {at}/saved
hints_directory: {at}/hints
cdc_raw_directory: {at}/cdc
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seed}:{storage}"}}]
"#,
        seed = address(0),
    );
    fs::write(dir.join("cassandra.yaml"), yaml).unwrap();
    fs::write(dir.join("logback.xml"), LOGBACK).unwrap();
}

const LOGBACK: &str = r#"<configuration><appender name="S" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%-5level %date{HH:mm:ss.SSS} %logger{20} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="S"/></root></configuration>"#;

/// Packages that Cassandra reaches into, from its own `jvm17-server.options`.
const EXPORTS: &str = "java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/java.lang.ref \
    java.sql/java.sql java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry \
    java.rmi/sun.rmi.server jdk.unsupported/sun.misc jdk.attach/sun.tools.attach \
    jdk.compiler/com.sun.tools.javac.file java.management/com.sun.jmx.remote.security";
const OPENS: &str = "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
    java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
    java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/java.io java.base/java.lang.reflect \
    java.base/java.lang java.base/java.util java.base/java.nio jdk.management/com.sun.management.internal \
    jdk.compiler/com.sun.tools.javac";

fn spawn(dir: &Path, life: Life) -> Process {
    let mut java = Command::new(fetch::java().expect("ask available() first"));
    // The second compiler never pays off in the minutes a test runs, and competes with the tests for processors.
    // Where figures are wanted, it does.
    if std::env::var_os("NATTER_FIGURES").is_none() {
        java.arg("-XX:TieredStopAtLevel=1");
    }
    // The one that tests share holds the tables of two hundred keyspaces by the end, 5 MB each: in 1 GB it came to a halt.
    java.args(["-Xms384M", "-Xmx3G", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128M"]);
    java.args(["-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true"]);
    if life == Life::Once {
        // Each change of a schema flushes ten tables, which the next start needs: a fresh keyspace takes a fifth of the time
        // without that.
        java.arg("-Dcassandra.test.flush_local_schema_changes=false");
    }
    for (flag, list) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
        java.args(list.split_whitespace().map(|package| format!("{flag}={package}=ALL-UNNAMED")));
    }
    let jars = fetch::jars().expect("ask available() first");
    java.arg(format!("-Dcassandra.config=file://{}/cassandra.yaml", dir.display()))
        .arg(format!("-Dcassandra.storagedir={}", dir.display()))
        .arg(format!("-Dcassandra.logdir={}", dir.display()))
        .args(["-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0"])
        .arg("-Dcassandra.ring_delay_ms=500")
        .arg("-cp")
        .arg(format!("{}:{}/*", dir.display(), jars.display()))
        .arg("org.apache.cassandra.service.CassandraDaemon")
        .current_dir(dir)
        .stdin(Stdio::null());
    // One log for all its starts.
    Process::logging(java, &dir.join("out.log"))
}
