//! What a server is started with: options, the configurations of `nats/` (part of the binary), and the flags that set
//! ports. Called by [`super::running`].

use std::{
    ffi::OsString,
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
};

use rand::RngExt;

/// The files of `nats/` as they are deployed: `natter dev` and the tests run on the same ones.
const FILES: [(&str, &str); 5] = [
    ("server.conf", include_str!("../../nats/server.conf")),
    ("cluster.conf", include_str!("../../nats/cluster.conf")),
    ("common.conf", include_str!("../../nats/common.conf")),
    ("accounts.conf", include_str!("../../nats/accounts.conf")),
    ("services/billing.conf", include_str!("../../nats/services/billing.conf")),
];

/// How to start a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// A folder for its configuration, log and store; created if missing.
    pub folder: PathBuf,
    /// Its name, unique in a cluster.
    pub name: String,
    /// The program; with `None`, [`super::find()`] looks for one.
    pub program: Option<PathBuf>,
    /// The port for clients on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// The passwords of its users.
    pub passwords: Passwords,
    /// Set for a server of a cluster.
    pub cluster: Option<ClusterOptions>,
}

/// How a server takes part in a cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// The port for the other servers on 127.0.0.1, known before any of them starts: [`free_ports`].
    pub port: u16,
    /// `host:port` of the servers it connects to; its own may be among them. JetStream requires at least one. To be
    /// able to cut a route, give a proxy's address here, at both ends.
    pub routes: Vec<String>,
    /// `host:port` that the servers tell each other for this one. To keep them from bypassing the proxies, give an
    /// address where nothing listens.
    pub advertise: Option<String>,
}

/// The passwords of the users in `nats/accounts.conf`.
#[derive(Clone)]
pub struct Passwords {
    /// `node`: the nodes.
    pub node: String,
    /// `operator`: operators and their tools.
    pub operator: String,
    /// `billing`: the example service.
    pub billing: String,
    /// The password between the servers of a cluster.
    pub route: String,
}

impl Passwords {
    /// Random passwords.
    pub fn random() -> Self {
        Self { node: password(), operator: password(), billing: password(), route: password() }
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

/// Letters only: the server parses the environment as configuration values, where a digit starts a number.
fn password() -> String {
    let mut rng = rand::rng();
    (0..28).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
}

impl ServerOptions {
    /// A single server on a free port, in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            name: "natter".to_owned(),
            program: None,
            port: 0,
            passwords: Passwords::random(),
            cluster: None,
        }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("nats-server.log")
    }

    /// Where the server writes the file that names its ports.
    pub(super) fn ports_folder(&self) -> PathBuf {
        self.folder.join("ports")
    }

    pub(super) fn write_files(&self) -> io::Result<()> {
        fs::create_dir_all(self.ports_folder())?;
        let conf = self.conf_folder();
        for (name, text) in FILES {
            let path = conf.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&conf))?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    fn conf_folder(&self) -> PathBuf {
        self.folder.join("nats")
    }

    /// Flags override the files, so the files stay as they are deployed.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let file = if self.cluster.is_some() { "cluster.conf" } else { "server.conf" };
        let mut args: Vec<OsString> = vec!["-c".into(), self.conf_folder().join(file).into()];
        let mut flag = |name: &str, value: &dyn AsRef<Path>| {
            args.push(name.into());
            args.push(value.as_ref().into());
        };
        flag("-n", &self.name);
        flag("-a", &"127.0.0.1");
        flag("-p", &port(self.port));
        flag("-m", &"-1");
        flag("--ports_file_dir", &self.ports_folder());
        if let Some(cluster) = &self.cluster {
            flag("--cluster_listen", &format!("nats://127.0.0.1:{}", port(cluster.port)));
            if let Some(advertise) = &cluster.advertise {
                flag("--cluster_advertise", advertise);
            }
        }
        args
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let Passwords { node, operator, billing, route } = &self.passwords;
        let mut env = vec![
            ("NATTER_NATS_STORE", quoted(&self.folder.join("jetstream").to_string_lossy())),
            ("NATTER_NODE_PASSWORD", quoted(node)),
            ("NATTER_OPERATOR_PASSWORD", quoted(operator)),
            ("NATTER_BILLING_PASSWORD", quoted(billing)),
            ("NATTER_ROUTE_PASSWORD", quoted(route)),
        ];
        if let Some(cluster) = &self.cluster {
            let routes: Vec<_> =
                cluster.routes.iter().map(|addr| quoted(&format!("nats-route://route:{route}@{addr}"))).collect();
            env.extend([
                ("NATTER_NATS_NAME", quoted(&self.name)),
                ("NATTER_NATS_LISTEN", quoted("127.0.0.1:4222")),
                ("NATTER_NATS_CLUSTER", quoted("127.0.0.1:6222")),
                ("NATTER_NATS_ROUTES", format!("[{}]", routes.join(", "))),
            ]);
        }
        env
    }
}

/// Ports on 127.0.0.1 that are free now, for servers that must know each other's before they start. Below the range of
/// ports for outgoing connections, so that none of those can take one in the meantime.
///
/// # Errors
/// Not enough free ports were found.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut rng = rand::rng();
    let mut held = Vec::new();
    for _ in 0..count * 100 {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind(("127.0.0.1", rng.random_range(15_000..32_000))));
    }
    if held.len() < count {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// The server takes -1 for "any free port".
fn port(port: u16) -> String {
    if port == 0 { "-1".to_owned() } else { port.to_string() }
}

/// Quoted, because the server parses environment values.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
