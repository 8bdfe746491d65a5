//! The way out: a publish that never waits. Called by [`super::NatsBus`].
//!
//! The library queues commands and its `publish` waits when the queue is full, so its future is polled once and
//! dropped if it is not ready. The queue counts messages, not bytes: bytes are counted here, by payloads that
//! subtract themselves when the library has written and dropped them.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::{
    link::Link,
    stats::{BusStats, count},
};
use crate::subject::Subject;

/// Bytes that may wait unwritten. The server cuts a connection that is 64 MiB behind, so more would not help.
const MAX_QUEUED: u64 = 64 << 20;

/// What a queued publish costs besides its payload: the command and its subjects.
const COMMAND_COST: u64 = 160;

pub(super) struct Outbox {
    link: Arc<Link>,
    stats: Arc<BusStats>,
}

/// A payload that says when it is gone.
struct Counted {
    payload: Bytes,
    cost: u64,
    stats: Arc<BusStats>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.stats.queued_bytes.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

impl Outbox {
    pub(super) fn new(link: Arc<Link>, stats: Arc<BusStats>) -> Self {
        Self { link, stats }
    }

    /// Queues a notice or drops and counts it.
    pub(super) fn publish(&self, subject: &Subject, reply: Option<&Subject>, payload: Bytes) {
        if self.link.generation().is_none() {
            // Not an overflow: the reconnect that follows has everyone compare heads anyway.
            return count(&self.stats.dropped);
        }
        let Some(payload) = self.admit(payload) else { return self.overflow() };
        let client = self.link.client();
        let subject = async_nats::Subject::from(subject.as_str());
        // Unconstrained, because a task that has used up its turn would see "not ready" from an empty queue.
        let sent = match reply {
            None => unconstrained(client.publish(subject, payload)).now_or_never(),
            Some(reply) => {
                let reply = async_nats::Subject::from(reply.as_str());
                unconstrained(client.publish_with_reply(subject, reply, payload)).now_or_never()
            }
        };
        match sent {
            Some(Ok(())) => count(&self.stats.published),
            Some(Err(error)) => {
                count(&self.stats.dropped);
                tracing::debug!(%error, "a notice was refused by the NATS client");
            }
            None => self.overflow(),
        }
    }

    fn admit(&self, payload: Bytes) -> Option<Bytes> {
        let cost = payload.len() as u64 + COMMAND_COST;
        let before = self.stats.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        let counted = Counted { payload, cost, stats: Arc::clone(&self.stats) };
        (before + cost <= MAX_QUEUED).then(|| Bytes::from_owner(counted))
    }

    fn overflow(&self) {
        count(&self.stats.dropped);
        self.link.signals().overflowed();
    }
}
