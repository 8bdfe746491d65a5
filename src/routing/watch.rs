//! Watches the bus of a cell: after every reconnect, and whenever notices were dropped on their way in, the sessions whose
//! users or rooms are in that cell compare their heads; what was dropped on its way out is told again when the connection
//! moves again (R12).
//!
//! Started by the node, once for each cell.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, OptionFuture},
};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use super::{Clock, Mail, Registry, Router};
use crate::{
    backoff::Backoff,
    bus::{
        Bus, BusEvent,
        cells::{Cell, Cells},
    },
    session::Cause,
    subject::Subject,
};

/// Active sessions compare within this time.
const ACTIVE_SPREAD: Duration = Duration::from_secs(2);
/// A fence that does not come is asked for again after this long at first, and at most.
const FENCE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the watch looks after.
#[derive(Clone)]
pub struct Watch {
    /// Which of them is watched.
    pub cell: Cell,
    /// The way to other nodes.
    pub cells: Cells,
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
    let bus = watch.bus();
    let mut events = bus.events();
    let mut generation = bus.connected();
    // At most one at a time, however often the bus says that it overflows.
    let mut telling: Option<BoxFuture<'_, ()>> = None;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = OptionFuture::from(telling.as_mut()).map(drop), if telling.is_some() => {
                telling = None;
                continue;
            }
        };
        match event {
            Ok(BusEvent::Connected(_)) if bus.connected() == generation => {}
            Ok(BusEvent::Connected(_)) => {
                generation = watch.fenced().await;
                tracing::info!(cell = %watch.cell, ?generation, "connected to NATS: sessions compare their heads");
                watch.router.tell_again(watch.cell);
                watch.compare(Cause::Reconnect);
            }
            Ok(BusEvent::Disconnected) => {
                generation = None;
                tracing::warn!(
                    cell = %watch.cell,
                    "the connection to NATS is lost: sessions are served from the store until it is back"
                );
            }
            Ok(BusEvent::SlowConsumer) | Err(RecvError::Lagged(_)) => watch.compare(Cause::SlowConsumer),
            // The sessions here have what this node stored: others do not.
            Ok(BusEvent::Overflow) => telling = telling.or_else(|| Some(watch.tell_when_it_moves().boxed())),
            Err(RecvError::Closed) => return,
        }
    }
}

impl Watch {
    fn bus(&self) -> &dyn Bus {
        &**self.cells.at(self.cell)
    }

    /// Waits until the server has processed the subscriptions of this connection, as long as there is one.
    async fn fenced(&self) -> Option<u64> {
        let mut backoff = Backoff::new(FENCE_RETRY.0, FENCE_RETRY.1);
        loop {
            match self.bus().fence().await {
                Ok(generation) => return Some(generation),
                Err(_) if self.bus().connected().is_none() => return None,
                Err(error) => tracing::warn!(%error, "NATS is connected but does not answer a fence, asking again"),
            }
            // Not in a tight loop where the fence fails at once; a disconnect ends the wait.
            let mut events = self.bus().events();
            let gone = async { while !matches!(events.recv().await, Ok(BusEvent::Disconnected) | Err(_)) {} };
            let _ = timeout(backoff.next(), gone).await;
        }
    }

    /// Tells what could not be published, as soon as the server has taken what was queued before it.
    async fn tell_when_it_moves(&self) {
        while self.router.has_untold(self.cell) {
            if self.fenced().await.is_none() {
                return; // whoever connects again tells it
            }
            self.router.tell_untold(self.cell);
        }
    }

    /// Has the cell's sessions compare their heads, active ones soon, the others spread over the whole time.
    fn compare(&self, cause: Cause) {
        let now = self.clock.now();
        let active = self.spread.min(ACTIVE_SPREAD);
        let is_here = |subject: &Subject| self.cells.cell(subject) == self.cell;
        self.registry.rooms().all_due(now, u64::try_from(active.as_millis()).unwrap_or(u64::MAX), is_here);
        self.registry.for_all(|session| {
            if !is_here(&Subject::user(&session.identity.device.user)) {
                return;
            }
            let spread = if session.is_active(now) { active } else { self.spread };
            let most = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
            session.mailbox.push(Mail::Compare { cause, delay: rand::random_range(0..=most) });
        });
    }
}
