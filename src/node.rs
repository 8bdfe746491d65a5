//! The composition root: configuration → bus → gateway → run until the shutdown token → drain.
//!
//! Called by `natter serve` (one node) and `natter dev` (several in one process). Nothing here is global.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{AuthError, Verifier},
    bus::{
        Bus, BusError, Subscription,
        nats::{BusStats, NatsAuth, NatsBus, NatsOptions, NatsTls},
    },
    config::{Config, Nats},
    gateway::{self, Gateway},
    http::{self, Shown, serve::serve},
    metrics::Metrics,
    ops::{self, Ops},
    routing::{Capacity, Clock, Registry, Router, Watch, watch},
    services::Services,
    session::{Rate, Rules},
    store::Store,
};

/// Requests of services under way on a node; more are refused with `unavailable`, retry.
const SERVICES_UNDER_WAY: usize = 4096;

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
    shown: Shown,
    watch: Watch,
    /// What services send; dropping it ends that.
    requests: [Subscription; 2],
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("gateway", &self.shown.gateway).finish_non_exhaustive()
    }
}

impl Node {
    /// Builds a node on an open store; connects to NATS, or starts without it where it does not answer.
    ///
    /// # Errors
    /// [`NodeError`]: what waiting does not help.
    pub async fn build(config: &Config, store: Store) -> Result<Self, NodeError> {
        let verifier = Arc::new(Verifier::from_config(&config.auth)?);
        let metrics = Metrics::new(config.node.name.as_str());
        let stats = Arc::new(BusStats::default());
        let bus: Arc<dyn Bus> = NatsBus::connect(nats_options(config, stats.clone())?).await?;
        let registry = Arc::new(Registry::new(bus.clone(), metrics.clone(), capacity(config)));
        let router = Router::new(bus.clone(), registry.clone(), metrics.clone());
        let ops = Ops::new(ops::Parts {
            store: store.clone(),
            router: router.clone(),
            metrics: metrics.clone(),
            limits: limits(config),
            services: config.services.clone(),
        });
        let clock = Clock::new();
        let gateway = Gateway::new(gateway::Parts {
            settings: settings(config),
            rules: rules(config),
            ops: ops.clone(),
            registry: registry.clone(),
            bus: bus.clone(),
            verifier,
            clock,
            metrics: metrics.clone(),
        });
        let requests = Services { bus: bus.clone(), ops, metrics: metrics.clone() }.listen();
        let spread = Duration::from_secs(config.timing.reconcile_spread_secs);
        let watch = Watch { bus: bus.clone(), registry, router, clock, spread };
        let refresh = refresh(&metrics, &bus, stats, None);
        Ok(Self { shown: Shown { gateway, store, bus, metrics, refresh }, watch, requests })
    }

    /// The same, showing what the store's driver counts among its metrics.
    #[must_use]
    pub fn refreshing(mut self, store_counts: Option<Refresh>) -> Self {
        if let Some(counts) = store_counts {
            let (before, metrics) = (self.shown.refresh.clone(), self.shown.metrics.clone());
            self.shown.refresh = Arc::new(move || {
                before();
                counts(&metrics);
            });
        }
        self
    }

    /// Its connections: for tests that count them.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.shown.gateway
    }

    /// The connection to NATS: for tests that wait for it.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.shown.bus
    }

    /// Serves until `shutdown`, then drains. True when everything under way ended within the drain time.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> bool {
        let Self { shown, watch: watched, requests } = self;
        let (gateway, bus) = (shown.gateway.clone(), shown.bus.clone());
        let watching = tokio::spawn(watch(watched));
        serve_until(listener, http::router(shown), &gateway, shutdown).await;
        // No new requests of services; those under way are awaited with the sessions' own.
        drop(requests);
        let clean = gateway.drain().await;
        watching.abort();
        bus.close().await;
        clean
    }
}

async fn serve_until(listener: TcpListener, router: axum::Router, gateway: &Gateway, shutdown: CancellationToken) {
    let draining = shutdown.child_token();
    let mark = async {
        shutdown.cancelled().await;
        // Not ready first, so that a probe between the two sees it.
        gateway.stop_accepting();
    };
    tokio::join!(mark, serve(listener, router, draining));
}

/// Carries what the bus counts into the metrics; counters only grow, so by their difference.
fn refresh(
    metrics: &Arc<Metrics>,
    bus: &Arc<dyn Bus>,
    stats: Arc<BusStats>,
    store_counts: Option<Refresh>,
) -> crate::http::Refresh {
    let (metrics, bus) = (metrics.clone(), bus.clone());
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

fn settings(config: &Config) -> gateway::Settings {
    let (limits, timing) = (&config.limits, &config.timing);
    gateway::Settings {
        node: config.node.name.to_string(),
        hello_timeout: Duration::from_millis(timing.hello_timeout_ms),
        frame_bytes: limits.max_frame_bytes(),
        out_bytes: limits.out_buffer_bytes,
        sessions: limits.sessions_per_node as usize,
        origins: config.http.allowed_origins.clone(),
        drain: Duration::from_secs(timing.drain_secs),
    }
}

fn capacity(config: &Config) -> Capacity {
    let limits = &config.limits;
    Capacity { sessions: limits.sessions_per_node as usize, per_user: limits.sessions_per_user as usize }
}

fn limits(config: &Config) -> ops::Limits {
    ops::Limits {
        body_bytes: config.limits.body_bytes,
        services_under_way: SERVICES_UNDER_WAY,
        reconcile_rows: NonZeroU32::new(config.timing.reconcile_rows_per_sec).unwrap_or(NonZeroU32::MAX),
    }
}

fn rules(config: &Config) -> Rules {
    let (limits, timing) = (&config.limits, &config.timing);
    let (per_sec, burst) = (limits.sends_per_sec, limits.send_burst);
    Rules {
        window: limits.window.into(),
        body_bytes: limits.body_bytes,
        requests: (per_sec > 0 && burst > 0).then_some(Rate { per_sec, burst }),
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
