//! `natter serve`: runs one node from a configuration, until SIGTERM or Ctrl-C.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Global, logging, reload, report::Hint, stores};
use crate::{
    config::Config,
    descriptors::{self, Lowered},
    metrics::Metrics,
    node::{Node, longest_stop},
};

/// Arguments of `natter serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The address for HTTP and WebSockets
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The node's name, unique in the mesh
    #[arg(long)]
    name: Option<String>,
    /// NATS servers, comma-separated
    #[arg(long, value_name = "URL,…")]
    nats: Option<String>,
    /// The data folder of the embedded store
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Bring the schema of the ScyllaDB cluster to this version first
    #[arg(long)]
    migrate: bool,
    /// Go on with what is left of an embedded store that is damaged: read the refusal first, it says what is missing
    #[arg(long)]
    accept_loss: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter serve --config /etc/natter.toml
  natter serve --nats nats://node:secret@127.0.0.1:4222 --data /srv/natter --listen 0.0.0.0:8080
  NATTER_AUTH__HS256_SECRET_FILE=/run/secrets/jwt natter serve
  NATTER_STORE__KIND=scylla NATTER_STORE__SCYLLA__CONTACT_POINTS=db-1:9042 natter serve --migrate

SIGTERM and Ctrl-C drain: no new connections, clients are told goodbye, and everything under way is finished.
SIGHUP reads the configuration again and takes the keys ([auth]), the services and the log filter; the log says what it
took, or what is wrong, in which case everything stays as it was.";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty, the store cannot be opened, or the address is taken.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let sources = global
        .sources()
        .flag("--listen", "http.listen", args.listen.as_ref())
        .flag("--name", "node.name", args.name.as_ref())
        .flag("--nats", "nats.urls", args.nats.as_ref())
        .flag("--data", "store.embedded.data_dir", args.data.as_ref());
    let loaded = Config::load(&sources)?;
    let mut config = loaded.clone();
    let filter = logging::start(&config.log)?;
    if let Some(lowered) = fit_descriptors(&mut config, 1)? {
        warn_of_lowered(lowered);
    }
    warn_of_kill(&config);
    let shutdown = shutdown_signal()?;
    // Caught from the start: until the node is there, a SIGHUP waits instead of ending the process.
    let hangups = reload::Hangups::catch()?;
    let metrics = Metrics::new(config.node.name.as_str());
    let store = stores::open(&config, args.accept_loss, args.migrate, &metrics).await?;
    let listener = listen(&config).await?;
    let node = Node::build(&config, store.clone(), metrics).await?;
    tracing::info!(node = %config.node.name, listen = %listener.local_addr()?, "serving");
    let again = reload::Again { sources, running: loaded, filter, node: node.reload() };
    let reloading = AbortOnDropHandle::new(tokio::spawn(again.at_each(hangups)));
    let clean = node.run(listener, shutdown).await;
    drop(reloading);
    store.engine.close().await?;
    tracing::info!(clean, "stopped");
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Raises the limit of open files, and lowers the limits of each of `nodes` nodes to what it allows.
///
/// # Errors
/// When there are too few for any node.
pub(super) fn fit_descriptors(config: &mut Config, nodes: usize) -> anyhow::Result<Option<Lowered>> {
    if let Err(error) = descriptors::raise() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    Ok(descriptors::fit(config, descriptors::allowed(), nodes)?)
}

fn warn_of_lowered(Lowered { allowed, configured, sessions }: Lowered) {
    tracing::warn!(
        allowed,
        configured,
        sessions,
        "limits.sessions_per_node is lowered to what the limit of open files allows: \
         raise that (LimitNOFILE= in the unit, ulimit -n), or set the key to what you need"
    );
}

fn warn_of_kill(config: &Config) {
    let (killed_after, stop_takes) = (config.node.killed_after_secs, longest_stop(&config.timing).as_secs());
    if (1..stop_takes).contains(&killed_after) {
        tracing::warn!(
            killed_after,
            stop_takes,
            "a stop may take longer than node.killed_after_secs: shorten timing.drain_secs, or let whatever stops the node \
             wait longer"
        );
    }
}

/// Cancelled by SIGTERM or Ctrl-C; a second one ends the process at once.
///
/// # Errors
/// When signals cannot be caught.
pub(super) fn shutdown_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut once = async || tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
        once().await;
        cancelled.cancel();
        let code = once().await;
        std::process::exit(code);
    });
    Ok(token)
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.http.listen;
    TcpListener::bind(address).await.map_err(|error| {
        let what = anyhow::Error::new(error).context(format!("cannot listen on {address}"));
        Hint::on(what, "choose another address with --listen")
    })
}
