//! A node's name, claimed on the bus: two nodes of one name would answer to each other's commands and tell operators one
//! story between them, so the second one does not start.
//!
//! Called by the node when it starts and at every reconnect. Only a process that runs can answer a claim, so one that was
//! just killed never keeps its successor out, whatever the servers still hold of its connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::timeout};

use super::{Bus, Subscription};
use crate::subject::Subject;

/// How long another node of the name has to answer: several round trips across a cluster.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// A node's hold on its name. Answers the claims of others until it is dropped.
#[derive(Debug)]
pub struct Claim {
    ask: Subject,
    id: Bytes,
    held: Arc<Held>,
    _subscriptions: [Subscription; 2],
}

/// Whether somebody else answered.
#[derive(Debug, Default)]
struct Held {
    taken: AtomicBool,
    /// The node runs: it is too late to refuse the start.
    running: AtomicBool,
    told: Notify,
}

impl Claim {
    /// Claims `node`'s name. Nothing is known of it before [`Claim::is_taken`].
    pub fn new(bus: &Arc<dyn Bus>, node: &str) -> Self {
        let id = Bytes::from(format!("{:016x}", rand::random::<u64>()));
        let (ask, taken) = (Self::question(node), Self::taken(node));
        let held = Arc::<Held>::default();
        // Weak: the bus owns what it calls, and a cycle would keep the node alive for ever.
        let (answering, answer, own) = (Arc::downgrade(bus), taken.clone(), id.clone());
        let on_claim = move |message: super::BusMessage| {
            if let Some(bus) = answering.upgrade().filter(|_| message.payload != own) {
                bus.publish(&answer, own.clone());
            }
        };
        let (heard, own, name) = (held.clone(), id.clone(), node.to_owned());
        let on_taken = move |message: super::BusMessage| {
            if message.payload != own {
                heard.on_taken(&name);
            }
        };
        let subscriptions = [bus.subscribe(&taken, Arc::new(on_taken)), bus.subscribe(&ask, Arc::new(on_claim))];
        Self { ask, id, held, _subscriptions: subscriptions }
    }

    /// Where a name is claimed.
    pub(super) fn question(node: &str) -> Subject {
        Subject::node(node, "claim")
    }

    /// Where whoever holds it answers, with the number of its process.
    pub(super) fn taken(node: &str) -> Subject {
        Subject::node(node, "taken")
    }

    /// Asks whether another process runs under this name, and waits a moment for its answer. False while there is no
    /// connection: [`Claim::ask`] again when there is one.
    pub async fn is_taken(&self, bus: &dyn Bus) -> bool {
        // Those that hear the claim must find this one's subscription in place.
        if bus.fence().await.is_ok() {
            self.ask(bus);
            let _ = timeout(PATIENCE, self.held.told.notified()).await;
        }
        let taken = self.held.taken.load(Ordering::Acquire);
        self.held.running.store(true, Ordering::Release);
        taken
    }

    /// Asks, and does not wait: an answer becomes an error in the log.
    pub fn ask(&self, bus: &dyn Bus) {
        bus.publish(&self.ask, self.id.clone());
    }
}

impl Held {
    fn on_taken(&self, node: &str) {
        self.taken.store(true, Ordering::Release);
        self.told.notify_one();
        if self.running.load(Ordering::Acquire) {
            tracing::error!(node, "another node of this name runs: give each its own node.name and restart one");
        }
    }
}
