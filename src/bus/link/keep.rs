//! Keeps a connection: dials, serves until it is lost, and dials again; goes elsewhere when the server is about to stop.
//! One task for as long as the bus lives, spawned by [`super::LinkBus`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    conn::{Conn, Lost},
    dial::{Failed, Fresh, dial},
    fence,
    servers::{Server, candidates},
    state::Shared,
};
use crate::{backoff::Backoff, bus::options::NatsOptions};

/// The first wait between two rounds of attempts to connect, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(4));

/// A connection that lasted so long was a good one: after it, waits begin with the shortest.
const GOOD: Duration = Duration::from_secs(5);

/// What a connection is made with.
pub(super) struct Dialer {
    pub(super) options: NatsOptions,
    /// The servers of the configuration.
    pub(super) servers: Vec<Server>,
}

enum End {
    Lost(Lost),
    /// Another server took this node while the first still served it.
    Moved(Fresh),
    Closed,
}

/// Runs until `closing`.
pub(super) async fn keep(shared: Arc<Shared>, dialer: Dialer, closing: CancellationToken) {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    let Some(mut fresh) = closing.run_until_cancelled(dialer.dial_until_taken(&shared, &mut backoff)).await else {
        return;
    };
    loop {
        let since = Instant::now();
        let server = fresh.info.server_name.clone();
        let generation = shared.up(fresh.info.clone());
        tracing::info!(generation, server, version = fresh.info.version, "connected to NATS");
        let end = closing.run_until_cancelled(dialer.serve(&shared, fresh)).await.unwrap_or(End::Closed);
        shared.down();
        fresh = match end {
            End::Closed => {
                tracing::info!(generation, "closed the connection to NATS");
                return;
            }
            End::Moved(fresh) => {
                tracing::info!(generation, server, "the NATS server is about to stop; moved to another one");
                fresh
            }
            End::Lost(reason) => {
                tracing::warn!(generation, server, %reason, "lost the connection to NATS");
                if since.elapsed() >= GOOD {
                    backoff.reset();
                }
                let dialling = async {
                    sleep(backoff.next()).await;
                    dialer.dial_until_taken(&shared, &mut backoff).await
                };
                let Some(fresh) = closing.run_until_cancelled(dialling).await else { return };
                fresh
            }
        };
    }
}

impl Dialer {
    /// Tries all servers, round by round.
    async fn dial_until_taken(&self, shared: &Shared, backoff: &mut Backoff) -> Fresh {
        loop {
            if let Some(fresh) = self.dial_round(shared, None).await {
                return fresh;
            }
            sleep(backoff.next()).await;
        }
    }

    /// Tries each server once; not the one with the number `but`, under whatever address.
    async fn dial_round(&self, shared: &Shared, but: Option<&str>) -> Option<Fresh> {
        let (told, _) = shared.cluster();
        for server in candidates(&self.servers, &told) {
            match dial(&self.options, &server).await {
                Ok(fresh) if fresh.info.is_lame_duck || but == Some(fresh.info.server_id.as_str()) => {}
                Ok(fresh) => return Some(fresh),
                Err(error) => on_failed(shared, &server, &error),
            }
        }
        None
    }

    /// Serves one connection to its end.
    async fn serve(&self, shared: &Shared, fresh: Fresh) -> End {
        let server_id = fresh.info.server_id.clone();
        // What the server before this one said is not about this one.
        let _ = shared.leaving.notified().now_or_never();
        let mut conn = Conn::new(fresh.stream, fresh.input, self.options.ping_interval);
        tokio::select! {
            biased;
            lost = conn.run(shared) => End::Lost(lost),
            fresh = self.move_on(shared, &server_id) => End::Moved(fresh),
        }
    }

    /// Waits until the server says that it is about to stop, and has another one take this node. Then the first has
    /// processed what was sent to it, so its answers are here; but for the last round trip, of which the node tells again
    /// when it is connected (R12).
    async fn move_on(&self, shared: &Shared, server_id: &str) -> Fresh {
        shared.leaving.notified().await;
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let fresh = loop {
            // First of all a wait: all its nodes are told at the same moment.
            sleep(backoff.next()).await;
            if let Some(fresh) = self.dial_round(shared, Some(server_id)).await {
                break fresh;
            }
        };
        let _ = fence(shared).await;
        fresh
    }
}

fn on_failed(shared: &Shared, server: &Server, error: &Failed) {
    shared.metrics.nats_errors.inc();
    tracing::debug!(host = server.host, port = server.port, %error, "no connection to NATS yet");
    if let Failed::Account(_) = error {
        shared.refusal.on_account_refused();
        shared.changed.notify_waiters();
    }
}
