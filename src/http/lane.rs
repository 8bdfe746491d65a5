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

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{TcpListener, TcpStream as Client},
    };

    use axum::routing::get;
    use tokio::time::timeout;

    use super::*;

    /// However many come before the lane's own task has its turn: what makes way holds no descriptor meanwhile.
    #[tokio::test]
    async fn what_makes_way_is_closed_at_once_and_the_others_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut lane = Lane::new(Router::new().route("/readyz", get(async || "ready")));
        let mut clients = Vec::new();
        for _ in 0..LANE + 3 {
            clients.push(Client::connect(listener.local_addr().unwrap()).unwrap());
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            lane.take(TcpStream::from_std(stream).unwrap(), Crowded::Full);
        }
        // Nothing was awaited so far.
        let mut reads = clients.iter_mut().map(|client| {
            client.set_nonblocking(true).unwrap();
            client.read(&mut [0; 8])
        });
        assert!(reads.by_ref().take(3).all(|read| matches!(read, Ok(0))), "the oldest are closed");
        assert!(
            reads.all(|read| read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)),
            "the others are open"
        );
        let mut last = clients.pop().unwrap();
        last.write_all(b"GET /readyz HTTP/1.1\r\nHost: natter\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let answered = poll_fn(|context| {
            let _ = last.read_to_end(&mut answer);
            let whole = answer.ends_with(b"ready");
            context.waker().wake_by_ref();
            if whole { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            never = lane.serve() => match never {},
            done = timeout(PATIENCE.life, answered) => done.unwrap(),
        }
    }
}
