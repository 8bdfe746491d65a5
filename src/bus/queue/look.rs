//! Who works on which part of the queue, and which nodes would: what a node looks at to share the parts. Called by
//! [`super::QueueLink`].

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::{Subscriber, jetstream::stream::ConsumerErrorKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::{PARTS, PATIENCE, QUEUE_STREAM, QueueError, QueueLink};
use crate::subject::Subject;

/// A part that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub part: u16,
    /// The name of the turn.
    pub name: String,
    /// Whether the holder waits for messages. One that lives does, but for moments.
    pub waiting: bool,
    /// How much was handed out in this turn.
    pub handed: u64,
}

pub(super) async fn held(link: &QueueLink) -> Result<Vec<Held>, QueueError> {
    let looking = async {
        let stream = link.jetstream.get_stream_no_info(QUEUE_STREAM).await.map_err(QueueError::away)?;
        let mut consumers = stream.consumers();
        let mut found = Vec::new();
        while let Some(info) = consumers.next().await {
            let info = info.map_err(QueueError::away)?;
            let part = info.name.strip_prefix("part").and_then(|rest| rest.split_once('-')?.0.parse().ok());
            let Some(part) = part.filter(|part| *part < PARTS) else { continue };
            let (waiting, handed) = (info.num_waiting > 0, info.delivered.consumer_sequence);
            found.push(Held { part, name: info.name, waiting, handed });
        }
        Ok(found)
    };
    timeout(PATIENCE, looking).await.map_err(QueueError::away)?
}

pub(super) async fn remove(link: &QueueLink, name: &str) -> Result<(), QueueError> {
    let removing = link.jetstream.delete_consumer_from_stream(name, QUEUE_STREAM);
    match timeout(PATIENCE, removing).await.map_err(QueueError::away)? {
        Ok(_) => Ok(()),
        // Somebody else, or the server, was quicker.
        Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => Ok(()),
        Err(error) => Err(QueueError::away(error)),
    }
}

/// The nodes that take from the queue, by what they say of themselves.
#[derive(Debug)]
pub struct Roster {
    link: QueueLink,
    subscriber: Subscriber,
    seen: HashMap<String, Instant>,
    for_so_long: Duration,
}

impl Roster {
    /// Of nodes that said so within `for_so_long`.
    pub(super) async fn new(link: &QueueLink, for_so_long: Duration) -> Result<Self, QueueError> {
        let all = Subject::all_queue_nodes().to_string();
        let subscriber = link.client.subscribe(all).await.map_err(QueueError::away)?;
        Ok(Self { link: link.clone(), subscriber, seen: HashMap::new(), for_so_long })
    }

    /// Says that this node is there, and returns how many are, this one included.
    pub async fn count(&mut self) -> usize {
        let own = Subject::queue_node(&self.link.node).to_string();
        if let Err(error) = self.link.client.publish(own, bytes::Bytes::new()).await {
            tracing::debug!(%error, "the other nodes do not hear of this one");
        }
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            match Subject::queue_node_of(&message.subject) {
                Some(node) if message.payload == GONE => drop(self.seen.remove(node)),
                Some(node) => drop(self.seen.insert(node.to_owned(), Instant::now())),
                None => {}
            }
        }
        self.seen.insert(self.link.node.to_string(), Instant::now());
        let for_so_long = self.for_so_long;
        self.seen.retain(|_, at| at.elapsed() < for_so_long);
        self.seen.len()
    }

    /// Says that this node takes no more.
    pub async fn leave(&self) {
        let own = Subject::queue_node(&self.link.node).to_string();
        // Those who do not hear it find out by the silence.
        let _ = self.link.client.publish(own, GONE.into()).await;
    }
}

/// What a node says that leaves.
const GONE: &str = "gone";
