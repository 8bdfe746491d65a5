//! The task behind a peer: owns the connection, so that pings are answered and frames read whatever the test does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use natter::{
    client::{Connection, Incoming},
    protocol::{ServerFrame, client::Outgoing},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

/// What has arrived so far.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) frames: Mutex<Vec<ServerFrame>>,
    pub(super) closed: Mutex<Option<(u16, String)>>,
    pub(super) changed: Notify,
}

/// What the background task owns.
pub(super) struct Task {
    pub(super) connection: Connection,
    pub(super) orders: mpsc::UnboundedReceiver<Bytes>,
    pub(super) heard: Arc<Heard>,
    pub(super) acks: Arc<AtomicBool>,
    pub(super) reads: Arc<AtomicBool>,
}

enum Step {
    Order(Bytes),
    Came(Incoming),
    Gone,
    Again,
}

impl Task {
    /// Reads, writes and acknowledges until the end.
    pub(super) async fn run(mut self, wake: Arc<Notify>) {
        loop {
            let incoming = match self.step(&wake).await {
                Step::Gone => return,
                Step::Again => continue,
                Step::Order(payload) => {
                    // When the connection is gone, reading returns the close.
                    let _ = self.connection.queue_raw(payload);
                    continue;
                }
                Step::Came(incoming) => incoming,
            };
            match incoming {
                Incoming::Frame(payload) => self.on_frame(&payload),
                Incoming::Closed { code, reason } => {
                    *self.heard.closed.lock() = Some((code, reason));
                    self.heard.changed.notify_waiters();
                    return;
                }
            }
        }
    }

    async fn step(&mut self, wake: &Notify) -> Step {
        let (connection, orders, reads) = (&mut self.connection, &mut self.orders, &self.reads);
        let next = std::future::poll_fn(|cx| {
            match orders.poll_recv(cx) {
                Poll::Ready(Some(payload)) => return Poll::Ready(Step::Order(payload)),
                Poll::Ready(None) => return Poll::Ready(Step::Gone),
                Poll::Pending => {}
            }
            if reads.load(Ordering::Acquire)
                && let Poll::Ready(incoming) = connection.poll_next(cx)
            {
                return Poll::Ready(Step::Came(incoming));
            }
            let _ = connection.poll_flush(cx);
            Poll::Pending
        });
        tokio::select! { step = next => step, () = wake.notified() => Step::Again }
    }

    fn on_frame(&mut self, payload: &[u8]) {
        let frame = ServerFrame::decode(self.connection.encoding(), payload);
        let frame = frame.unwrap_or_else(|error| panic!("a frame that cannot be read: {error}"));
        if let (ServerFrame::Message(message), true) = (&frame, self.acks.load(Ordering::Acquire)) {
            let _ = self.connection.queue(&Outgoing::Ack { conv: message.conv.as_str(), seq: message.seq });
        }
        self.heard.frames.lock().push(frame);
        self.heard.changed.notify_waiters();
    }
}
