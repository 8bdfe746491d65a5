//! Every metric's name and labels, in this module and nowhere else. Called from everywhere that counts, and by
//! `GET /metrics`.
//!
//! Each field is a plain atomic: `metrics.acks.inc()`. Labelled ones take a value of a closed set:
//! `metrics.delivered.of(DeliveryPath::Bus).inc()`. Close reasons and error codes come from the protocol's two
//! tables as `&'static str`, so they are a closed set too: [`Metrics::closed`], [`Metrics::error`].

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};

mod labels;

pub use labels::{CounterBy, DeliveryPath, Label, ServiceOutcome, StoreOp};

use crate::{
    protocol::{ErrorCode, Op},
    session::Cause,
};

/// The content type of what [`Metrics::encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond (a lone fsync on a good disk) to four seconds (past it the store has given up).
const APPEND_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0];

/// A label whose value was written down in the source: what bounds the series of [`Metrics::closed`] and
/// [`Metrics::error`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Word {
    key: &'static str,
    value: &'static str,
}

impl EncodeLabelSet for Word {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), fmt::Error> {
        [(self.key, self.value)].encode(encoder)
    }
}

/// What a node counts. One per node, shared; two nodes in one process have one each.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions_closed: Family<Word, Counter>,
    errors: Family<Word, Counter>,
    refusals: Family<[(&'static str, &'static str); 2], Counter>,

    /// Sessions past `welcome` now.
    pub sessions: Gauge,
    /// Users with at least one session now.
    pub users: Gauge,
    /// Sessions that got their `welcome`.
    pub sessions_opened: Counter,
    /// HTTP requests that became WebSockets.
    pub http_upgrades: Counter,
    /// Frames from clients.
    pub frames_in: CounterBy<Op>,
    /// Frames from clients that could not be read.
    pub bad_frames: Counter,
    /// Asks that came to their end, through whatever door.
    pub ops: CounterBy<Op>,

    /// Messages that got a new place in a log.
    pub appended: Counter,
    /// Sends whose cid was stored already.
    pub append_retries: Counter,
    /// From a message's arrival at the appender to its answer.
    pub append_seconds: Histogram,
    /// Calls of the store that failed.
    pub store_errors: CounterBy<StoreOp>,

    /// Messages handed to sockets.
    pub delivered: CounterBy<DeliveryPath>,
    /// Pages read from the store for sessions that were behind.
    pub fills: Counter,
    /// Rows in those pages.
    pub fill_rows: Counter,
    /// Conversations of sessions here that are behind now.
    pub behind_conversations: Gauge,
    /// Acknowledgements taken.
    pub acks: Counter,
    /// Cursors written: fewer than acks, they are coalesced.
    pub cursor_writes: Counter,

    /// Times that a session's heads and cursors were compared.
    pub reconciles: CounterBy<Cause>,
    /// Rows that those comparisons read.
    pub reconcile_rows: Counter,
    /// Conversations found behind that nothing had told of: what NATS lost.
    pub gaps_found: CounterBy<Cause>,

    /// Requests that the driver of the store sent. This and the five below stay 0 on the embedded store.
    pub store_requests: Counter,
    /// Requests of the driver that failed in the end.
    pub store_request_errors: Counter,
    /// Requests that the driver sent again.
    pub store_retries: Counter,
    /// Requests that got no answer in time.
    pub store_timeouts: Counter,
    /// Connections that the driver holds now.
    pub store_connections: Gauge,
    /// 99th percentile of the driver's latency over the recent past, in milliseconds.
    pub store_latency_ms: Gauge,

    /// 1 while connected to NATS.
    pub nats_connected: Gauge,
    /// Connections to NATS after the first.
    pub nats_reconnects: Counter,
    /// Messages published to NATS.
    pub nats_published: Counter,
    /// Messages received from NATS.
    pub nats_received: Counter,
    /// Messages not published because there was no connection or the way out was full.
    pub nats_dropped: Counter,
    /// Signals that messages were dropped on the way in.
    pub nats_slow_consumers: Counter,
    /// Subscriptions held now.
    pub subscriptions: Gauge,

    /// Messages told to push services because nobody held their recipient.
    pub offline_events: Counter,
    /// Requests of services over NATS.
    pub service_requests: CounterBy<ServiceOutcome>,
}

impl Metrics {
    /// Makes and registers them all. `node` is the node's name, for `natter_info`.
    pub fn new(node: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node.to_owned())]);
        // The library adds `_info`, and the prefix with an underscore: only outside the prefix is it `natter_info`.
        registry.register("natter", "The version that runs and the name of its node", info);
        let metrics = Self::register(&mut Maker(registry.sub_registry_with_prefix("natter")));
        Arc::new(Self { registry, ..metrics })
    }

    #[rustfmt::skip] // One line per metric reads as the table it is.
    fn register(m: &mut Maker<'_>) -> Self {
        Self {
            registry: Registry::default(),
            sessions: m.plain("sessions", "Sessions past welcome now"),
            users: m.plain("users", "Users with at least one session now"),
            sessions_opened: m.plain("sessions_opened", "Sessions that got their welcome"),
            sessions_closed: m.plain("sessions_closed", "Sessions and sockets that ended, by close reason"),
            http_upgrades: m.plain("http_upgrades", "HTTP requests that became WebSockets"),
            frames_in: m.plain("frames_in", "Frames from clients, by op"),
            bad_frames: m.plain("bad_frames", "Frames from clients that could not be read"),
            ops: m.plain("ops", "Requests that came to their end, through whatever door, by op"),
            refusals: m.plain("refusals", "Requests that were refused, through whatever door, by op and code"),
            errors: m.plain("errors", "Error frames sent to clients, by code"),
            appended: m.plain("appended", "Messages that got a new place in a log"),
            append_retries: m.plain("append_retries", "Sends whose cid was stored already"),
            append_seconds: m.made("append_seconds", "From a message's arrival at the appender to its answer", Histogram::new(APPEND_BUCKETS)),
            store_errors: m.plain("store_errors", "Calls of the store that failed, by operation"),
            store_requests: m.plain("store_requests", "Requests that the driver of the store sent"),
            store_request_errors: m.plain("store_request_errors", "Requests of the store's driver that failed in the end"),
            store_retries: m.plain("store_retries", "Requests that the store's driver sent again"),
            store_timeouts: m.plain("store_timeouts", "Requests of the store's driver without an answer in time"),
            store_connections: m.plain("store_connections", "Connections of the store's driver now"),
            store_latency_ms: m.plain("store_latency_ms", "99th percentile of the store driver's recent latency, in milliseconds"),
            delivered: m.plain("delivered", "Messages handed to sockets, by the way they came"),
            fills: m.plain("fills", "Pages read from the store for sessions that were behind"),
            fill_rows: m.plain("fill_rows", "Rows in the pages of fills"),
            behind_conversations: m.plain("behind_conversations", "Conversations of sessions here that are behind now"),
            acks: m.plain("acks", "Acknowledgements taken"),
            cursor_writes: m.plain("cursor_writes", "Cursors written to the store"),
            reconciles: m.plain("reconciles", "Comparisons of a session's heads and cursors, by cause"),
            reconcile_rows: m.plain("reconcile_rows", "Rows read by reconcile"),
            gaps_found: m.plain("gaps_found", "Conversations that only reconcile found to be behind, by cause"),
            nats_connected: m.plain("nats_connected", "1 while connected to NATS"),
            nats_reconnects: m.plain("nats_reconnects", "Connections to NATS after the first"),
            nats_published: m.plain("nats_published", "Messages published to NATS"),
            nats_received: m.plain("nats_received", "Messages received from NATS"),
            nats_dropped: m.plain("nats_dropped", "Messages not published for want of a connection or of room"),
            nats_slow_consumers: m.plain("nats_slow_consumers", "Signals that messages were dropped on the way in"),
            subscriptions: m.plain("subscriptions", "NATS subscriptions held now"),
            offline_events: m.plain("offline_events", "Messages told to push services because nobody held their recipient"),
            service_requests: m.plain("service_requests", "Requests of services over NATS, by outcome"),
        }
    }

    /// Counts a session or a socket that ended. `reason` is the metric label of the close table.
    pub fn closed(&self, reason: &'static str) {
        self.sessions_closed.get_or_create(&Word { key: "reason", value: reason }).inc();
    }

    /// Counts an error frame. `code` is a word of the error-code table.
    pub fn error(&self, code: &'static str) {
        self.errors.get_or_create(&Word { key: "code", value: code }).inc();
    }

    /// Counts a request that was refused.
    pub fn refused(&self, op: Op, code: ErrorCode) {
        self.refusals.get_or_create(&[("op", op.word()), ("code", code.word())]).inc();
    }

    /// Records how long an append took.
    pub fn observe_append(&self, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// All of them in the OpenMetrics text format ([`CONTENT_TYPE`]), which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            // Writing to a String cannot fail; a metric that refuses to be written must not cost the others.
            Err(fmt::Error) => out,
        }
    }
}

/// Registers each metric as it is made, so that none can be forgotten.
struct Maker<'a>(&'a mut Registry);

impl Maker<'_> {
    fn plain<M: Metric + Default + Clone>(&mut self, name: &str, help: &str) -> M {
        self.made(name, help, M::default())
    }

    fn made<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
