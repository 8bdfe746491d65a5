//! Connections: from a TCP stream to a session and back, one task per socket.
//!
//! Built by the node; [`accept::websocket`] is the HTTP router's route. What a request does is in `ops`, who must hear
//! what in `routing`.

pub mod accept;
mod drain;
mod expected;
mod greet;
mod heard;
mod hellos;
mod joined;
mod moved;
pub mod patient;
pub mod places;
mod pump;
mod socket;
mod unwritable;
pub mod websocket;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use self::{hellos::Hellos, places::Places};
use crate::{
    auth::Verifier,
    config::Network,
    metrics::Metrics,
    model::{UserId, now_millis},
    ops::Ops,
    overload::Overload,
    routing::{Clock, Registry},
    session::{Expiry, Rules, greeting::CheckedToken},
};

/// What the connections of one node keep to, beside the session's own rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// From the upgrade to the `hello`.
    pub hello_timeout: Duration,
    /// How long a login may wait for its turn.
    pub login_wait: Duration,
    /// Most bytes of a WebSocket frame.
    pub frame_bytes: usize,
    /// Bytes that may wait in a socket before its session is handed no more.
    pub out_bytes: usize,
    /// Most sessions on the node.
    pub sessions: usize,
    /// Most connections that have no session, in all.
    pub connections: usize,
    /// The same of one address.
    pub connections_per_address: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Origins whose pages may connect; empty: any.
    pub origins: Vec<String>,
    /// From the announcement that the node ends to its drain.
    pub notice: Duration,
    /// How long a drain may take.
    pub drain: Duration,
}

/// What a gateway is built from.
pub struct Parts {
    /// What connections keep to.
    pub settings: Settings,
    /// What sessions keep to.
    pub rules: Rules,
    /// Carries out what clients ask.
    pub ops: Arc<Ops>,
    /// Says when a login may begin.
    pub overload: Overload,
    /// The sessions on this node.
    pub registry: Arc<Registry>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// The sessions' clock.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// What all connections of a node share.
pub struct Gateway {
    settings: Settings,
    rules: Arc<Rules>,
    ops: Arc<Ops>,
    overload: Overload,
    registry: Arc<Registry>,
    /// Replaced when the keys are read again.
    verifier: RwLock<Arc<Verifier>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    places: Arc<Places>,
    hellos: Hellos,
    /// A task per connection.
    connections: TaskTracker,
    leaving: AtomicBool,
    draining: AtomicBool,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gateway({}, {:?})", self.settings.node, self.registry)
    }
}

impl Gateway {
    /// What its sessions have done for them.
    pub fn ops(&self) -> &Arc<Ops> {
        &self.ops
    }

    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { settings, rules, ops, overload, registry, verifier, clock, metrics } = parts;
        Arc::new(Self {
            places: Places::new(&settings, metrics.clone()),
            hellos: Hellos::new(),
            settings,
            rules: Arc::new(rules),
            ops,
            overload,
            registry,
            verifier: RwLock::new(verifier),
            clock,
            metrics,
            connections: TaskTracker::new(),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.settings.node
    }

    /// Who may connect.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// The sessions themselves: for tests that put something into their mailboxes.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Sessions now.
    pub fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// Says in `/readyz` from now on that whoever can should connect to another node, and returns when that has been
    /// said for long enough. Everything else goes on.
    pub async fn announce_end(&self) {
        let notice = self.settings.notice;
        self.leaving.store(true, Ordering::Release);
        tracing::info!(seconds = notice.as_secs(), "stopping: not ready, and draining after this many seconds");
        sleep(notice).await;
    }

    /// For how long the end is announced before the drain, and how long that may take.
    pub fn drain_times(&self) -> (Duration, Duration) {
        (self.settings.notice, self.settings.drain)
    }

    /// Whether the node's end has been announced.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Takes no new connections from now on, and says so in `/readyz`.
    pub fn stop_accepting(&self) {
        self.leaving.store(true, Ordering::Release);
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node takes no new connections any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Checks tokens with other keys from now on. Sessions that are open keep the end that their token had.
    pub fn replace_verifier(&self, verifier: Arc<Verifier>) {
        *self.verifier.write() = verifier;
    }

    /// What checks tokens now.
    pub fn verifier(&self) -> Arc<Verifier> {
        self.verifier.read().clone()
    }

    /// Checks the token of a `hello`. Waits only where its key is unknown and may have been published since the keys of
    /// `auth.jwks_url` were fetched, at most [`crate::auth::LOGIN_WAIT`].
    async fn check_first_token(&self, token: &str) -> CheckedToken {
        let verifier = self.verifier();
        if verifier.lacks_key(token) {
            verifier.fetch_again().await;
        }
        self.check_token(None, token)
    }

    /// Checks a token, of `user` where that is given.
    fn check_token(&self, user: Option<&UserId>, token: &str) -> CheckedToken {
        let claims = self.verifier().verify(token).map_err(|error| (error.is_expired(), format!("token: {error}")))?;
        if user.is_some_and(|user| *user != claims.user) {
            return Err((false, "token: it is of another user".into()));
        }
        let at = claims.exp.saturating_mul(1000);
        let tick = self.clock.now().saturating_add(at.saturating_sub(now_millis()));
        Ok((claims.user, Expiry { tick, at }))
    }
}

#[cfg(test)]
mod tests;
