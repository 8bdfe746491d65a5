//! The bus on async-nats. Built by the node; everything else sees only the trait.
//!
//! `connect` sets the library up, `link` knows whether the connection stands, `publish` is the way out, `subscribe`
//! the way in, `fence` proves that the server has seen what was sent. `probe` looks at the servers for `natter doctor`.

mod connect;
mod fence;
mod link;
pub mod probe;
mod publish;
mod stats;
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

pub use self::{
    connect::{NatsAuth, NatsOptions, NatsTls},
    stats::BusStats,
};
use self::{
    fence::Fence,
    link::{Link, Signals},
    publish::Outbox,
    stats::count,
    subscribe::{Reader, hand_on, subscribe},
};
use super::{Bus, BusError, BusEvent, OnMessage, Subscription};
use crate::subject::Subject;

/// The tail of a node's subjects on which the server says that nobody heard.
const UNHEARD: &str = "unheard";

/// How long [`Bus::close`] waits for what is queued.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

type OnUnheard = Arc<dyn Fn(&str) + Send + Sync>;

/// A node's connection to NATS.
pub struct NatsBus {
    node: CompactString,
    link: Arc<Link>,
    outbox: Outbox,
    fence: Arc<Fence>,
    unheard: Arc<OnceLock<OnUnheard>>,
    stats: Arc<BusStats>,
    runtime: Handle,
    tasks: [AbortHandle; 2],
    _own: [Reader; 2],
}

impl NatsBus {
    /// Connects, and waits for the connection as long as one attempt may take. Without a server the bus starts
    /// all the same, and goes on trying: [`Bus::connected`] says how it stands.
    ///
    /// # Errors
    /// Only for options that can never work: a bad URL, a bad node name, an unreadable credentials file.
    pub async fn connect(options: NatsOptions) -> Result<Arc<Self>, BusError> {
        let stats = Arc::clone(&options.stats);
        let signals = Arc::new(Signals::new(Arc::clone(&stats)));
        let client = connect::connect(&options, Arc::clone(&signals)).await?;
        let link = Link::new(client, signals);
        let mut events = link.events();
        let bus = Arc::new(Self::start(&options.node, link, stats));
        let connected = async { while bus.connected().is_none() && events.recv().await.is_ok() {} };
        if timeout(options.connect_timeout, connected).await.is_err() {
            tracing::warn!(servers = options.urls.len(), "NATS does not answer yet: starting without it");
        }
        Ok(bus)
    }

    fn start(node: &str, link: Arc<Link>, stats: Arc<BusStats>) -> Self {
        let runtime = Handle::current();
        let fence = Fence::new(node);
        let unheard = Arc::new(OnceLock::new());
        let means = (link.client(), &runtime, &stats);
        let answers = Arc::clone(&fence);
        let own = [
            subscribe(means, &fence.inbox(), None, move |message| answers.on_answer(&message)),
            subscribe(means, &Subject::node(node, "unheard.>"), None, on_unheard(node, &unheard, &stats)),
        ];
        let tasks = [
            runtime.spawn(link::watch(Arc::downgrade(&link))).abort_handle(),
            runtime.spawn(Arc::clone(&fence).run(Arc::clone(&link), Arc::clone(&stats))).abort_handle(),
        ];
        let outbox = Outbox::new(Arc::clone(&link), Arc::clone(&stats));
        Self { node: node.into(), link, outbox, fence, unheard, stats, runtime, tasks, _own: own }
    }

    /// What this bus has counted.
    pub fn stats(&self) -> &Arc<BusStats> {
        &self.stats
    }

    fn open(&self, subject: &Subject, group: Option<&str>, on_message: OnMessage) -> Subscription {
        let means = (self.link.client(), &self.runtime, &self.stats);
        Subscription::new(subscribe(means, subject, group, hand_on(&self.stats, on_message)))
    }
}

/// Reads the server's "no responders". Anything else on that subject is not from the server and is ignored.
fn on_unheard(node: &str, call: &Arc<OnceLock<OnUnheard>>, stats: &Arc<BusStats>) -> impl Fn(Message) + Send + use<> {
    let prefix = Subject::node(node, &format_compact!("{UNHEARD}."));
    let (call, stats) = (Arc::clone(call), Arc::clone(stats));
    move |message| {
        if message.status != Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        count(&stats.unheard);
        if let (Some(call), Some(tag)) = (call.get(), message.subject.strip_prefix(prefix.as_str())) {
            call(tag);
        }
    }
}

impl Bus for NatsBus {
    fn publish(&self, subject: &Subject, payload: Bytes) {
        self.outbox.publish(subject, None, payload);
    }

    fn publish_or_tell(&self, subject: &Subject, payload: Bytes, tag: &str) {
        let reply = Subject::node(&self.node, &format_compact!("{UNHEARD}.{tag}"));
        self.outbox.publish(subject, Some(&reply), payload);
    }

    fn on_unheard(&self, call: OnUnheard) {
        if self.unheard.set(call).is_err() {
            tracing::error!("on_unheard was set twice: the first stays");
        }
    }

    fn reply(&self, to: &str, payload: Bytes) {
        match Subject::reply(to) {
            Some(subject) => self.outbox.publish(&subject, None, payload),
            None => {
                count(&self.stats.dropped);
                tracing::warn!(to, "a request named a subject for its answer that is no inbox: not answered");
            }
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

    fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.link.events()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // The fence, not a flush: only an answer says that the server has taken what was queued.
            if let Err(error) = self.fence.wait().await {
                tracing::debug!(%error, "closing NATS without knowing whether everything went out");
            }
            self.link.close();
            // Without a connection the command only waits in the queue, so it is not worth waiting for.
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
