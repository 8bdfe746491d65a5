//! Stopping without losing anything or hurting anyone: `goodbye` to the sessions, spread over the drain time, then
//! everything under way is awaited.
//!
//! Called by the node after it stopped accepting.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{Gateway, mailbox::Mail, registry::SessionHandle};
use crate::protocol::{CloseReason, ServerFrame};

/// Clients that are told to come back do so within this time, each at its own moment.
const RECONNECT_SPREAD_MS: u64 = 2_000;
/// Sessions that are told at the same time.
const STEP: usize = 64;

/// Says goodbye to all, awaits what is under way. True when all of it ended within the drain time.
pub async fn drain(gateway: &Arc<Gateway>) -> bool {
    gateway.draining.store(true, Ordering::Release);
    let whole = gateway.settings.drain;
    let sessions = gateway.registry.len();
    tracing::info!(sessions, seconds = whole.as_secs_f32(), "draining");
    // Half of the time for the goodbyes, so that the last one told has time left to end.
    let told = say_goodbye(gateway, whole / 2);
    gateway.connections.close();
    gateway.work.close();
    let done = async {
        told.await;
        gateway.connections.wait().await;
        gateway.appender.idle().await;
        gateway.work.wait().await;
    };
    let all = timeout(whole, done).await.is_ok();
    if !all {
        tracing::warn!(sessions = gateway.registry.len(), "the drain time is over, the rest is cut off");
    }
    all
}

async fn say_goodbye(gateway: &Gateway, within: Duration) {
    let mut sessions = Vec::with_capacity(gateway.registry.len());
    gateway.registry.for_all(|session| sessions.push(session.clone()));
    let pause = within / u32::try_from(sessions.len().div_ceil(STEP).max(1)).unwrap_or(u32::MAX);
    for (number, group) in sessions.chunks(STEP).enumerate() {
        if number > 0 {
            // A pause between groups is the whole point here: clients must not all come back at once.
            sleep(pause).await;
        }
        group.iter().for_each(|session| tell(session));
    }
}

fn tell(session: &SessionHandle) {
    let reconnect_ms = rand::random_range(0..RECONNECT_SPREAD_MS);
    let goodbye = ServerFrame::Goodbye { reason: CloseReason::Drain.label().into(), reconnect_ms };
    session.mailbox.push(Mail::Close(CloseReason::Drain, Some(Box::new(goodbye))));
}
