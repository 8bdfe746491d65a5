//! Whether the connection is up, and telling the node when that changes. Called by everything in this folder.
//!
//! The library's event callbacks can get lost when many are queued, so an event is only a reason to look: what
//! decides is the library's state and its number of connects, which a task also checks four times a second.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ClientError, ConnectErrorKind, Event, ServerError, Statistics, connection::State};
use tokio::sync::{Notify, broadcast, broadcast::error::RecvError};

use crate::{
    bus::{BusEvent, refusal::Refusal, request::Requests},
    metrics::Metrics,
};

/// How often the state is checked without an event; also the shortest time between two equal warnings.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the library's callback leaves for the task that checks the state.
pub(super) struct Signals {
    look: Notify,
    slow: AtomicBool,
    overflow: AtomicBool,
    refusal: Refusal,
    metrics: Arc<Metrics>,
}

impl Signals {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let (slow, overflow) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { look: Notify::new(), slow, overflow, refusal: Refusal::default(), metrics }
    }

    /// Called by the library for each event; must not wait.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => {
                self.metrics.nats_slow_consumers.inc();
                self.slow.store(true, Ordering::Release);
            }
            Event::ServerError(error) => {
                self.metrics.nats_errors.inc();
                let is_refusal = matches!(error, ServerError::Other(text) if self.refusal.on_server_error(text));
                if !is_refusal {
                    tracing::warn!(%error, "the NATS server reported an error");
                }
            }
            Event::ClientError(error) => {
                self.metrics.nats_errors.inc();
                if is_account_refused(error) {
                    self.refusal.on_account_refused();
                } else {
                    tracing::debug!(%error, "no connection to NATS yet");
                }
            }
            _ => {}
        }
        self.look.notify_one();
    }

    /// An outgoing message was dropped.
    pub(super) fn overflowed(&self) {
        self.overflow.store(true, Ordering::Release);
    }
}

/// An attempt to connect failed. The library has no more than a text here.
fn is_account_refused(error: &ClientError) -> bool {
    let ClientError::Other(text) = error else { return false };
    let account = [ConnectErrorKind::AuthorizationViolation, ConnectErrorKind::Authentication];
    account.iter().any(|kind| kind.to_string() == *text)
}

/// The connection as the rest of the bus sees it.
pub(super) struct Link {
    client: Client,
    library: Arc<Statistics>,
    signals: Arc<Signals>,
    events: broadcast::Sender<BusEvent>,
    closed: AtomicBool,
}

impl Link {
    pub(super) fn new(client: Client, signals: Arc<Signals>) -> Arc<Self> {
        let library = client.statistics();
        Arc::new(Self { client, library, signals, events: broadcast::Sender::new(64), closed: AtomicBool::new(false) })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The generation of the current connection; `None` without one.
    pub(super) fn generation(&self) -> Option<u64> {
        let up = self.client.connection_state() == State::Connected && !self.closed.load(Ordering::Acquire);
        up.then(|| self.library.connects.load(Ordering::Acquire))
    }

    /// Why the servers refuse this node.
    pub(super) fn refusal(&self) -> Option<Arc<str>> {
        self.signals.refusal.words()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.events.subscribe()
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// From now on the link counts as down.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.signals.look.notify_one();
    }

    fn tell(&self, event: BusEvent) {
        // An error only means that nobody is listening.
        let _ = self.events.send(event);
    }

    /// Tells the node what changed since the last look.
    fn look(&self, seen: &mut Seen) {
        let now = self.generation();
        let before = seen.up.then_some(seen.generation);
        if now != before {
            if let Some(generation) = before {
                self.on_down(generation);
            }
            if let Some(generation) = now {
                self.on_up(generation, seen.generation);
            }
        }
        seen.up = now.is_some();
        seen.generation = now.unwrap_or(seen.generation);
        if self.signals.slow.swap(false, Ordering::AcqRel) {
            self.tell(BusEvent::SlowConsumer);
        }
    }

    fn on_down(&self, generation: u64) {
        if self.closed.load(Ordering::Acquire) {
            tracing::info!(generation, "closed the connection to NATS");
        } else {
            tracing::warn!(generation, "lost the connection to NATS");
        }
        self.signals.metrics.nats_connected.dec();
        self.signals.refusal.on_down();
        self.tell(BusEvent::Disconnected);
    }

    fn on_up(&self, generation: u64, before: u64) {
        tracing::info!(generation, "connected to NATS");
        self.signals.refusal.on_up();
        let metrics = &self.signals.metrics;
        metrics.nats_connected.inc();
        // Connections that came and went between two looks count as well; the very first is no reconnect.
        metrics.nats_reconnects.inc_by(generation.saturating_sub(before.max(1)));
        self.tell(BusEvent::Connected(generation));
    }
}

/// The state at the last look.
#[derive(Default)]
struct Seen {
    up: bool,
    /// The latest generation that was seen up; 0 before the first.
    generation: u64,
}

/// Checks the state until the bus is gone.
pub(super) async fn watch(link: Weak<Link>) {
    let mut seen = Seen::default();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Some(signals) = link.upgrade().map(|link| Arc::clone(&link.signals)) else { return };
    loop {
        let ticked = tokio::select! {
            _ = tick.tick() => true,
            () = signals.look.notified() => false,
        };
        let Some(link) = link.upgrade() else { return };
        link.look(&mut seen);
        // Only on a tick: a stalled connection overflows thousands of times a second. The last overflow is told
        // as well, up to a tick late.
        if ticked && signals.overflow.swap(false, Ordering::AcqRel) {
            tracing::warn!("dropped outgoing notices: the connection to NATS does not take them fast enough");
            link.tell(BusEvent::Overflow);
        }
    }
}

/// Ends the waits for answers that went with their connection, until the bus is gone.
pub(super) async fn end_requests(link: Weak<Link>, requests: Arc<Requests>) {
    let Some(mut events) = link.upgrade().map(|link| link.events()) else { return };
    // Any event is only a reason to look.
    while !matches!(events.recv().await, Err(RecvError::Closed)) {
        let Some(link) = link.upgrade() else { return };
        requests.end_all_but(link.generation());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_account_is_told_from_a_server_that_is_away() {
        assert!(!is_account_refused(&ClientError::Other("IO error".into())));
        assert!(is_account_refused(&ClientError::Other("authorization violation".into())));
    }
}
