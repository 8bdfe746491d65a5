//! `natter dev`: everything on one machine. A NATS server, the embedded store, several nodes in one process, and tokens
//! to try them with.

mod processes;
mod ready;

use std::{
    collections::BTreeMap,
    env::VarError,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    processes::Processes,
    ready::{NodeInfo, Ready, Service, Tokens},
};
use super::{
    Global, logging,
    report::Hint,
    running::{self, RunningDev},
    serve, stores,
};
use crate::{
    auth::{Minter, dev_secret, dev_secret_path},
    bus::{NatsOptions, queue::QueueLink},
    config::{Config, Loaded, Secret, ServerUrl, StoreKind},
    metrics::Metrics,
    model::UserId,
    nats_server::{NatsServer, ServerOptions},
    node::Node,
    store::Store,
};

/// The service that may come in: over NATS with the account of `nats/services/billing.conf`, and over HTTP.
pub(super) const BILLING: &str = "billing";
/// What lets it.
const BILLING_HTTP: &str = "services.billing.http";
/// What makes nodes take from the durable queue.
const QUEUE: &str = "queue.enabled";
/// The variable with the password of the service `billing`, the same as in `.env` of docker compose.
const BILLING_PASSWORD: &str = "NATTER_BILLING_PASSWORD";

/// Arguments of `natter dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Where messages, the token secret and the NATS server's files are kept [default: store.embedded.data_dir]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The first node's HTTP port; the others follow, each the next free one. 0: any [default: that of http.listen]
    #[arg(long)]
    port: Option<u16>,
    /// The nats-server to start [default: $NATTER_NATS_SERVER, then $PATH, then one that is fetched]
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Run each node as a process that one can kill; it starts again after a while. Needs store.kind = "scylla"
    #[arg(long)]
    processes: bool,
    /// Go on with what is left of a store that is damaged
    #[arg(long, conflicts_with = "processes")]
    accept_loss: bool,
    /// Print one line of JSON when ready, for scripts
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter dev                         two nodes on ports 8080 and 8081
  natter dev --nodes 3 --data /tmp/try
  NATTER_STORE__KIND=scylla natter dev --processes    and then: kill -9 the pid of a node
  natter dev --json | jq .nodes
  natter dev --json | jq -r .service.command

Each node has its own /metrics: what its own clients, NATS connection and calls of the store did. The store is one,
shared by all nodes.

natter send, tail and token find a running dev from any folder. A NATS server that dies is started again.
NATTER_BILLING_PASSWORD sets the password of the service that is printed; without it, each run has another.

Ctrl-C drains and stops everything, the NATS server too.";

/// Runs the command.
///
/// # Errors
/// When a part cannot be found or started; the message says how to get it.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let data = args.data.as_ref().map(|path| path.display());
    let sources = global.sources().flag("--data", "store.embedded.data_dir", data);
    let mut loaded = Config::load_with_origins(&sources)?;
    let mut changed = BTreeMap::new();
    if !loaded.origins.contains_key("log.filter") {
        loaded.config.log.filter = "warn".to_owned();
        changed.insert("log.filter", "warn".into());
    }
    logging::start(&loaded.config.log)?;
    // No word about it: that many sessions are nobody's aim on a machine of one's own.
    serve::fit_descriptors(&mut loaded.config, args.nodes.into())?;
    let shutdown = serve::shutdown_signal()?;
    let store = if args.processes {
        processes::check(&loaded.config)?;
        None
    } else {
        if loaded.config.store.kind != StoreKind::Embedded {
            changed.insert("store.kind", "embedded".into());
        }
        Some(Store::of(stores::open_embedded(&loaded.config, args.accept_loss).await?))
    };
    let mut nats = NatsServer::start(server_options(&args, &loaded.config)?).await?;
    changed.append(&mut compose(&mut loaded, &nats)?);
    let config = loaded.config;
    if config.queue.enabled {
        let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
        QueueLink::connect(&options).await?.migrate(&config).await?;
    }
    let (infos, mut nodes) = match &store {
        Some(store) => start_nodes(&config, &args, store.clone(), &shutdown).await?,
        None => start_processes(&config, &args, global).await?,
    };
    let note = leave_note(&config, &infos, &nats);
    let minter = Minter::from_config(&config.auth)?;
    let service = Service::billing(&nats, &minter, &infos[0].http)?;
    let ready = Ready {
        nodes: infos,
        nats: nats.client_url(),
        data: config.store.embedded.data_dir.clone(),
        tokens: Tokens::new(&minter)?,
        service,
        changed,
    };
    if args.json {
        ready.print_json()?
    } else {
        ready.print_text()?
    }
    let clean = match &mut nodes {
        Nodes::Here(tasks) => attend(tasks, &mut nats).await?,
        Nodes::Apart(processes) => processes.attend(&mut nats, &shutdown).await,
    };
    drop(note);
    if let Some(store) = store {
        store.engine.close().await?;
    }
    nats.stop().await;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the nodes run.
enum Nodes {
    /// As tasks of this process.
    Here(JoinSet<bool>),
    /// Each in its own.
    Apart(Processes),
}

/// Waits for the nodes to end, and in the meantime starts the NATS server again whenever it dies.
async fn attend(nodes: &mut JoinSet<bool>, nats: &mut NatsServer) -> anyhow::Result<bool> {
    let mut clean = true;
    loop {
        tokio::select! {
            ended = nodes.join_next() => match ended {
                Some(ended) => clean &= ended.context("a node failed")?,
                None => return Ok(clean),
            },
            () = nats.watch_over() => {}
        }
    }
}

/// The server's options. A script that gives the service's password knows it before the server runs.
fn server_options(args: &Args, config: &Config) -> anyhow::Result<ServerOptions> {
    let mut options = ServerOptions::new(config.store.embedded.data_dir.join("nats"));
    options.program.clone_from(&args.nats_server);
    match std::env::var(BILLING_PASSWORD) {
        Ok(password) if password.is_empty() => {}
        Ok(password) => options.passwords.billing = password,
        Err(VarError::NotPresent) => {}
        Err(VarError::NotUnicode(_)) => bail!("{BILLING_PASSWORD} must be UTF-8"),
    }
    Ok(options)
}

/// What differs from a production node: its own secret, this NATS server, and no rate limit unless one was asked for.
fn compose(loaded: &mut Loaded, nats: &NatsServer) -> anyhow::Result<BTreeMap<&'static str, Value>> {
    let mut changed = BTreeMap::new();
    let config = &mut loaded.config;
    if config.auth.hs256_secret_file.is_none() {
        let data = &config.store.embedded.data_dir;
        config.auth.hs256_secret = Some(dev_secret(data)?);
        changed.insert("auth.hs256_secret_file", dev_secret_path(data).display().to_string().into());
    }
    config.nats.urls = vec![ServerUrl::new(nats.client_url())];
    config.nats.user = Some("node".to_owned());
    config.nats.password = Some(Secret::new(nats.passwords().node.clone()));
    if !loaded.origins.contains_key(BILLING_HTTP) {
        config.services.entry(UserId::new(BILLING).context("the service's name")?).or_default().http = true;
        changed.insert(BILLING_HTTP, true.into());
    }
    if !loaded.origins.contains_key(QUEUE) {
        config.queue.enabled = true;
        changed.insert(QUEUE, true.into());
    }
    changed.insert("nats.urls", nats.client_url().into());
    changed.insert("nats.user", "node".into());
    if !["limits.sends_per_sec", "limits.send_burst"].iter().any(|key| loaded.origins.contains_key(*key)) {
        (config.limits.sends_per_sec, config.limits.send_burst) = (0, 0);
        changed.insert("limits.sends_per_sec", 0.into());
        changed.insert("limits.send_burst", 0.into());
    }
    Ok(changed)
}

/// Lets the commands beside this one find it. Without a note they have to be told where it is.
fn leave_note(config: &Config, nodes: &[NodeInfo], nats: &NatsServer) -> Option<running::Note> {
    let absolute = |path: &Path| std::fs::canonicalize(path);
    let data = &config.store.embedded.data_dir;
    let secret = config.auth.hs256_secret_file.clone().unwrap_or_else(|| dev_secret_path(data));
    let leaving = absolute(data).and_then(|data| {
        let urls = nodes.iter().map(|node| node.ws.clone()).collect();
        let (pid, secret) = (std::process::id(), absolute(&secret).ok());
        let operator = Some(keep_operator(&data, nats)?);
        running::leave_note(&RunningDev { pid, urls, data, secret, nats: Some(nats.client_url()), operator })
    });
    leaving.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot write to the cache folder: the commands need --url and --data to find this mesh");
        None
    })
}

/// Writes the password of operators, which is another one in each run, into a file that only its owner may read.
fn keep_operator(data: &Path, nats: &NatsServer) -> std::io::Result<PathBuf> {
    let mut file = tempfile::NamedTempFile::new_in(data)?;
    file.write_all(nats.passwords().operator.as_bytes())?;
    let path = data.join("operator.password");
    file.persist(&path)?;
    Ok(path)
}

async fn start_nodes(
    config: &Config,
    args: &Args,
    store: Store,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Vec<NodeInfo>, Nodes)> {
    let mut nodes = JoinSet::new();
    let mut infos = Vec::new();
    let first = args.port.unwrap_or(config.http.listen.port());
    let mut port = first;
    for number in 1..=args.nodes {
        let name = format!("n{number}");
        let listener = next_free(port, first == 0).await?;
        let address = listener.local_addr()?;
        if first != 0 && address.port() != port {
            eprintln!("natter: port {port} is taken, {name} listens on {}", address.port());
        }
        port = address.port().checked_add(1).context("there are no ports left, choose a smaller --port")?;
        let mut own = config.clone();
        own.node.name = UserId::new(&name).context("the node's name")?;
        own.http.listen = address;
        let mut node = Node::build(&own, store.clone(), Metrics::new(&name)).await?;
        node.sign_in_by_name(Minter::from_config(&own.auth)?);
        nodes.spawn(node.run(listener, shutdown.clone()));
        infos.push(NodeInfo::at(&name, address));
    }
    Ok((infos, Nodes::Here(nodes)))
}

async fn start_processes(config: &Config, args: &Args, global: &Global) -> anyhow::Result<(Vec<NodeInfo>, Nodes)> {
    let first = args.port.unwrap_or(config.http.listen.port());
    let processes = Processes::start(config, global, args.nodes, first).await?;
    Ok((processes.infos(), Nodes::Apart(processes)))
}

async fn next_free(first: u16, any: bool) -> anyhow::Result<TcpListener> {
    if any {
        return Ok(TcpListener::bind(("127.0.0.1", 0)).await?);
    }
    let last = first.saturating_add(100);
    for port in first..=last {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen on port {port}")),
        }
    }
    Err(Hint::on(anyhow::anyhow!("ports {first} to {last} are all taken"), "choose another with --port, or 0 for any"))
}
