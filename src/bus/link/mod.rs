//! The bus on a connection of its own: the NATS protocol as far as a node needs it. Built by [`super::connect`].
//!
//! `ops` and `codec` are the protocol without I/O. `table`, `queue` and `fences` are what callers change and the
//! connection uses, together in `state`; `deliver` calls whoever a message is for. `servers`, `dial`, `login` and `tls`
//! make a connection, `conn` runs one, `keep` has one at all times.
//!
//! Why not the client library's: it gives each subscription a task and a channel, which costs 5 KB a user, and a channel
//! that is full loses messages. Here a subscription is a place in a table, and one task does everything.

mod codec;
mod conn;
mod deliver;
mod dial;
mod fences;
mod keep;
mod login;
mod ops;
mod queue;
mod servers;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::broadcast, task::AbortHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{keep::Dialer, ops::Sid, state::Shared};
use super::{
    Bus, BusError, BusEvent, NO_RESPONDERS, OnMessage, OnNoResponders, RequestError, Subscription,
    options::{NatsOptions, checked},
    replies,
    request::{Requests, Way},
};
use crate::{metrics::Metrics, subject::Subject};

/// How long a fence may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A node's connection to NATS.
pub struct LinkBus {
    node: CompactString,
    shared: Arc<Shared>,
    closing: CancellationToken,
    keeper: AbortHandle,
}

/// Ends its subscription when dropped.
struct Guard {
    shared: Arc<Shared>,
    sid: Sid,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.sid);
    }
}

impl LinkBus {
    /// Connects, and waits for the connection as long as one attempt may take. Without a server the bus starts all the
    /// same and keeps trying; [`Bus::connected`] says how it is. Counts into `metrics`, which must be this node's own.
    ///
    /// # Errors
    /// For what waiting does not help: a bad URL, a bad node name, files that cannot be read, servers that refuse the
    /// account.
    pub async fn connect(options: NatsOptions, metrics: Arc<Metrics>) -> Result<Arc<Self>, BusError> {
        let (options, addrs) = checked(options)?;
        let servers = servers::configured(&addrs)?;
        let statuses = Subject::node(&options.node, NO_RESPONDERS);
        let shared = Shared::new(statuses, Requests::new(&options.node), metrics);
        let (node, patience, count) = (options.node.as_str().into(), options.connect_timeout, servers.len());
        // Two of its own: for answers, and for what nobody else heard.
        shared.metrics.subscriptions.inc_by(2);
        let closing = CancellationToken::new();
        let keeping = keep::keep(shared.clone(), Dialer { options, servers }, closing.clone());
        let bus = Arc::new(Self { node, shared, closing, keeper: tokio::spawn(keeping).abort_handle() });
        let answered = timeout(patience, bus.until(|bus| bus.connected().is_some() || bus.refusal().is_some())).await;
        if let Some(refusal) = bus.refusal() {
            return Err(BusError::Other(refusal));
        }
        if answered.is_err() {
            tracing::warn!(servers = count, "NATS does not answer yet; starting without it");
        }
        Ok(bus)
    }

    /// Where this bus counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Waits for something about the connection.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    fn open(&self, filter: Box<str>, on_message: OnMessage) -> Subscription {
        let sid = self.shared.subscribe(filter, on_message);
        Subscription::new(Guard { shared: self.shared.clone(), sid })
    }
}

/// A round trip that begins after this call.
async fn fence(shared: &Shared) -> Result<u64, BusError> {
    match timeout(PATIENCE, shared.fence()?).await {
        Ok(told) => told.unwrap_or(Err(BusError::Reconnected)),
        Err(_) => Err(BusError::TimedOut),
    }
}

impl Way for Shared {
    fn generation(&self) -> Option<u64> {
        Shared::generation(self)
    }

    fn publish(&self, subject: &Subject, reply: &Subject, payload: Bytes) -> bool {
        Shared::publish(self, subject.as_str(), Some(reply.as_str()), &payload)
    }
}

impl Bus for LinkBus {
    fn publish(&self, subject: &Subject, payload: Bytes) -> bool {
        self.shared.publish(subject.as_str(), None, &payload)
    }

    fn publish_tagged(&self, subject: &Subject, payload: Bytes, tag: &str) -> bool {
        let reply = Subject::node(&self.node, &format_compact!("{NO_RESPONDERS}.{tag}"));
        self.shared.publish(subject.as_str(), Some(reply.as_str()), &payload)
    }

    fn on_no_responders(&self, call: OnNoResponders) {
        if self.shared.no_responders.set(call).is_err() {
            tracing::error!("on_no_responders was called twice; the first callback stays");
        }
    }

    fn reply(&self, service: &str, to: &str, payload: Bytes) {
        if let Some(subject) = replies::to_service(&self.shared.metrics, service, to) {
            self.shared.publish(subject.as_str(), None, &payload);
        }
    }

    fn request<'a>(
        &'a self,
        subject: &'a Subject,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RequestError>> {
        self.shared.requests.ask(&*self.shared, subject, payload, patience).boxed()
    }

    fn answer(&self, to: &str, payload: Bytes) {
        if let Some(subject) = replies::to_node(&self.shared.metrics, to) {
            self.shared.publish(subject.as_str(), None, &payload);
        }
    }

    fn subscribe(&self, subject: &Subject, on_message: OnMessage) -> Subscription {
        self.open(subject.as_str().into(), on_message)
    }

    fn queue_subscribe(&self, subject: &Subject, group: &str, on_message: OnMessage) -> Subscription {
        self.open(format!("{subject} {group}").into(), on_message)
    }

    fn fence(&self) -> BoxFuture<'_, Result<u64, BusError>> {
        fence(&self.shared).boxed()
    }

    fn connected(&self) -> Option<u64> {
        self.shared.generation()
    }

    fn refusal(&self) -> Option<Arc<str>> {
        self.shared.refusal.words()
    }

    fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.shared.events.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // Only the server's answer proves that it has taken what was queued.
            if let Err(error) = fence(&self.shared).await {
                tracing::debug!(%error, "closing NATS without knowing whether everything was sent");
            }
            self.closing.cancel();
            // The task only has to run once.
            let _ = timeout(PATIENCE, self.until(|bus| bus.connected().is_none())).await;
        }
        .boxed()
    }
}

impl Drop for LinkBus {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
