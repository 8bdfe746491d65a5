//! The bus: live notices between nodes. A hint, never the truth (I7): everything that goes over it can be lost,
//! repeated or reordered, and the logs in the store make up for it.
//!
//! Called by the gateway. [`nats`] is the one engine; the trait keeps `async_nats` out of everything else and
//! lets a leaner plane replace it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::subject::Subject;

pub mod nats;

/// What arrived on a subject.
#[derive(Debug, Clone)]
pub struct BusMessage {
    /// The subject it was published to (a wildcard subscription needs it).
    pub subject: Box<str>,
    /// Where an answer is wanted, for requests.
    pub reply: Option<Box<str>>,
    /// A copy of the payload, not a slice of a read buffer.
    pub payload: Bytes,
}

/// Called for each message, in order, on a task of the bus: it must not block. What it captures is dropped with
/// the [`Subscription`].
pub type OnMessage = Arc<dyn Fn(BusMessage) + Send + Sync>;

/// Told to the node; each has the node compare heads again (R12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusEvent {
    /// The connection stands (again); all subscriptions are being made anew. Carries the connection's generation.
    Connected(u64),
    /// The connection is lost.
    Disconnected,
    /// Messages for some subscription were dropped on the way in.
    SlowConsumer,
    /// Notices that this node published were dropped on the way out because the connection stalled.
    Overflow,
}

/// Ends the subscription when dropped.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription(Box<dyn Send + Sync>);

impl Subscription {
    /// Wraps what unsubscribes on drop.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = &self.0;
        f.write_str("Subscription")
    }
}

/// Why a fence or a request did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No connection to any NATS server now.
    #[error("not connected to NATS")]
    NotConnected,
    /// The server did not answer in time.
    #[error("NATS did not answer in time")]
    TimedOut,
    /// The connection was lost and made anew while waiting.
    #[error("the connection to NATS changed while waiting")]
    Reconnected,
    /// The server refused, or the library did.
    #[error("NATS: {0}")]
    Other(Arc<str>),
}

/// Publish, subscribe, fence. No method but the futures waits.
pub trait Bus: Send + Sync + 'static {
    /// Publishes and returns at once. Dropped, and counted, when there is no connection or the way out is full.
    fn publish(&self, subject: &Subject, payload: Bytes);

    /// Publishes to a user's subject and has the server say if nobody else had interest: then
    /// `on_unheard` (set with [`Bus::on_unheard`]) is called with `tag`. A tag is a subject token or several
    /// (`alice.dm:alice:bob.17`): no blanks, no wildcards.
    fn publish_or_tell(&self, subject: &Subject, payload: Bytes, tag: &str);

    /// Sets what is called for a publish that nobody heard. Set once, before the first publish.
    fn on_unheard(&self, call: Arc<dyn Fn(&str) + Send + Sync>);

    /// Answers a request.
    fn reply(&self, to: &str, payload: Bytes);

    /// Subscribes; the server may not have processed it yet when this returns: [`Bus::fence`]. Kept over
    /// reconnects. A node's own publishes do not come back to it.
    fn subscribe(&self, subject: &Subject, on_message: OnMessage) -> Subscription;

    /// Subscribes as one of a queue group: each message goes to one member.
    fn queue_subscribe(&self, subject: &Subject, group: &str, on_message: OnMessage) -> Subscription;

    /// Waits until the server has processed everything sent on this connection before the call, and gives the
    /// connection's generation. Concurrent calls share one round trip (R10). Bounded: two seconds.
    fn fence(&self) -> BoxFuture<'_, Result<u64, BusError>>;

    /// Whether there is a connection now, and its generation (it grows with every connect).
    fn connected(&self) -> Option<u64>;

    /// What happens to the connection, from now on. A receiver that lags must take it as [`BusEvent::SlowConsumer`].
    fn events(&self) -> broadcast::Receiver<BusEvent>;

    /// Sends what waits, then closes.
    fn close(&self) -> BoxFuture<'_, ()>;
}
