//! The bus: live notices between nodes. A hint, never the truth (I7): whatever goes over it can be lost, repeated or
//! reordered, and the logs in the store make up for it.
//!
//! Called by the gateway. Two links carry it: [`link`], natter's own connection to NATS, and [`nats`] on async-nats, which
//! `natter doctor` uses as well. `options`, `refusal`, `request` and `replies` are what they share; the trait keeps both
//! out of everything else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

pub use self::options::{NatsAuth, NatsOptions, NatsTls};
use crate::{config::NatsLink, metrics::Metrics, subject::Subject};

pub mod cells;
pub mod claim;
pub mod link;
pub mod nats;
mod options;
pub mod queue;
mod refusal;
mod replies;
mod request;

/// The tail of a node's own subjects on which the server answers "no responders" to a tagged message.
const NO_RESPONDERS: &str = "no_responders";

/// Connects over the link that the options name, and waits for the connection as long as one attempt may take. Without a
/// server the bus starts all the same and keeps trying. Counts into `metrics`, which must be this node's own.
///
/// # Errors
/// For what waiting does not help: a bad URL, a bad node name, files that cannot be read, servers that refuse the account.
pub async fn connect(options: NatsOptions, metrics: Arc<Metrics>) -> Result<Arc<dyn Bus>, BusError> {
    Ok(match options.link {
        NatsLink::Own => link::LinkBus::connect(options, metrics).await?,
        NatsLink::AsyncNats => nats::NatsBus::connect(options, metrics).await?,
    })
}

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

/// Called for each message, in order, on a task of the bus: it must not block, for on natter's own link everybody waits.
/// What it captures is dropped with the [`Subscription`].
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
    /// Incoming messages of some subscription were dropped: over async-nats only.
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

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No other node is subscribed to the subject: the server's word, at once. Nobody has the request.
    #[error("no other node hears the subject")]
    NoResponders,
    /// Nothing came in time. Somebody may have the request, and may still act on it.
    #[error("no answer came in time")]
    TimedOut,
    /// There is no connection, it takes nothing more, or it was lost while the request waited. Somebody may have it.
    #[error("not connected to NATS")]
    NotConnected,
}

/// Publish, subscribe, ask, fence. Only what returns a future waits.
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

    /// Asks another node, and waits for its answer at most `patience`. Sent when the future is first polled; dropping it
    /// gives up. A node does not hear its own requests.
    fn request<'a>(
        &'a self,
        subject: &'a Subject,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>>;

    /// Answers a request of a node: `to` is its reply subject, and anything but a node's inbox for answers is dropped,
    /// counted and logged.
    fn answer(&self, to: &str, payload: Bytes);

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
