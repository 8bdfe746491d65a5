//! The way out: a publish that never waits. Called by [`super::NatsBus`].
//!
//! The library queues commands, and its `publish` waits when the queue is full; so its future is polled once and
//! dropped if it is not ready. The library's queue counts messages, not bytes. Bytes are counted here, by payloads
//! that subtract themselves once the library has written and dropped them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::link::Link;
use crate::{metrics::Metrics, subject::Subject};

/// Bytes that may be queued. The server cuts off a connection that is 64 MiB behind, so more would not help.
const MAX_QUEUED: i64 = 64 << 20;

/// What a queued message costs besides its payload: the command and its subjects.
const COMMAND_COST: i64 = 160;

pub(super) struct Outbox {
    link: Arc<Link>,
    metrics: Arc<Metrics>,
}

/// A payload that subtracts itself from the queued bytes when it is dropped.
struct Counted {
    payload: Bytes,
    cost: i64,
    metrics: Arc<Metrics>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.nats_queued_bytes.dec_by(self.cost);
    }
}

impl Outbox {
    pub(super) fn new(link: Arc<Link>, metrics: Arc<Metrics>) -> Self {
        Self { link, metrics }
    }

    /// The generation of the connection; `None` without one.
    pub(super) fn generation(&self) -> Option<u64> {
        self.link.generation()
    }

    /// Queues a message, or drops and counts it: false.
    pub(super) fn publish(&self, subject: &Subject, reply: Option<&Subject>, payload: Bytes) -> bool {
        if self.link.generation().is_none() {
            // Not an overflow: the reconnect that follows makes everyone compare heads anyway.
            self.metrics.nats_dropped.inc();
            return false;
        }
        let Some(payload) = self.admit(payload) else { return self.overflow() };
        let client = self.link.client();
        let subject = async_nats::Subject::from(subject.as_str());
        // Unconstrained: a task that has used up its budget would see "not ready" from an empty queue.
        let sent = match reply {
            None => unconstrained(client.publish(subject, payload)).now_or_never(),
            Some(reply) => {
                let reply = async_nats::Subject::from(reply.as_str());
                unconstrained(client.publish_with_reply(subject, reply, payload)).now_or_never()
            }
        };
        match sent {
            Some(Ok(())) => {
                self.metrics.nats_published.inc();
                true
            }
            Some(Err(error)) => {
                self.metrics.nats_dropped.inc();
                tracing::debug!(%error, "the NATS client refused a message");
                false
            }
            None => self.overflow(),
        }
    }

    fn admit(&self, payload: Bytes) -> Option<Bytes> {
        let cost = i64::try_from(payload.len()).unwrap_or(MAX_QUEUED).saturating_add(COMMAND_COST);
        let before = self.metrics.nats_queued_bytes.inc_by(cost);
        let counted = Counted { payload, cost, metrics: Arc::clone(&self.metrics) };
        (before + cost <= MAX_QUEUED).then(|| Bytes::from_owner(counted))
    }

    fn overflow(&self) -> bool {
        self.metrics.nats_dropped.inc();
        self.link.signals().overflowed();
        false
    }
}
