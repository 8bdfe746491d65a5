//! The bus: live notices between nodes. A hint, never the truth (I7): whatever goes over it can be lost, repeated or
//! reordered, and the logs in the store make up for it.
//!
//! Called by the gateway. [`nats`] is the only engine; the trait keeps `async_nats` out of everything else and lets
//! another engine replace it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::subject::Subject;

pub mod claim;
pub mod nats;

/// What arrived on a subject.
#[derive(Debug, Clone)]
pub struct BusMessage {
    /// The subject it was published to; a wildcard subscription needs it.
    pub subject: Box<str>,
    /// Where the sender wants an answer; set for requests.
    pub reply: Option<Box<str>>,
    /// A copy of the payload, not a slice of a read buffer.
    pub payload: Bytes,
}

/// Called for each message, in order, on a task of the bus: it must not block. What it captures is dropped with
/// the [`Subscription`].
pub type OnMessage = Arc<dyn Fn(BusMessage) + Send + Sync>;

/// Called with the tag of a message that was published with [`Bus::publish_tagged`] and in which no other node had
/// interest. On a task of the bus: it must not block.
pub type OnNoResponders = Arc<dyn Fn(&str) + Send + Sync>;

/// A change of the connection (R12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusEvent {
    /// Connected, or connected again; all subscriptions are being renewed. Carries the connection's generation.
    Connected(u64),
    /// The connection is lost.
    Disconnected,
    /// Incoming messages of some subscription were dropped.
    SlowConsumer,
    /// Outgoing notices of this node were dropped because the connection stalled. Nobody here missed anything.
    Overflow,
}

/// Unsubscribes when dropped.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription(Box<dyn Send + Sync>);

impl Subscription {
    /// Wraps a guard that unsubscribes when dropped.
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

/// Why connecting or a fence failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// There is no connection to any NATS server now.
    #[error("not connected to NATS")]
    NotConnected,
    /// The server did not answer in time.
    #[error("NATS did not answer in time")]
    TimedOut,
    /// The connection was lost and re-established while waiting.
    #[error("the connection to NATS was re-established while waiting")]
    Reconnected,
    /// Refused by the server or by the client library, or options that can never work.
    #[error("NATS: {0}")]
    Other(Arc<str>),
}

/// Publish, subscribe, fence. Only what returns a future waits.
pub trait Bus: Send + Sync + 'static {
    /// Publishes and returns at once. The message is dropped, and counted, when there is no connection or the outgoing
    /// queue is full: false.
    fn publish(&self, subject: &Subject, payload: Bytes) -> bool;

    /// Publishes, and asks the server to say when no other node has interest in the subject ("no responders"): the
    /// callback of [`Bus::on_no_responders`] then gets `tag`. A tag is one subject token or several
    /// (`alice.dm:alice:bob.17`): no blanks, no wildcards.
    fn publish_tagged(&self, subject: &Subject, payload: Bytes, tag: &str) -> bool;

    /// Sets the callback for tagged messages in which no other node had interest. Set once, before the first
    /// [`Bus::publish_tagged`].
    fn on_no_responders(&self, call: OnNoResponders);

    /// Answers a request of `service`, below its own inbox only: any other `to` is dropped, counted and logged.
    fn reply(&self, service: &str, to: &str, payload: Bytes);

    /// Subscribes. The server may not have processed it when this returns: see [`Bus::fence`]. Survives reconnects. A
    /// node does not hear its own messages.
    fn subscribe(&self, subject: &Subject, on_message: OnMessage) -> Subscription;

    /// Subscribes as a member of a queue group: each message goes to one member.
    fn queue_subscribe(&self, subject: &Subject, group: &str, on_message: OnMessage) -> Subscription;

    /// Waits until the server has processed everything sent on this connection before the call, and returns the
    /// connection's generation. Concurrent calls share one round trip (R10). Takes two seconds at most.
    fn fence(&self) -> BoxFuture<'_, Result<u64, BusError>>;

    /// The generation of the connection, which grows with every connect; `None` while there is no connection.
    fn connected(&self) -> Option<u64>;

    /// Why the servers refuse this node, in words with what to check: its account, or something that every node must be
    /// permitted. `None` otherwise, also while no server answers.
    fn refusal(&self) -> Option<Arc<str>>;

    /// What happens to the connection from now on. A receiver that lags must treat it as [`BusEvent::SlowConsumer`].
    fn events(&self) -> broadcast::Receiver<BusEvent>;

    /// Sends what is queued, then closes the connection.
    fn close(&self) -> BoxFuture<'_, ()>;
}
