//! The composition root: configuration → bus → gateway → run until the shutdown token → drain.
//!
//! Called by `natter serve` (one node) and `natter dev` (several in one process). Nothing here is global.

use std::{num::NonZeroU32, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{AuthError, Verifier},
    bus::{
        BusError, Subscription,
        nats::{BusStats, NatsAuth, NatsBus, NatsOptions, NatsTls},
    },
    config::{Config, Nats},
    gateway::{Gateway, Parts, Settings, drain::drain, services, watch::watch},
    http::{router, serve::serve},
    metrics::Metrics,
    session::Rules,
    store::Store,
};

/// Brings metrics that are counted elsewhere up to date, before they are shown.
pub type Refresh = Arc<dyn Fn(&Metrics) + Send + Sync>;

/// Why a node cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Tokens cannot be checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The connection to NATS can never work as it is configured.
    #[error("nats: {0}")]
    Bus(#[from] BusError),
    /// A file of the configuration cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A node that is ready to run.
pub struct Node {
    gateway: Arc<Gateway>,
    stats: Arc<BusStats>,
    services: [Subscription; 2],
    store_counts: Option<Refresh>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Node {
    /// Builds a node on an open store; connects to NATS, or starts without it where it does not answer.
    ///
    /// # Errors
    /// [`NodeError`]: what no waiting would mend.
    pub async fn build(config: &Config, store: Store) -> Result<Self, NodeError> {
        let verifier = Arc::new(Verifier::from_config(&config.auth)?);
        let metrics = Metrics::new(config.node.name.as_str());
        let stats = Arc::new(BusStats::default());
        let bus = NatsBus::connect(nats_options(config, stats.clone())?).await?;
        let parts = Parts { settings: settings(config), rules: rules(config), store, bus, verifier, metrics };
        let gateway = Gateway::new(parts);
        let services = services::listen(&gateway);
        Ok(Self { gateway, stats, services, store_counts: None })
    }

    /// The same, showing what the store's driver counts among its metrics.
    #[must_use]
    pub fn refreshing(self, store_counts: Option<Refresh>) -> Self {
        Self { store_counts, ..self }
    }

    /// What its connections share: for tests that look inside.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Serves until `shutdown`, then drains. True when everything under way ended within the drain time.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> bool {
        let Self { gateway, stats, services, store_counts } = self;
        let watching = tokio::spawn(watch(gateway.clone()));
        let refresh = refresh(&gateway, stats, store_counts);
        serve_until(listener, router(gateway.clone(), refresh), gateway.clone(), shutdown).await;
        // No new requests of services; those under way are awaited with the sessions' own.
        drop(services);
        let clean = drain(&gateway).await;
        watching.abort();
        gateway.bus.close().await;
        clean
    }
}

async fn serve_until(listener: TcpListener, router: axum::Router, gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let draining = shutdown.child_token();
    let mark = async {
        shutdown.cancelled().await;
        // Not ready first, so that a probe between the two sees it.
        gateway.draining.store(true, Ordering::Release);
    };
    tokio::join!(mark, serve(listener, router, draining));
}

/// Carries what the bus counts into the metrics; counters only grow, so by their difference.
fn refresh(gateway: &Arc<Gateway>, stats: Arc<BusStats>, store_counts: Option<Refresh>) -> crate::http::Refresh {
    let (metrics, bus) = (gateway.metrics.clone(), gateway.bus.clone());
    Arc::new(move || {
        let pairs = [
            (&metrics.nats_published, &stats.published),
            (&metrics.nats_received, &stats.received),
            (&metrics.nats_dropped, &stats.dropped),
            (&metrics.nats_reconnects, &stats.reconnects),
            (&metrics.nats_slow_consumers, &stats.slow_consumers),
        ];
        for (shown, counted) in pairs {
            shown.inc_by(counted.load(Ordering::Relaxed).saturating_sub(shown.get()));
        }
        metrics.subscriptions.set(i64::try_from(stats.subscriptions.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
        metrics.nats_connected.set(i64::from(bus.connected().is_some()));
        if let Some(store_counts) = &store_counts {
            store_counts(&metrics);
        }
    })
}

pub(crate) fn nats_options(config: &Config, stats: Arc<BusStats>) -> Result<NatsOptions, NodeError> {
    let nats = &config.nats;
    let mut options = NatsOptions::new(config.node.name.as_str(), nats.urls.iter().map(|url| url.expose().to_owned()));
    options.stats = stats;
    options.connect_timeout = Duration::from_millis(nats.connect_timeout_ms);
    options.inbox_prefix.clone_from(&nats.inbox_prefix);
    options.auth = nats_auth(nats)?;
    options.tls = NatsTls {
        ca_file: nats.tls_ca_file.clone(),
        cert_file: nats.tls_cert_file.clone(),
        key_file: nats.tls_key_file.clone(),
    };
    Ok(options)
}

fn nats_auth(nats: &Nats) -> Result<NatsAuth, NodeError> {
    if let (Some(user), Some(password)) = (&nats.user, &nats.password) {
        return Ok(NatsAuth::Password { user: user.clone(), password: password.expose().to_owned() });
    }
    if let Some(token) = &nats.token {
        return Ok(NatsAuth::Token(token.expose().to_owned()));
    }
    if let Some(path) = &nats.nkey_file {
        let seed = std::fs::read_to_string(path).map_err(|source| NodeError::File {
            key: "nats.nkey_file",
            path: path.display().to_string(),
            source,
        })?;
        return Ok(NatsAuth::NKey(seed.trim().to_owned()));
    }
    Ok(nats.creds_file.clone().map_or(NatsAuth::None, NatsAuth::Creds))
}

fn settings(config: &Config) -> Settings {
    let (limits, timing) = (&config.limits, &config.timing);
    Settings {
        node: config.node.name.to_string(),
        hello_timeout: Duration::from_millis(timing.hello_timeout_ms),
        frame_bytes: limits.max_frame_bytes(),
        out_bytes: limits.out_buffer_bytes,
        sends: NonZeroU32::new(limits.sends_per_sec).zip(NonZeroU32::new(limits.send_burst)),
        sessions: limits.sessions_per_node as usize,
        sessions_per_user: limits.sessions_per_user as usize,
        origins: config.http.allowed_origins.clone(),
        services: config.services.clone(),
        reconcile_rows: NonZeroU32::new(timing.reconcile_rows_per_sec).unwrap_or(NonZeroU32::MAX),
        reconcile_spread: Duration::from_secs(timing.reconcile_spread_secs),
        drain: Duration::from_secs(timing.drain_secs),
    }
}

fn rules(config: &Config) -> Rules {
    let (limits, timing) = (&config.limits, &config.timing);
    Rules {
        window: limits.window.into(),
        body_bytes: limits.body_bytes,
        pending: limits.appends_in_flight_per_session as usize,
        ack_coalesce: timing.ack_coalesce_ms,
        recheck: timing.recheck_ms,
        reconcile: timing.reconcile_secs * 1000,
        offline_after: timing.offline_after_secs * 1000,
        ping: timing.ping_secs * 1000,
        idle: timing.idle_secs * 1000,
        stall: timing.stall_secs * 1000,
        ..Rules::default()
    }
}
