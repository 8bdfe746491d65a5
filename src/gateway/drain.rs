//! Stopping without losing anything or hurting anyone: `goodbye` to the sessions, spread over the drain time, then
//! everything under way is awaited.
//!
//! Called by the node after it stopped accepting.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Gateway;
use crate::{
    overload::Class,
    protocol::{CloseReason, ServerFrame},
    routing::{Mail, SessionHandle},
};

/// Clients that are told to come back do so within this time, each at its own moment.
const RECONNECT_SPREAD_MS: u64 = 2_000;
/// Sessions that are told at the same time.
const STEP: usize = 64;

impl Gateway {
    /// Says goodbye to all, awaits what is under way. True when all of it ended within the drain time.
    pub async fn drain(self: &Arc<Self>) -> bool {
        self.stop_accepting();
        // Those who wait for their turn are told to go elsewhere.
        self.overload.clear(Class::Login);
        let whole = self.settings.drain;
        let sessions = self.sessions();
        tracing::info!(sessions, seconds = whole.as_secs_f32(), "draining");
        // Half of the time for the goodbyes, so that the last one told has time left to end.
        let told = say_goodbye(self, whole / 2);
        self.connections.close();
        let done = async {
            told.await;
            self.connections.wait().await;
            self.ops.finish().await;
        };
        let all = timeout(whole, done).await.is_ok();
        if !all {
            tracing::warn!(sessions = self.sessions(), "the drain time is over, the rest is cut off");
        }
        all
    }
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
