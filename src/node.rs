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
        nats::{NatsBus, NatsOptions},
    },
    config::Config,
    gateway::{Gateway, Parts, Settings, drain::drain, services, watch::watch},
    http::{router, serve::serve},
    metrics::Metrics,
    session::{self, Rules},
    store::Store,
};

/// Why a node cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Tokens cannot be checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The connection to NATS can never work as it is configured.
    #[error("nats: {0}")]
    Bus(#[from] BusError),
}

/// A node that is ready to run.
pub struct Node {
    gateway: Arc<Gateway>,
    services: [Subscription; 2],
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Node {
    /// Builds a node on an open store; connects to NATS, or starts without it where it does not answer. All its parts
    /// count into `metrics`, which is the node's own.
    ///
    /// # Errors
    /// [`NodeError`]: what no waiting would mend.
    pub async fn build(config: &Config, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Result<Self, NodeError> {
        let verifier = Arc::new(Verifier::from_config(&config.auth)?);
        let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
        let bus = NatsBus::connect(options, metrics.clone()).await?;
        let parts = Parts { settings: settings(config), rules: rules(config), store, bus, verifier, metrics };
        let gateway = Gateway::new(parts);
        let services = services::listen(&gateway);
        Ok(Self { gateway, services })
    }

    /// What its connections share: for tests that look inside.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Serves until `shutdown`, then drains. True when everything under way ended within the drain time.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> bool {
        let Self { gateway, services } = self;
        let watching = tokio::spawn(watch(gateway.clone()));
        serve_until(listener, router(gateway.clone()), gateway.clone(), shutdown).await;
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

pub(crate) fn settings(config: &Config) -> Settings {
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

/// The rules of sessions under this configuration: it has the defaults, also for tests of the session.
pub(crate) fn rules(config: &Config) -> Rules {
    let (limits, timing) = (&config.limits, &config.timing);
    Rules {
        window: limits.window.into(),
        body_bytes: limits.body_bytes,
        pending: limits.appends_in_flight_per_session as usize,
        page_rows: session::PAGE_ROWS,
        behind: session::BEHIND,
        known: session::KNOWN,
        ack_coalesce: timing.ack_coalesce_ms,
        recheck: timing.recheck_ms,
        reconcile: timing.reconcile_secs * 1000,
        offline_after: timing.offline_after_secs * 1000,
        ping: timing.ping_secs * 1000,
        idle: timing.idle_secs * 1000,
        stall: timing.stall_secs * 1000,
    }
}
