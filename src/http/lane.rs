//! The lane for connections that found no place: probes are answered there, everything else gets a 503. A node under
//! attack, or simply full, must still look alive to whoever would restart it otherwise.
//!
//! Called by [`super::serve`]. The lane is narrow and quick: where it is full, the oldest connection makes way, so
//! that whoever holds connections open does not keep a probe out.

use std::{collections::VecDeque, convert::Infallible, future::poll_fn, pin::Pin, task::Poll, time::Duration};

use axum::Router;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::serve::{Patience, connection};
use crate::gateway::places::{Crowded, LANE};

/// A probe is one request, sent at once.
const PATIENCE: Patience = Patience { request: Duration::from_secs(2), life: Duration::from_secs(2) };

/// The connections in the lane, the oldest first. They run in the task that owns the lane and not in tasks of their
/// own: what makes way is closed at once. A task that is aborted closes its connection when its turn comes, and until
/// then a crowd of them looks like a node without descriptors, to everyone.
pub(super) struct Lane {
    probes: Router,
    connections: VecDeque<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Lane {
    /// A lane that answers with these routes.
    pub(super) fn new(probes: Router) -> Self {
        Self { probes, connections: VecDeque::with_capacity(LANE) }
    }

    /// Answers on a connection, as long as that costs the store nothing.
    pub(super) fn take(&mut self, stream: TcpStream, crowded: Crowded) {
        if crowded == Crowded::AtTheLimit {
            return;
        }
        if self.connections.len() >= LANE {
            self.connections.pop_front();
        }
        let serving = connection(stream, self.probes.clone(), None, PATIENCE, CancellationToken::new());
        self.connections.push_back(Box::pin(serving));
    }

    /// Serves the connections in the lane. Never ends; may be dropped and called again.
    pub(super) async fn serve(&mut self) -> Infallible {
        poll_fn(|context| {
            self.connections.retain_mut(|connection| connection.as_mut().poll(context).is_pending());
            Poll::Pending
        })
        .await
    }
}
