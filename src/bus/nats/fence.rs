//! The fence: proof that the server has processed everything this connection sent before (R10). Called by
//! [`super::NatsBus`].
//!
//! A fence is a publish to a subject in which nobody has interest, with one of this connection's own subjects as its
//! reply subject. The server answers with status 503, "no responders", in the order in which it processes the
//! connection's commands. (The library's `flush` only flushes the socket.) A publish takes the same queue as a
//! subscribe, and after a reconnect the library writes all subscriptions again before it takes anything from that
//! queue; so an answer in the generation in which the fence began covers them all.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

use super::link::Link;
use crate::{bus::BusError, metrics::Metrics, subject::Subject};

/// How long a fence may take, including the wait for the one before it.
const PATIENCE: Duration = Duration::from_secs(2);

type Outcome = Result<u64, BusError>;

pub(super) struct Fence {
    node: CompactString,
    waiting: Mutex<Vec<oneshot::Sender<Outcome>>>,
    wake: Notify,
    /// The number of the last round that was answered.
    answered: watch::Sender<u64>,
}

impl Fence {
    pub(super) fn new(node: &str) -> Arc<Self> {
        Arc::new(Self {
            node: node.into(),
            waiting: Mutex::default(),
            wake: Notify::new(),
            answered: watch::Sender::new(0),
        })
    }

    /// Where the server's answers arrive.
    pub(super) fn inbox(&self) -> Subject {
        Subject::node(&self.node, "fence.*")
    }

    /// Called for each message there.
    pub(super) fn on_answer(&self, message: &Message) {
        if message.status != Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        let round = message.subject.rsplit('.').next().and_then(|round| round.parse::<u64>().ok());
        if let Some(round) = round {
            self.answered.send_modify(|last| *last = round.max(*last));
        }
    }

    /// Waits for a round trip that begins after this call.
    pub(super) async fn wait(&self) -> Outcome {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(tell);
        self.wake.notify_one();
        match timeout(PATIENCE, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(BusError::NotConnected),
            Err(_) => Err(BusError::TimedOut),
        }
    }

    /// Makes the round trips, one at a time; fences requested while one is under way share the next.
    pub(super) async fn run(self: Arc<Self>, link: Arc<Link>, metrics: Arc<Metrics>) {
        for round in 1.. {
            self.wake.notified().await;
            let waiting = mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if waiting.is_empty() {
                continue;
            }
            let outcome = match timeout(PATIENCE, self.round_trip(round, &link)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(BusError::TimedOut),
            };
            if outcome.is_ok() {
                metrics.nats_fences.inc();
            }
            for tell in waiting {
                // A caller that gave up needs no answer.
                let _ = tell.send(outcome.clone());
            }
        }
    }

    async fn round_trip(&self, round: u64, link: &Link) -> Outcome {
        let mut events = link.events();
        let before = link.generation().ok_or(BusError::NotConnected)?;
        let nobody = async_nats::Subject::from(Subject::node(&self.node, "nobody").as_str());
        let reply = Subject::node(&self.node, &format_compact!("fence.{round}"));
        let reply = async_nats::Subject::from(reply.as_str());
        let mut answered = self.answered.subscribe();
        let client = link.client();
        client
            .publish_with_reply(nobody, reply, Bytes::new())
            .await
            .map_err(|error| BusError::Other(error.to_string().into()))?;
        loop {
            tokio::select! {
                _ = answered.wait_for(|last| *last >= round) => break,
                // Any event is only a reason to check whether the answer can still come.
                _ = events.recv() => if link.generation() != Some(before) { break },
            }
        }
        if link.generation() == Some(before) { Ok(before) } else { Err(BusError::Reconnected) }
    }
}
