//! What services are told as it happens: on `natter.event.<kind>`, on the feeds of services, and as posts to webhooks. A
//! kind that nobody asked for costs nothing, and nobody is waited for: what cannot be published is counted and gone.
//!
//! Called by `routing`, `ops`, `presence` and the gateway, each for what happens there; so of all nodes the one tells where
//! it happens.

mod webhooks;

use std::sync::Arc;

pub(crate) use self::webhooks::ENDING;
use self::webhooks::Webhooks;
use crate::{
    bus::Bus,
    config,
    metrics::Metrics,
    model::now_millis,
    protocol::{
        Encoding,
        event::{Event, EventKind, What},
    },
    subject::Subject,
};

/// A webhook that can never work.
#[derive(Debug, thiserror::Error)]
#[error("webhooks.{name}: {reason}")]
pub struct BadWebhook {
    /// Which one.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What it is built from.
pub struct Parts<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Where services listen.
    pub bus: Arc<dyn Bus>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Which services have a feed.
    pub services: config::Services,
    /// Which kinds are published.
    pub settings: &'a config::Events,
    /// Where events are posted.
    pub webhooks: &'a config::Webhooks,
}

/// The events of one node. Cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    node: String,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    services: config::Services,
    published: Kinds,
    webhooks: Webhooks,
}

/// Some of the kinds, a bit for each.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds(u32);

impl Kinds {
    fn of(kinds: &[EventKind]) -> Self {
        Self(kinds.iter().fold(0, |bits, kind| bits | 1 << (*kind as u32)))
    }

    fn has(self, kind: EventKind) -> bool {
        self.0 >> (kind as u32) & 1 == 1
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({:?}, {} webhooks)", self.0.published, self.0.webhooks.count())
    }
}

impl Events {
    /// Starts the posts to webhooks; they end with the last clone.
    ///
    /// # Errors
    /// A webhook that can never work.
    pub fn new(parts: Parts<'_>) -> Result<Self, BadWebhook> {
        let Parts { node, bus, metrics, services, settings, webhooks } = parts;
        let webhooks = Webhooks::start(webhooks, &metrics)?;
        let (node, published) = (node.to_owned(), Kinds::of(&settings.kinds));
        Ok(Self(Arc::new(Inner { node, bus, metrics, services, published, webhooks })))
    }

    /// Whether anybody wants events of a kind: whoever has to look for something before it can tell asks this first.
    pub fn wants(&self, kind: EventKind) -> bool {
        let has_feeds = kind == EventKind::Message && self.0.services.has_feeds();
        self.0.published.has(kind) || has_feeds || self.0.webhooks.wants(kind)
    }

    /// Tells of something, if anybody wants it: at most once, and without waiting for anybody.
    pub fn tell(&self, kind: EventKind, what: impl FnOnce() -> What) {
        if !self.wants(kind) {
            return;
        }
        let inner = &self.0;
        let event = Event::new(&inner.node, now_millis(), what());
        let payload = Encoding::Json.encode(&event);
        if inner.published.has(kind) {
            inner.publish(kind, &Subject::event(kind.word()), payload.clone());
        }
        if kind == EventKind::Message && inner.services.has_feeds() {
            for service in inner.services.feeds() {
                inner.publish(kind, &Subject::feed(&service), payload.clone());
            }
        }
        inner.webhooks.post(kind, &event.id, &payload);
    }

    /// The node ends: what waits is posted, as long as that goes quickly.
    pub async fn finish(&self) {
        self.0.webhooks.finish().await;
    }
}

impl Inner {
    fn publish(&self, kind: EventKind, subject: &Subject, payload: bytes::Bytes) {
        let told = self.bus.publish(subject, payload);
        let counter = if told { &self.metrics.events } else { &self.metrics.events_lost };
        counter.of(kind).inc();
    }
}
