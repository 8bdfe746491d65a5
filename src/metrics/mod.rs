//! Every metric's name, help and labels, in this module and nowhere else. Called from everywhere that counts, and by
//! `GET /metrics`.
//!
//! The node's `Metrics` is made before anything else and handed to whatever counts, which counts where it happens.
//! Each field is a plain atomic: `metrics.acks.inc()`. Labelled ones take a value of a closed set:
//! `metrics.delivered.of(DeliveryPath::Bus).inc()`. Close reasons and error codes come from the protocol's two
//! tables as `&'static str`, so they are a closed set too: [`Metrics::closed`], [`Metrics::error`]. Only what a
//! store's driver counts by itself is read at the scrape: [`Metrics::show_driver`]; and what the kernel counts about
//! the process, `process_*`.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};

mod driver;
mod labels;
mod process;
pub mod timings;

use driver::DriverCollector;
pub use driver::{DriverCounts, StoreDriver};
pub use labels::{
    By, CounterBy, DeliveryPath, GaugeBy, HookOutcome, Label, PostOutcome, Queued, ServiceOutcome, StoreOp,
};
use process::ProcessCollector;
use timings::Timings;

use crate::{
    model::Millis,
    overload::{Class, Tally},
    protocol::{ErrorCode, Op, event::EventKind},
    session::Cause,
};

/// The content type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From half a millisecond (a single fsync on a good disk) to four seconds (beyond that the store has given up).
const APPEND_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0];

/// A label whose value is written in the source: what bounds the series of [`Metrics::closed`] and
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

/// What a node counts. One per node, shared by its parts; two nodes in one process have one each.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    driver: DriverCollector,
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
    /// Connections that found no room: only the probes were answered on them.
    pub connections_crowded: Counter,
    /// Frames from clients.
    pub frames_in: CounterBy<Op>,
    /// Frames from clients that could not be read.
    pub bad_frames: Counter,
    /// Asks that came to their end, through whatever door.
    pub ops: CounterBy<Op>,

    /// Messages that got a new place in a log.
    pub appended: Counter,
    /// Sends whose cid was already stored.
    pub append_retries: Counter,
    /// From a message's arrival at the appender to its answer.
    pub append_seconds: Histogram,
    /// The same, for what operators are shown of the last seconds.
    pub append_times: Timings,
    /// From the moment that a node took a message until it was handed to a socket, of those that came live.
    pub delivery_times: Timings,
    /// Calls of the store that failed.
    pub store_errors: CounterBy<StoreOp>,

    /// Slots whose home this node is now.
    pub slots_held: Gauge,
    /// Slots that this node took because somebody waited for their home or it was gone.
    pub takeovers: Counter,
    /// Slots that this node handed over to another one.
    pub slots_handed_over: Counter,
    /// Silent homes from which this node took the right to write.
    pub homes_fenced: Counter,
    /// Times that the right to write was taken from this node.
    pub incarnations_lost: Counter,
    /// Requests to append that went to homes on other nodes.
    pub appends_routed: Counter,
    /// Those that a home answered.
    pub appends_answered_elsewhere: Counter,
    /// Searches for a conversation's home that found none and could make none.
    pub homes_not_found: Counter,
    /// Work for the store that waits now.
    pub work_waiting: GaugeBy<Class>,
    /// Work for the store that was started.
    pub work_granted: CounterBy<Class>,
    /// Work for the store that was refused: no room in its line, or too long in it.
    pub work_refused: CounterBy<Class>,
    /// What the work that ended has cost, in rows.
    pub work_cost: CounterBy<Class>,

    /// Messages handed to sockets.
    pub delivered: CounterBy<DeliveryPath>,
    /// Pages read from the store for sessions that were behind.
    pub fills: Counter,
    /// Rows in those pages.
    pub fill_rows: Counter,
    /// Times that a session was told that its backlog was cut.
    pub truncated: Counter,
    /// Times that a device was away for too long to be handed everything.
    pub backlogs_cut: Counter,
    /// Bodies left out because they cannot be written in a client's encoding.
    pub unwritable_bodies: Counter,
    /// Conversations of this node's sessions that are behind now.
    pub behind_conversations: Gauge,
    /// Acknowledgements taken.
    pub acks: Counter,
    /// Cursors written: fewer than acks, because they are coalesced.
    pub cursor_writes: Counter,

    /// Comparisons of a session's heads and cursors.
    pub reconciles: CounterBy<Cause>,
    /// Those that read one row, because the stamps said that nothing had changed.
    pub reconciles_skipped: CounterBy<Cause>,
    /// Rows read by those comparisons.
    pub reconcile_rows: Counter,
    /// Conversations found behind that no notice had told of: what NATS lost.
    pub gaps_found: CounterBy<Cause>,

    /// Clusters of NATS servers, one for each of `nats.cells`.
    pub nats_cells: Gauge,
    /// To how many of them there is a connection now.
    pub nats_connected: Gauge,
    /// Connections to NATS after the first.
    pub nats_reconnects: Counter,
    /// Messages handed to the NATS connection.
    pub nats_published: Counter,
    /// Messages received from NATS.
    pub nats_received: Counter,
    /// Messages not published: no connection, the outgoing queue full, or refused by the NATS client.
    pub nats_dropped: Counter,
    /// Messages not published of which not even the place was remembered, to be told when the connection moves again.
    pub notices_forgotten: Counter,
    /// Published messages to which the server answered "no responders": no other node had interest.
    pub nats_no_responders: Counter,
    /// Times the NATS client dropped messages because a subscription's queue was full.
    pub nats_slow_consumers: Counter,
    /// Errors reported by the NATS server or client, refused permissions among them.
    pub nats_errors: Counter,
    /// Fence round trips that were answered.
    pub nats_fences: Counter,
    /// Bytes queued for the NATS connection now. The bus checks its limit against this very number.
    pub nats_queued_bytes: Gauge,
    /// NATS subscriptions held now, two or three of the bus's own among them.
    pub subscriptions: Gauge,

    /// Users that sessions here watch now.
    pub watched_users: Gauge,
    /// Times that other nodes were told of a user's first session here, or of the end of the last.
    pub presence_published: Counter,
    /// Times that they were not, because nobody watches the user.
    pub presence_unpublished: Counter,
    /// Times that other nodes were asked whether a user is there.
    pub presence_probes: Counter,
    /// Those that nobody answered in time: the user may be there or not.
    pub presence_probes_failed: Counter,
    /// Times that a session was told of a user who came or went.
    pub presence_told: Counter,

    /// Messages reported to push services because their recipient had no session.
    pub offline_events: Counter,
    /// Events published for services.
    pub events: CounterBy<EventKind>,
    /// Events that were not published: no connection to NATS, or it takes nothing more.
    pub events_lost: CounterBy<EventKind>,
    /// Posts to webhooks.
    pub webhook_posts: CounterBy<PostOutcome>,
    /// Events that wait to be posted, or are being posted.
    pub webhooks_waiting: Gauge,
    /// Events that were not posted: too many waited, the target refused them, or they got too old.
    pub webhooks_dropped: Counter,
    /// Targets that are left alone for a while because they fail.
    pub webhooks_paused: Gauge,
    /// Messages that a service was asked about before they were stored.
    pub hook_answers: CounterBy<HookOutcome>,
    /// Requests of services over NATS.
    pub service_requests: CounterBy<ServiceOutcome>,
    /// What became of messages of the durable way in.
    pub queue_messages: CounterBy<Queued>,
    /// Parts of the queue whose turn this node has now.
    pub queue_parts: Gauge,
    /// 1 while this node is to take from the queue and cannot: no JetStream, no stream, no permission.
    pub queue_away: Gauge,
}

impl Metrics {
    /// Makes and registers them all. `node` is the node's name, for `natter_info`.
    pub fn new(node: &str) -> Arc<Self> {
        let mut registry = Registry::default();
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node.to_owned())]);
        // The library adds `_info`, and the prefix with an underscore: only outside the prefix is it `natter_info`.
        registry.register("natter", "The version that runs and the name of its node", info);
        // The names that every Prometheus client uses, so outside the prefix as well.
        registry.register_collector(Box::new(ProcessCollector));
        let metrics = Self::register(&mut Maker(registry.sub_registry_with_prefix("natter")));
        Arc::new(Self { registry, ..metrics })
    }

    #[rustfmt::skip] // One line per metric reads as the table it is.
    fn register(m: &mut Maker<'_>) -> Self {
        Self {
            registry: Registry::default(),
            driver: m.driver(),
            sessions: m.plain("sessions", "Sessions past welcome now"),
            users: m.plain("users", "Users with at least one session now"),
            sessions_opened: m.plain("sessions_opened", "Sessions that got their welcome"),
            sessions_closed: m.plain("sessions_closed", "Sessions and sockets that ended, by close reason"),
            http_upgrades: m.plain("http_upgrades", "HTTP requests that became WebSockets"),
            connections_crowded: m.plain("connections_crowded", "Connections that found no room: only the probes were answered on them"),
            frames_in: m.plain("frames_in", "Frames from clients, by op"),
            bad_frames: m.plain("bad_frames", "Frames from clients that could not be read"),
            ops: m.plain("ops", "Requests that came to their end, through whatever door, by op"),
            refusals: m.plain("refusals", "Requests that were refused, through whatever door, by op and code"),
            errors: m.plain("errors", "Error frames sent to clients, by code"),
            appended: m.plain("appended", "Messages that got a new place in a log"),
            append_retries: m.plain("append_retries", "Sends whose cid was already stored"),
            append_seconds: m.made("append_seconds", "From a message's arrival at the appender to its answer", Histogram::new(APPEND_BUCKETS)),
            append_times: Timings::default(),
            delivery_times: Timings::default(),
            store_errors: m.plain("store_errors", "This node's calls of the store that failed, by operation"),
            slots_held: m.plain("slots_held", "Slots whose home this node is now"),
            takeovers: m.plain("takeovers", "Slots that this node took because somebody waited for their home or it was gone"),
            slots_handed_over: m.plain("slots_handed_over", "Slots that this node handed over to another one"),
            homes_fenced: m.plain("homes_fenced", "Silent homes from which this node took the right to write"),
            incarnations_lost: m.plain("incarnations_lost", "Times that the right to write was taken from this node"),
            appends_routed: m.plain("appends_routed", "Requests to append that went to homes on other nodes"),
            appends_answered_elsewhere: m.plain("appends_answered_elsewhere", "Requests to append that homes on other nodes answered"),
            homes_not_found: m.plain("homes_not_found", "Searches for a conversation's home that found none and could make none"),
            work_waiting: m.plain("work_waiting", "Work for the store that waits for its turn now, by class"),
            work_granted: m.plain("work_granted", "Work for the store that was started, by class"),
            work_refused: m.plain("work_refused", "Work for the store that was refused, because its line was full or it waited for too long, by class"),
            work_cost: m.plain("work_cost", "What the work for the store that ended has cost, in rows, by class"),
            delivered: m.plain("delivered", "Messages handed to sockets, by the way they came"),
            fills: m.plain("fills", "Pages read from the store for sessions that were behind"),
            fill_rows: m.plain("fill_rows", "Rows in the pages of fills"),
            truncated: m.plain("truncated", "Times that a session was told that its backlog was cut: rows are missing from a log, or cannot be written"),
            backlogs_cut: m.plain("backlogs_cut", "Times that a device was further behind in a conversation than limits.backlog_per_conversation, and got the newest part"),
            unwritable_bodies: m.plain("unwritable_bodies", "Bodies left out because they cannot be written in a client's encoding"),
            behind_conversations: m.plain("behind_conversations", "Conversations of this node's sessions that are behind now"),
            acks: m.plain("acks", "Acknowledgements taken"),
            cursor_writes: m.plain("cursor_writes", "Cursors written to the store"),
            reconciles: m.plain("reconciles", "Comparisons of a session's heads and cursors, by cause"),
            reconciles_skipped: m.plain("reconciles_skipped", "Those of the comparisons that read one row and no heads, because the stamps said that nothing had changed, by cause"),
            reconcile_rows: m.plain("reconcile_rows", "Rows read by those comparisons"),
            gaps_found: m.plain("gaps_found", "Conversations that only a comparison found to be behind, by cause"),
            nats_cells: m.plain("nats_cells", "Clusters of NATS servers: 1, or one for each of nats.cells"),
            nats_connected: m.plain("nats_connected", "Connections to NATS now: one for each of the clusters"),
            nats_reconnects: m.plain("nats_reconnects", "Connections to NATS after the first"),
            nats_published: m.plain("nats_published", "Messages published to NATS"),
            nats_received: m.plain("nats_received", "Messages received from NATS"),
            nats_dropped: m.plain("nats_dropped", "Messages not published: no connection, the outgoing queue full, or refused by the client"),
            notices_forgotten: m.plain("notices_forgotten", "Messages not published and not remembered to be told later: other nodes find them at their sweep"),
            nats_no_responders: m.plain("nats_no_responders", "Published messages in which no other node had interest"),
            nats_slow_consumers: m.plain("nats_slow_consumers", "Times that incoming messages were dropped because a subscription's queue was full"),
            nats_errors: m.plain("nats_errors", "Errors reported by the NATS server or client"),
            nats_fences: m.plain("nats_fences", "Fence round trips to NATS that were answered"),
            nats_queued_bytes: m.plain("nats_queued_bytes", "Bytes queued for the NATS connection now"),
            subscriptions: m.plain("subscriptions", "NATS subscriptions held now"),
            watched_users: m.plain("watched_users", "Users that sessions here watch now"),
            presence_published: m.plain("presence_published", "Times that other nodes were told of a user's first session here, or of the end of the last"),
            presence_unpublished: m.plain("presence_unpublished", "Times that they were not told, because nobody watches the user"),
            presence_probes: m.plain("presence_probes", "Times that other nodes were asked whether a user is there"),
            presence_probes_failed: m.plain("presence_probes_failed", "Those that nobody answered in time, so that the user may be there or not"),
            presence_told: m.plain("presence_told", "Times that a session was told of a user who came or went"),
            offline_events: m.plain("offline_events", "Messages reported to push services because their recipient had no session"),
            events: m.plain("events", "Events published for services, by kind"),
            events_lost: m.plain("events_lost", "Events that were not published because NATS took nothing, by kind"),
            webhook_posts: m.plain("webhook_posts", "Posts to webhooks, by outcome"),
            webhooks_waiting: m.plain("webhooks_waiting", "Events that wait to be posted to a webhook, or are being posted"),
            webhooks_dropped: m.plain("webhooks_dropped", "Events that were not posted: too many waited, the target refused them, or they got too old"),
            webhooks_paused: m.plain("webhooks_paused", "Targets of webhooks that are left alone for a while because they fail"),
            hook_answers: m.plain("hook_answers", "Messages that a service was asked about before they were stored, by outcome"),
            service_requests: m.plain("service_requests", "Requests of services over NATS and HTTP, by outcome"),
            queue_messages: m.plain("queue_messages", "Messages of services that came by the durable way, by what became of them"),
            queue_parts: m.plain("queue_parts", "Parts of the durable queue that this node works on now; all nodes together have 17"),
            queue_away: m.plain("queue_away", "1 while this node is to take from the durable queue and cannot"),
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
        self.append_times.record(took);
    }

    /// Records a message that came live and was handed to a socket. `taken` and `now` are of the clocks of two nodes.
    pub fn observe_delivery(&self, taken: Millis, now: Millis) {
        if taken > 0 {
            self.delivery_times.record(Duration::from_millis(now.saturating_sub(taken)));
        }
    }

    /// From now on `natter_store_requests_total` and its like show what `driver` has counted; until then they are 0.
    /// Called once, where the store is opened: a second driver is refused and logged.
    pub fn show_driver(&self, driver: Arc<dyn StoreDriver>) {
        self.driver.set(driver);
    }

    /// All of them in the OpenMetrics text format ([`CONTENT_TYPE`]), which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            // Writing to a String cannot fail; one metric that cannot be encoded must not cost the others.
            Err(fmt::Error) => out,
        }
    }
}

impl Tally for Metrics {
    fn waits(&self, class: Class) {
        self.work_waiting.of(class).inc();
    }

    fn waits_no_more(&self, class: Class) {
        self.work_waiting.of(class).dec();
    }

    fn granted(&self, class: Class) {
        self.work_granted.of(class).inc();
    }

    fn refused(&self, class: Class) {
        self.work_refused.of(class).inc();
    }

    fn cost(&self, class: Class, cost: u64) {
        self.work_cost.of(class).inc_by(cost);
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

    fn driver(&mut self) -> DriverCollector {
        let driver = DriverCollector::default();
        self.0.register_collector(Box::new(driver.clone()));
        driver
    }
}

#[cfg(test)]
mod tests;
