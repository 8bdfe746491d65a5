//! Connections: a task per socket, the registry of local users, the router of stored messages.
//!
//! Built by the node. [`Gateway`] is what all connections of a node share.

pub mod accept;
pub mod drain;
pub mod greeting;
pub mod listing;
pub mod live;
pub mod mailbox;
pub mod pump;
pub mod recent;
pub mod registry;
pub mod requests;
pub mod router;
pub mod services;
pub mod socket;
pub mod watch;

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio_util::task::TaskTracker;

use self::{registry::Registry, router::Router};
use crate::{
    auth::Verifier,
    bus::Bus,
    config::Services,
    metrics::Metrics,
    session::{Rules, Tick},
    store::{Store, appender::Appender},
};

/// What the connections of one node keep to, beside the session's own rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// From the upgrade to the `hello`.
    pub hello_timeout: Duration,
    /// Most bytes of a WebSocket frame.
    pub frame_bytes: usize,
    /// Bytes that may wait in a socket before its session is handed no more.
    pub out_bytes: usize,
    /// Sends a second and at once; `None`: not limited.
    pub sends: Option<(NonZeroU32, NonZeroU32)>,
    /// Most sessions on the node.
    pub sessions: usize,
    /// Most sessions of one user on the node.
    pub sessions_per_user: usize,
    /// Origins whose pages may connect; empty: any.
    pub origins: Vec<String>,
    /// Which services may speak as which users.
    pub services: Services,
    /// Rows a second that all comparisons of heads together may read.
    pub reconcile_rows: NonZeroU32,
    /// After a reconnect the comparisons are spread over this long.
    pub reconcile_spread: Duration,
    /// How long a drain may take.
    pub drain: Duration,
}

/// What all connections of a node share.
pub struct Gateway {
    /// What they keep to.
    pub settings: Settings,
    /// What sessions keep to.
    pub rules: Arc<Rules>,
    /// The store.
    pub store: Store,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Local users.
    pub registry: Arc<Registry>,
    /// Publishes.
    pub router: Router,
    /// Appends.
    pub appender: Appender,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The reconcile budget.
    pub budget: DefaultDirectRateLimiter,
    /// A task per connection.
    pub connections: TaskTracker,
    /// The store requests of sessions: fills, marks, listings.
    pub work: TaskTracker,
    /// No new connections.
    pub draining: AtomicBool,
    epoch: Instant,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gateway({}, {:?})", self.settings.node, self.registry)
    }
}

/// What a gateway is built from.
#[derive(Clone)]
pub struct Parts {
    /// What connections keep to.
    pub settings: Settings,
    /// What sessions keep to.
    pub rules: Rules,
    /// The store.
    pub store: Store,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { settings, rules, store, bus, verifier, metrics } = parts;
        let registry = Registry::new(bus.clone(), metrics.clone(), settings.sessions, settings.sessions_per_user);
        let registry = Arc::new(registry);
        let router = Router::new(bus.clone(), registry.clone(), metrics.clone());
        let publisher = router.clone();
        let appender =
            Appender::new(store.logs.clone(), Arc::new(move |conv, batch| publisher.on_appended(conv, batch)));
        let budget = RateLimiter::direct(Quota::per_second(settings.reconcile_rows));
        Arc::new(Self {
            settings,
            rules: Arc::new(rules),
            store,
            bus,
            registry,
            router,
            appender,
            verifier,
            metrics,
            budget,
            connections: TaskTracker::new(),
            work: TaskTracker::new(),
            draining: AtomicBool::new(false),
            epoch: Instant::now(),
        })
    }

    /// The sessions' clock: milliseconds since the gateway was made.
    pub fn now(&self) -> Tick {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A moment of the sessions' clock for tokio's timers.
    pub fn instant(&self, tick: Tick) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.epoch + Duration::from_millis(tick))
    }
}
