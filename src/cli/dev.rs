//! `natter dev`: everything on one machine. A NATS server, the embedded store, several nodes in one process, and tokens
//! to try them with.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};

use super::{Global, logging, print, report::Hint, serve, stores};
use crate::{
    auth::{DEV_SECRET_FILE, Minter, dev_secret},
    config::{Config, Secret, ServerUrl},
    metrics::Metrics,
    model::UserId,
    nats_server::{NatsServer, ServerOptions},
    node::Node,
    store::Store,
};

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
    /// Print one line of JSON when ready, for scripts
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter dev                         two nodes on ports 8080 and 8081
  natter dev --nodes 3 --data /tmp/try
  natter dev --json | jq .nodes

Each node has its own /metrics: what its own clients, NATS connection and calls of the store did. The store is one,
shared by all nodes.

Ctrl-C drains and stops everything, the NATS server too.";

#[derive(Serialize)]
struct Ready {
    nodes: Vec<NodeInfo>,
    nats: String,
    data: PathBuf,
    tokens: Tokens,
}

#[derive(Serialize)]
struct NodeInfo {
    name: String,
    http: String,
    ws: String,
}

#[derive(Serialize)]
struct Tokens {
    alice: String,
    bob: String,
}

/// Runs the command.
///
/// # Errors
/// When a part cannot be found or started; the message says how to get it.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let data = args.data.as_ref().map(|path| path.display());
    let mut config = Config::load(&global.sources().flag("--data", "store.embedded.data_dir", data))?;
    if global.log.is_none() && std::env::var_os("NATTER_LOG__FILTER").is_none() {
        config.log.filter = "warn".to_owned();
    }
    logging::start(&config.log)?;
    // No word about it: that many sessions are nobody's aim on a machine of one's own.
    serve::fit_descriptors(&mut config, args.nodes.into())?;
    let shutdown = serve::shutdown_signal()?;
    let store = Store::of(stores::open_embedded(&config).await?);
    let mut options = ServerOptions::new(config.store.embedded.data_dir.join("nats"));
    options.program.clone_from(&args.nats_server);
    let mut nats = NatsServer::start(options).await?;
    compose(&mut config, &nats)?;
    let (ready, mut nodes) = start_nodes(&config, &args, &nats, store.clone(), &shutdown).await?;
    show(&ready, &args)?;
    let mut clean = true;
    while let Some(ended) = nodes.join_next().await {
        clean &= ended.context("a node failed")?;
    }
    store.engine.close().await?;
    nats.stop().await;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What differs from a production node: its own secret, this NATS server, no rate limit.
fn compose(config: &mut Config, nats: &NatsServer) -> anyhow::Result<()> {
    if config.auth.hs256_secret_file.is_none() {
        config.auth.hs256_secret = Some(dev_secret(&config.store.embedded.data_dir)?);
    }
    config.nats.urls = vec![ServerUrl::new(nats.client_url())];
    config.nats.user = Some("node".to_owned());
    config.nats.password = Some(Secret::new(nats.passwords().node.clone()));
    config.limits.sends_per_sec = 0;
    config.limits.send_burst = 0;
    Ok(())
}

async fn start_nodes(
    config: &Config,
    args: &Args,
    nats: &NatsServer,
    store: Store,
    shutdown: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<(Ready, JoinSet<bool>)> {
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
        let node = Node::build(&own, store.clone(), Metrics::new(&name)).await?;
        nodes.spawn(node.run(listener, shutdown.clone()));
        infos.push(NodeInfo { name, http: format!("http://{address}"), ws: format!("ws://{address}/v1/ws") });
    }
    let minter = Minter::from_config(&config.auth)?;
    let month = Duration::from_secs(30 * 24 * 3600);
    let token = |user: &str| anyhow::Ok(minter.mint(&UserId::new(user)?, month)?);
    let tokens = Tokens { alice: token("alice")?, bob: token("bob")? };
    Ok((Ready { nodes: infos, nats: nats.client_url(), data: config.store.embedded.data_dir.clone(), tokens }, nodes))
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

fn show(ready: &Ready, args: &Args) -> anyhow::Result<()> {
    if args.json {
        return print(&serde_json::to_string(ready)?);
    }
    let mut text = String::from("\nnatter is ready\n\n");
    for node in &ready.nodes {
        text += &format!("  {:<6} {}   {}\n", node.name, node.http, node.ws);
    }
    text += &format!("  nats   {}\n", ready.nats);
    text += &format!("  data   {}   (token secret: {DEV_SECRET_FILE})\n\n", ready.data.display());
    let (one, other) = (&ready.nodes[0], &ready.nodes[ready.nodes.len() - 1]);
    text += "Chat in two tabs:\n";
    text += &format!("  {}/#token={}&peer=bob\n", one.http, ready.tokens.alice);
    text += &format!("  {}/#token={}&peer=alice\n\n", other.http, ready.tokens.bob);
    text += "Tokens to copy:\n";
    text += &format!("  ALICE={}\n  BOB={}\n\n", ready.tokens.alice, ready.tokens.bob);
    text += "Ctrl-C drains and stops everything.\n";
    print(&text)
}
