//! What the bus counts. The node shows these as metrics; tests ask them instead of guessing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one [`super::NatsBus`]; all grow for ever but `subscriptions` and `queued_bytes`.
#[derive(Debug, Default)]
pub struct BusStats {
    /// Notices handed to the connection.
    pub published: AtomicU64,
    /// Notices that arrived on a subscription.
    pub received: AtomicU64,
    /// Notices not sent: no connection, the way out full, or refused by the client library.
    pub dropped: AtomicU64,
    /// Publishes that nobody else had interest in (answered with status 503).
    pub unheard: AtomicU64,
    /// Times the connection was made anew after the first.
    pub reconnects: AtomicU64,
    /// Times the client library dropped a notice because a subscription's queue was full.
    pub slow_consumers: AtomicU64,
    /// Errors that the server or the library reported, refused permissions among them.
    pub errors: AtomicU64,
    /// Fence round trips that were answered.
    pub fences: AtomicU64,
    /// Bytes handed to the connection that it has not written yet.
    pub queued_bytes: AtomicU64,
    /// Subscriptions held now, two of the bus's own among them.
    pub subscriptions: AtomicU64,
}

/// Adds one. Relaxed, because nothing is ordered by a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
