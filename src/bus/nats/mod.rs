//! The bus on async-nats. Built by the node; everything else sees only the trait.
//!
//! `connect` sets up the client library, `link` knows whether the connection is up, `publish` is the way out,
//! `subscribe` the way in, `fence` proves that the server has processed what was sent.
//! `probe` examines the servers for `natter doctor`; `operator` is the connection of the commands that ask nodes.

pub(super) mod connect;
mod fence;
mod link;
pub mod operator;
pub mod probe;
mod publish;
mod subscribe;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::broadcast, task::AbortHandle, time::timeout};

use self::{
    fence::Fence,
    link::{Link, Signals},
    publish::Outbox,
    subscribe::{Reader, hand_on, subscribe},
};
pub use super::options::{NatsAuth, NatsOptions, NatsTls};
use super::{
    Bus, BusError, BusEvent, NO_RESPONDERS, OnMessage, OnNoResponders, RequestError, Subscription, replies,
    request::{Requests, Way},
};
use crate::{metrics::Metrics, subject::Subject};

/// How often a new connection is looked at while it comes about.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long [`Bus::close`] waits for what is queued.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// A node's connection to NATS.
pub struct NatsBus {
    node: CompactString,
    link: Arc<Link>,
    outbox: Outbox,
    fence: Arc<Fence>,
    requests: Arc<Requests>,
    no_responders: Arc<OnceLock<OnNoResponders>>,
    metrics: Arc<Metrics>,
    runtime: Handle,
    tasks: [AbortHandle; 3],
    _own: [Reader; 3],
}

impl NatsBus {
    /// Connects, and waits for the connection as long as one attempt may take. Without a server the bus starts all the
    /// same and keeps trying; [`Bus::connected`] says how it is. Counts into `metrics`, which must be this node's own.
    ///
    /// # Errors
    /// For what waiting does not help: a bad URL, a bad node name, an unreadable credentials file, servers that refuse the
    /// account.
    pub async fn connect(options: NatsOptions, metrics: Arc<Metrics>) -> Result<Arc<Self>, BusError> {
        let signals = Arc::new(Signals::new(Arc::clone(&metrics)));
        let client = connect::connect(&options, Arc::clone(&signals)).await?;
        let link = Link::new(client, signals);
        let mut events = link.events();
        let bus = Arc::new(Self::start(&options.node, link, metrics));
        let connected = async {
            // A refusal is no event: whoever listens for those could do nothing about it.
            while bus.connected().is_none() && bus.refusal().is_none() {
                let _ = timeout(LOOK_AGAIN, events.recv()).await;
            }
        };
        let answered = timeout(options.connect_timeout, connected).await;
        if let Some(refusal) = bus.refusal() {
            return Err(BusError::Other(refusal));
        }
        if answered.is_err() {
            tracing::warn!(servers = options.urls.len(), "NATS does not answer yet; starting without it");
        }
        Ok(bus)
    }

    fn start(node: &str, link: Arc<Link>, metrics: Arc<Metrics>) -> Self {
        let runtime = Handle::current();
        let (fence, requests) = (Fence::new(node), Requests::new(node));
        let no_responders = Arc::new(OnceLock::new());
        let means = (link.client(), &runtime, &metrics);
        let (fences, answers) = (Arc::clone(&fence), Arc::clone(&requests));
        let statuses = Subject::node(node, &format_compact!("{NO_RESPONDERS}.>"));
        let own = [
            subscribe(means, &fence.inbox(), None, move |message| fences.on_answer(&message)),
            subscribe(means, &requests.inbox(), None, move |message| {
                let status = message.status == Some(StatusCode::NO_RESPONDERS);
                answers.on_answer(&message.subject, status, &message.payload);
            }),
            subscribe(means, &statuses, None, on_status(node, &no_responders, &metrics)),
        ];
        let tasks = [
            runtime.spawn(link::watch(Arc::downgrade(&link))).abort_handle(),
            runtime.spawn(link::end_requests(Arc::downgrade(&link), requests.clone())).abort_handle(),
            runtime.spawn(Arc::clone(&fence).run(Arc::clone(&link), Arc::clone(&metrics))).abort_handle(),
        ];
        let outbox = Outbox::new(Arc::clone(&link), Arc::clone(&metrics));
        Self { node: node.into(), link, outbox, fence, requests, no_responders, metrics, runtime, tasks, _own: own }
    }

    /// Where this bus counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn open(&self, subject: &Subject, group: Option<&str>, on_message: OnMessage) -> Subscription {
        let means = (self.link.client(), &self.runtime, &self.metrics);
        Subscription::new(subscribe(means, subject, group, hand_on(&self.metrics, on_message)))
    }
}

/// Takes the server's "no responders" and calls back with the tag. Anything else on that subject is not from the
/// server and is ignored.
fn on_status(
    node: &str,
    call: &Arc<OnceLock<OnNoResponders>>,
    metrics: &Arc<Metrics>,
) -> impl Fn(Message) + Send + use<> {
    let prefix = Subject::node(node, &format_compact!("{NO_RESPONDERS}."));
    let (call, metrics) = (Arc::clone(call), Arc::clone(metrics));
    move |message| {
        if message.status != Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        metrics.nats_no_responders.inc();
        if let (Some(call), Some(tag)) = (call.get(), message.subject.strip_prefix(prefix.as_str())) {
            call(tag);
        }
    }
}

impl Way for Outbox {
    fn generation(&self) -> Option<u64> {
        Outbox::generation(self)
    }

    fn publish(&self, subject: &Subject, reply: &Subject, payload: Bytes) -> bool {
        Outbox::publish(self, subject, Some(reply), payload)
    }
}

impl Bus for NatsBus {
    fn publish(&self, subject: &Subject, payload: Bytes) -> bool {
        self.outbox.publish(subject, None, payload)
    }

    fn publish_tagged(&self, subject: &Subject, payload: Bytes, tag: &str) -> bool {
        let reply = Subject::node(&self.node, &format_compact!("{NO_RESPONDERS}.{tag}"));
        self.outbox.publish(subject, Some(&reply), payload)
    }

    fn on_no_responders(&self, call: OnNoResponders) {
        if self.no_responders.set(call).is_err() {
            tracing::error!("on_no_responders was called twice; the first callback stays");
        }
    }

    fn reply(&self, service: &str, to: &str, payload: Bytes) {
        if let Some(subject) = replies::to_service(&self.metrics, service, to) {
            self.outbox.publish(&subject, None, payload);
        }
    }

    fn request<'a>(
        &'a self,
        subject: &'a Subject,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        self.requests.ask(&self.outbox, subject, payload, patience).boxed()
    }

    fn answer(&self, to: &str, payload: Bytes) {
        if let Some(subject) = replies::to_node(&self.metrics, to) {
            self.outbox.publish(&subject, None, payload);
        }
    }

    fn subscribe(&self, subject: &Subject, on_message: OnMessage) -> Subscription {
        self.open(subject, None, on_message)
    }

    fn queue_subscribe(&self, subject: &Subject, group: &str, on_message: OnMessage) -> Subscription {
        self.open(subject, Some(group), on_message)
    }

    fn fence(&self) -> BoxFuture<'_, Result<u64, BusError>> {
        self.fence.wait().boxed()
    }

    fn connected(&self) -> Option<u64> {
        self.link.generation()
    }

    fn refusal(&self) -> Option<Arc<str>> {
        self.link.refusal()
    }

    fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.link.events()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // A fence and not a flush: only the server's answer proves that it has taken what was queued.
            if let Err(error) = self.fence.wait().await {
                tracing::debug!(%error, "closing NATS without knowing whether everything was sent");
            }
            self.link.close();
            // Without a connection the drain would only wait in the queue, so it gets no longer than this.
            let _ = timeout(CLOSE_PATIENCE, self.link.client().drain()).await;
        }
        .boxed()
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
