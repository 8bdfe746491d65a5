//! A turn: one node works on one part of the queue, from its first message that is not acknowledged. Called by
//! [`super::QueueLink`].
//!
//! A turn is a consumer of its own, new each time, so that a part is handed out from its beginning and in its order
//! whatever an earlier turn had in hand. The server allows no second consumer of a part; one whose node asks for nothing any
//! more is removed by whoever sees that. The consumer numbers what it hands out without a gap; one in what arrives ends the turn (R27).

use std::time::Duration;

use async_nats::{
    Message, StatusCode, Subscriber,
    jetstream::{
        self, ErrorCode,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::ConsumerErrorKind,
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::{PATIENCE, QUEUE_STREAM, QueueError, QueueLink, streams::MAX_MESSAGE};
use crate::subject::Subject;

/// A consumer that nobody removes is removed by the server: once nothing is asked for and nothing of it is in hand any more.
const INACTIVE: Duration = Duration::from_secs(60);

/// A pull that nothing answers is over after this.
const PULL: Duration = Duration::from_secs(5);

/// How often the server says that it is there while there is nothing to hand out.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// With nothing from the server for so long, the turn is over.
const SILENT: Duration = Duration::from_secs(3);

/// What is in hand is not handed out again within this: the node tries it again itself, and another begins a new turn.
const ACK_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Most bytes that one pull may bring.
pub(super) const PULL_BYTES: usize = 4 * MAX_MESSAGE;

/// What an acknowledgement says.
pub(super) const ACK: Bytes = Bytes::from_static(b"+ACK");

/// The right of this node to a part.
#[derive(Debug)]
pub struct Turn {
    link: QueueLink,
    name: String,
    inbox: String,
    subscriber: Subscriber,
    /// What the last message was numbered by the consumer.
    handed: u64,
    /// What the pull that is under way may still bring.
    pulling: usize,
    /// When the server is silent for too long.
    silent: Instant,
    losses: u64,
}

/// A message in hand.
#[derive(Debug, Clone)]
pub struct Queued {
    /// What the service published it to.
    pub subject: Subject,
    /// As it was published.
    pub payload: Bytes,
    /// Its place in the queue.
    pub sequence: u64,
    /// The id that its publisher gave it, `Nats-Msg-Id`.
    pub id: Option<String>,
    /// When it came, in nanoseconds: with its place an id that no other message ever has, also of a stream that was made anew.
    pub published: i128,
    pub(super) ack: async_nats::Subject,
}

pub(super) async fn take(link: &QueueLink, part: u16, in_hand: usize) -> Result<Option<Turn>, QueueError> {
    let name = format!("part{part}-{}-{:08x}", link.node, rand::random::<u32>());
    let config = pull::Config {
        name: Some(name.clone()),
        description: Some(format!("the turn of {}", link.node)),
        filter_subjects: Subject::queue_part(part).iter().map(|subject| subject.as_str().to_owned()).collect(),
        ack_policy: AckPolicy::Explicit,
        deliver_policy: DeliverPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: i64::try_from(in_hand).unwrap_or(i64::MAX),
        inactive_threshold: INACTIVE,
        memory_storage: true,
        ..pull::Config::default()
    };
    let losses = link.losses();
    let made = timeout(PATIENCE, link.jetstream.create_consumer_on_stream(config, QUEUE_STREAM)).await;
    match made.map_err(QueueError::away)? {
        Ok(_) => {}
        Err(error) => match error.kind() {
            ConsumerErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE =>
            {
                return Ok(None);
            }
            ConsumerErrorKind::JetStream(answer) => return Err(QueueError::Refused(answer.to_string())),
            _ => return Err(QueueError::away(error)),
        },
    }
    let inbox = link.client.new_inbox();
    let subscriber = link.client.subscribe(inbox.clone()).await.map_err(QueueError::away)?;
    let silent = Instant::now() + SILENT;
    let link = link.clone();
    Ok(Some(Turn { link, name, inbox, subscriber, handed: 0, pulling: 0, silent, losses }))
}

impl Turn {
    /// Asks for at most so many messages, unless that was done and some may still come. The server hands out no more than may
    /// be in hand; whoever has a turn always asks, and is seen to live by that.
    ///
    /// # Errors
    /// The connection takes nothing.
    pub async fn pull(&mut self, most: usize) -> Result<(), QueueError> {
        if self.pulling > 0 {
            return Ok(());
        }
        let subject = Subject::queue_next(QUEUE_STREAM, &self.name).to_string();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({
            "batch": most,
            "max_bytes": PULL_BYTES,
            "expires": nanos(PULL),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let request = Bytes::from(request.to_string());
        let sent = self.link.client.publish_with_reply(subject, self.inbox.clone(), request).await;
        sent.map_err(QueueError::away)?;
        self.pulling = most;
        self.silent = Instant::now() + SILENT;
        Ok(())
    }

    /// The next message; `None` when the pull is over. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The turn is over, and why.
    pub async fn next(&mut self) -> Result<Option<Queued>, QueueError> {
        loop {
            let message = timeout_at(self.silent, self.subscriber.next()).await;
            let message = message.map_err(|_| QueueError::Away("nothing was heard of the consumer".to_owned()))?;
            let message = message.ok_or_else(|| QueueError::Away("the connection is closed".to_owned()))?;
            if self.link.losses() != self.losses {
                return Err(QueueError::Away("the connection was lost".to_owned()));
            }
            self.silent = Instant::now() + SILENT;
            match self.read(message)? {
                Read::Nothing => {}
                Read::Over => {
                    self.pulling = 0;
                    return Ok(None);
                }
                Read::Message(queued) => {
                    self.pulling = self.pulling.saturating_sub(1);
                    return Ok(Some(queued));
                }
            }
        }
    }

    fn read(&mut self, message: Message) -> Result<Read, QueueError> {
        match message.status {
            None | Some(StatusCode::OK) => {}
            Some(StatusCode::IDLE_HEARTBEAT) => return Ok(Read::Nothing),
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => return Ok(Read::Over),
            Some(status) => {
                let words = message.description.unwrap_or_default();
                // The next message does not fit into the pull any more.
                if words.contains("MaxBytes") || words.contains("Batch Completed") {
                    return Ok(Read::Over);
                }
                return Err(QueueError::Away(format!("{status} {words}")));
            }
        }
        let message = jetstream::Message { message, context: self.link.jetstream.clone() };
        let unknown = |_| QueueError::Refused("a message that is none of JetStream's".to_owned());
        let info = message.info().map_err(unknown)?;
        let (sequence, number) = (info.stream_sequence, info.consumer_sequence);
        let published = info.published.unix_timestamp_nanos();
        if number != self.handed + 1 {
            return Err(QueueError::Away(format!("{} came after {} of the consumer", number, self.handed)));
        }
        self.handed = number;
        let message = message.message;
        let id = message.headers.as_ref().and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
        Ok(Read::Message(Queued {
            subject: Subject::unqueued(&message.subject),
            // A copy: the library's own is a slice of its read buffer, which may be held for long.
            payload: Bytes::copy_from_slice(&message.payload),
            sequence,
            id: id.map(ToString::to_string),
            published,
            ack: message.reply.ok_or_else(|| QueueError::Refused("a message without a reply subject".to_owned()))?,
        }))
    }

    /// Gives the turn up. Whatever was not acknowledged is handed out in the next one.
    pub async fn end(self) {
        if let Err(error) = self.link.remove(&self.name).await {
            tracing::debug!(%error, name = self.name, "the consumer was not removed: another node does it");
        }
    }
}

#[cfg(test)]
impl Queued {
    /// One of a subject, at a place.
    pub(crate) fn for_tests(subject: Subject, sequence: u64) -> Self {
        let ack = async_nats::Subject::from("ack");
        Self { subject, payload: Bytes::new(), sequence, id: None, published: 0, ack }
    }
}

enum Read {
    Nothing,
    Over,
    Message(Queued),
}
