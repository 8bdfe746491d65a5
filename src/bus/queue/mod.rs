//! The durable way in for services, as JetStream keeps it: the streams (`streams`), a turn at one part of the queue (`turn`),
//! and the messages that were given up (`dead`). R27 says how order and "once" come about.
//!
//! On a connection of its own, by async-nats: natter's own link speaks no JetStream, and nothing here is in the way of a
//! message between nodes. Called by `services::queue`, and by the commands that make, examine and show the streams.

mod dead;
mod look;
mod streams;
mod turn;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, Event,
    jetstream::{self, ErrorCode, context::AccountErrorKind},
};

pub use self::{
    dead::{Buried, Dead},
    look::{Held, Roster},
    streams::{Made, StreamState},
    turn::{Queued, Turn},
};
use super::{
    nats::connect::{delay, identified},
    options::{NatsOptions, checked},
};
use crate::{config::Config, subject::QUEUE_PARTS};

/// The stream of what services publish to `natter.queue.>`.
pub const QUEUE_STREAM: &str = "NATTER_QUEUE";

/// The stream of what was given up.
pub const DEAD_STREAM: &str = "NATTER_DEAD";

/// All parts: those by the hash of the subject, and the one of subjects that have no right form.
pub const PARTS: u16 = QUEUE_PARTS + 1;

/// How long JetStream may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the queue cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It is not there.
    #[error("JetStream is off on these NATS servers, or for this account")]
    NoJetStream,
    /// No connection, or no answer.
    #[error("NATS does not answer: {0}")]
    Away(String),
    /// An answer that waiting alone does not change.
    #[error("{0}")]
    Refused(String),
}

impl QueueError {
    fn away(error: impl fmt::Display) -> Self {
        Self::Away(error.to_string())
    }
}

/// A connection to the queue. Connects again by itself.
#[derive(Clone)]
pub struct QueueLink {
    client: Client,
    jetstream: jetstream::Context,
    node: Arc<str>,
    /// How often the connection was lost.
    losses: Arc<AtomicU64>,
}

impl fmt::Debug for QueueLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueLink({})", self.node)
    }
}

impl QueueLink {
    /// Connects to the servers of the options, once.
    ///
    /// # Errors
    /// No server answers or takes the account, or it has no JetStream for it.
    pub async fn connect(options: &NatsOptions) -> Result<Self, QueueError> {
        let refused = |error: &dyn fmt::Display| QueueError::Refused(error.to_string());
        let (options, addrs) = checked(options.clone()).map_err(|e| refused(&e))?;
        let losses = Arc::<AtomicU64>::default();
        let counted = losses.clone();
        let library = identified(&options)
            .await
            .map_err(|e| refused(&e))?
            .max_reconnects(None)
            .ping_interval(options.ping_interval)
            .reconnect_delay_callback(delay)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected) {
                    counted.fetch_add(1, Ordering::AcqRel);
                }
                std::future::ready(())
            });
        let client = library.connect(addrs).await.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => refused(&error),
            _ => QueueError::away(error),
        })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        let link = Self { client, jetstream, node: options.node.into(), losses };
        link.has_jetstream().await?;
        Ok(link)
    }

    async fn has_jetstream(&self) -> Result<(), QueueError> {
        let asked = tokio::time::timeout(PATIENCE, self.jetstream.query_account()).await.map_err(QueueError::away)?;
        let error = match asked {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(match error.kind() {
            AccountErrorKind::JetStreamUnavailable => QueueError::NoJetStream,
            AccountErrorKind::JetStream(answer) if is_off(answer.error_code()) => QueueError::NoJetStream,
            AccountErrorKind::JetStream(answer) => QueueError::Refused(answer.to_string()),
            _ => QueueError::away(error),
        })
    }

    /// Makes the streams that are missing. Those that are there stay as they are.
    ///
    /// # Errors
    /// JetStream does not answer, or refuses.
    pub async fn prepare(&self, config: &Config) -> Result<(), QueueError> {
        streams::prepare(self, config).await
    }

    /// Makes the streams, or changes them to what the configuration says.
    ///
    /// # Errors
    /// JetStream does not answer, or refuses.
    pub async fn migrate(&self, config: &Config) -> Result<Vec<Made>, QueueError> {
        streams::migrate(self, config).await
    }

    /// What the streams are, and what is in them; `None` for one that is not there.
    ///
    /// # Errors
    /// JetStream does not answer, or refuses.
    pub async fn examine(&self, config: &Config) -> Result<Vec<(&'static str, Option<StreamState>)>, QueueError> {
        streams::examine(self, config).await
    }

    /// Takes the turn at a part; `None` when somebody has it.
    ///
    /// # Errors
    /// JetStream does not answer, or refuses.
    pub async fn take(&self, part: u16, in_hand: usize) -> Result<Option<Turn>, QueueError> {
        turn::take(self, part, in_hand).await
    }

    /// The message is done: it leaves the queue. Where that is not heard, it is handed out again in the next turn.
    pub async fn done(&self, queued: &Queued) {
        if let Err(error) = self.client.publish(queued.ack.clone(), turn::ACK).await {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
    }

    /// The parts that somebody has.
    ///
    /// # Errors
    /// JetStream does not answer, or has no such stream.
    pub async fn held(&self) -> Result<Vec<Held>, QueueError> {
        look::held(self).await
    }

    /// Ends the turn of this name, whosever it is.
    ///
    /// # Errors
    /// JetStream does not answer.
    pub async fn remove(&self, name: &str) -> Result<(), QueueError> {
        look::remove(self, name).await
    }

    /// Hears of the nodes that take from the queue; one that was silent for so long is gone.
    ///
    /// # Errors
    /// The connection takes nothing.
    pub async fn roster(&self, for_so_long: Duration) -> Result<Roster, QueueError> {
        Roster::new(self, for_so_long).await
    }

    /// Keeps a message that was given up. The same one again is kept once.
    ///
    /// # Errors
    /// It may not be kept: try again.
    pub async fn bury(&self, dead: &Dead<'_>) -> Result<(), QueueError> {
        dead::bury(self, dead).await
    }

    /// Those that were given up, the oldest first, `from` being the first place to look at.
    ///
    /// # Errors
    /// JetStream does not answer, or refuses.
    pub async fn buried(&self, from: u64, most: usize) -> Result<Vec<Buried>, QueueError> {
        dead::buried(self, from, most).await
    }

    /// Sends what is queued.
    pub async fn flush(&self) {
        // Whoever cannot be told of an acknowledgement hands the message out again.
        let _ = tokio::time::timeout(PATIENCE, self.client.flush()).await;
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }
}

fn is_off(code: ErrorCode) -> bool {
    code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
}
