//! Watches the bus: after every reconnect, and whenever notices were dropped, all sessions compare their heads (R12).
//!
//! Started by the node.

use std::{sync::Arc, time::Duration};

use tokio::{sync::broadcast::error::RecvError, time::timeout};

use super::{Clock, Mail, Registry, Router};
use crate::{
    backoff::Backoff,
    bus::{Bus, BusEvent},
    session::Cause,
};

/// Active sessions compare within this time.
const ACTIVE_SPREAD: Duration = Duration::from_secs(2);
/// A fence that does not come is asked for again after this long at first, and at most.
const FENCE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the watch looks after.
#[derive(Clone)]
pub struct Watch {
    /// What is watched.
    pub bus: Arc<dyn Bus>,
    /// Whose sessions compare.
    pub registry: Arc<Registry>,
    /// What tells again.
    pub router: Router,
    /// The sessions' clock.
    pub clock: Clock,
    /// Comparisons are spread over this long.
    pub spread: Duration,
}

/// Runs until the bus is gone.
pub async fn watch(watch: Watch) {
    let mut events = watch.bus.events();
    let mut generation = watch.bus.connected();
    loop {
        match events.recv().await {
            Ok(BusEvent::Connected(_)) if watch.bus.connected() == generation => {}
            Ok(BusEvent::Connected(_)) => {
                generation = watch.fenced().await;
                tracing::info!(?generation, "connected to NATS: all sessions compare their heads");
                watch.router.tell_again();
                watch.compare(Cause::Reconnect);
            }
            Ok(BusEvent::Disconnected) => {
                generation = None;
                tracing::warn!("the connection to NATS is lost: sessions are served from the store until it is back");
            }
            Ok(BusEvent::SlowConsumer | BusEvent::Overflow) | Err(RecvError::Lagged(_)) => {
                watch.compare(Cause::SlowConsumer);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

impl Watch {
    /// Waits until the server has processed the subscriptions of this connection, as long as there is one.
    async fn fenced(&self) -> Option<u64> {
        let mut backoff = Backoff::new(FENCE_RETRY.0, FENCE_RETRY.1);
        loop {
            match self.bus.fence().await {
                Ok(generation) => return Some(generation),
                Err(_) if self.bus.connected().is_none() => return None,
                Err(error) => tracing::warn!(%error, "NATS is connected but does not answer a fence, asking again"),
            }
            // Not in a tight loop where the fence fails at once; a disconnect ends the wait.
            let mut events = self.bus.events();
            let gone = async { while !matches!(events.recv().await, Ok(BusEvent::Disconnected) | Err(_)) {} };
            let _ = timeout(backoff.next(), gone).await;
        }
    }

    /// Has all sessions compare their heads, active ones soon, the others spread over the whole time.
    fn compare(&self, cause: Cause) {
        let now = self.clock.now();
        let active = self.spread.min(ACTIVE_SPREAD);
        self.registry.for_all(|session| {
            let spread = if session.is_active(now) { active } else { self.spread };
            let most = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
            session.mailbox.push(Mail::Compare { cause, delay: rand::random_range(0..=most) });
        });
    }
}
