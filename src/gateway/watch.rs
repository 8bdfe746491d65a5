//! Watches the bus: after every reconnect, and whenever notices were dropped, all sessions compare their heads (R12).
//!
//! Started by the node.

use std::{sync::Arc, time::Duration};

use tokio::{sync::broadcast::error::RecvError, time::timeout};

use super::{Gateway, mailbox::Mail};
use crate::{bus::BusEvent, session::Cause};

/// Active sessions compare within this time.
const ACTIVE_SPREAD: Duration = Duration::from_secs(2);
/// A fence that does not come is asked for again after at least this long.
const FENCE_RETRY: Duration = Duration::from_millis(500);

/// Runs until the bus is gone.
pub async fn watch(gateway: Arc<Gateway>) {
    let mut events = gateway.bus.events();
    let mut generation = gateway.bus.connected();
    loop {
        match events.recv().await {
            Ok(BusEvent::Connected(_)) if gateway.bus.connected() == generation => {}
            Ok(BusEvent::Connected(_)) => {
                generation = fenced(&gateway).await;
                tracing::info!(?generation, "connected to NATS: all sessions compare their heads");
                gateway.router.tell_again();
                doubt(&gateway, Cause::Reconnect);
            }
            Ok(BusEvent::Disconnected) => {
                generation = None;
                tracing::warn!("the connection to NATS is lost: sessions are served from the store until it is back");
            }
            Ok(BusEvent::SlowConsumer | BusEvent::Overflow) | Err(RecvError::Lagged(_)) => {
                doubt(&gateway, Cause::SlowConsumer);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Waits until the server has processed the subscriptions of this connection, as long as there is one.
async fn fenced(gateway: &Gateway) -> Option<u64> {
    loop {
        match gateway.bus.fence().await {
            Ok(generation) => return Some(generation),
            Err(_) if gateway.bus.connected().is_none() => return None,
            Err(error) => tracing::warn!(%error, "NATS is connected but does not answer a fence, asking again"),
        }
        // Not in a tight loop where the fence fails at once; a disconnect ends the wait.
        let mut events = gateway.bus.events();
        let gone = async { while !matches!(events.recv().await, Ok(BusEvent::Disconnected) | Err(_)) {} };
        let _ = timeout(FENCE_RETRY, gone).await;
    }
}

fn doubt(gateway: &Gateway, cause: Cause) {
    let now = gateway.now();
    let whole = gateway.settings.reconcile_spread;
    let active = whole.min(ACTIVE_SPREAD);
    gateway.registry.for_all(|session| {
        let spread = if session.is_active(now) { active } else { whole };
        let most = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        session.mailbox.push(Mail::Doubt { cause, delay: rand::random_range(0..=most) });
    });
}
