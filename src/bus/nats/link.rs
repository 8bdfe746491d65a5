//! Whether the connection stands, and telling the node when that changes. Called by everything in this folder.
//!
//! The library's event callbacks can get lost when many wait, so an event is only a reason to look: what counts is
//! the library's state and its number of connects, which a task also looks at four times a second.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Event, Statistics, connection::State};
use tokio::sync::{Notify, broadcast};

use super::stats::{BusStats, count};
use crate::bus::BusEvent;

/// How often the state is looked at when no event says so; also the least time between two equal warnings.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the library's callback leaves for the task that looks.
#[derive(Default)]
pub(super) struct Signals {
    look: Notify,
    slow: AtomicBool,
    overflow: AtomicBool,
    stats: Arc<BusStats>,
}

impl Signals {
    pub(super) fn new(stats: Arc<BusStats>) -> Self {
        Self { stats, ..Self::default() }
    }

    /// Called by the library for each event; must not wait.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => {
                count(&self.stats.slow_consumers);
                self.slow.store(true, Ordering::Release);
            }
            Event::ServerError(error) => {
                count(&self.stats.errors);
                tracing::warn!(%error, "the NATS server refused something");
            }
            Event::ClientError(error) => {
                count(&self.stats.errors);
                tracing::debug!(%error, "no connection to NATS yet");
            }
            _ => {}
        }
        self.look.notify_one();
    }

    /// A notice was dropped on the way out.
    pub(super) fn overflowed(&self) {
        self.overflow.store(true, Ordering::Release);
    }
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

    /// The number of the connection that stands now; `None` without one.
    pub(super) fn generation(&self) -> Option<u64> {
        let up = self.client.connection_state() == State::Connected && !self.closed.load(Ordering::Acquire);
        up.then(|| self.library.connects.load(Ordering::Acquire))
    }

    pub(super) fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.events.subscribe()
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// From now on there is no connection.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.signals.look.notify_one();
    }

    fn tell(&self, event: BusEvent) {
        // An error only means that nobody listens.
        let _ = self.events.send(event);
    }

    /// Tells what changed since `told`, the generation that was told last, and gives the one told now.
    fn look(&self, told: Option<u64>) -> Option<u64> {
        let now = self.generation();
        if now != told {
            if let Some(before) = told {
                if self.closed.load(Ordering::Acquire) {
                    tracing::info!(generation = before, "closed the connection to NATS");
                } else {
                    tracing::warn!(generation = before, "lost the connection to NATS");
                }
                self.tell(BusEvent::Disconnected);
            }
            if let Some(generation) = now {
                tracing::info!(generation, "connected to NATS");
                self.signals.stats.reconnects.store(generation.saturating_sub(1), Ordering::Relaxed);
                self.tell(BusEvent::Connected(generation));
            }
        }
        if self.signals.slow.swap(false, Ordering::AcqRel) {
            self.tell(BusEvent::SlowConsumer);
        }
        now
    }
}

/// Looks, until the bus is gone.
pub(super) async fn watch(link: Weak<Link>) {
    let mut told = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Some(signals) = link.upgrade().map(|link| Arc::clone(&link.signals)) else { return };
    loop {
        let ticked = tokio::select! {
            _ = tick.tick() => true,
            () = signals.look.notified() => false,
        };
        let Some(link) = link.upgrade() else { return };
        told = link.look(told);
        // Only on a tick: a stalled connection overflows thousands of times a second. The last one is told too,
        // up to a tick late.
        if ticked && signals.overflow.swap(false, Ordering::AcqRel) {
            tracing::warn!("notices were dropped: the connection to NATS does not take them fast enough");
            link.tell(BusEvent::Overflow);
        }
    }
}
