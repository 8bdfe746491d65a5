//! Gathers sends per conversation: at most one append of a conversation is in flight on a node; the sends that come
//! meanwhile become the next batch, and a send whose message already waits or is in flight joins it and shares its
//! answer. So a hot conversation costs one store round trip per batch, and two tries of one message never race
//! each other on one node.
//!
//! Called by the gateway for sessions and services.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::{Appended, Logs, StoreError, StoreResult};
use crate::model::{ConvId, NewMessage};

/// Called once with what became of a send. Must not block.
pub type OnStored = Box<dyn FnOnce(&StoreResult<Appended>) + Send>;

/// Called with the messages of a batch that were stored, after every [`OnStored`] of the batch: publishes them. Must
/// not block.
pub type OnAppended = Arc<dyn Fn(&ConvId, &[(NewMessage, Appended)]) + Send + Sync>;

/// Most rows of one batch.
const BATCH_ROWS: usize = 256;
/// Most bytes of bodies of one batch (at least one message goes).
const BATCH_BYTES: usize = 1 << 20;
/// Most sends waiting for one conversation on a node; more are refused as `unavailable`.
const WAITING: usize = 4096;
const SHARDS: usize = 32;

/// The appender of one node. Cheap to clone.
#[derive(Clone)]
pub struct Appender(Arc<Inner>);

struct Inner {
    logs: Arc<dyn Logs>,
    on_appended: OnAppended,
    shards: Vec<Mutex<HashMap<ConvId, Slot>>>,
    tasks: TaskTracker,
}

/// One conversation with an append in flight.
#[derive(Default)]
struct Slot {
    in_flight: Vec<Pending>,
    waiting: Vec<Pending>,
}

struct Pending {
    message: NewMessage,
    callers: Vec<OnStored>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Appender({} conversations)", self.0.tasks.len())
    }
}

impl Appender {
    /// An appender to `logs`; `on_appended` publishes.
    pub fn new(logs: Arc<dyn Logs>, on_appended: OnAppended) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self(Arc::new(Inner { logs, on_appended, shards, tasks: TaskTracker::new() }))
    }

    /// Takes a send. `on_stored` is called exactly once, from another task or, when the send is refused at once, from
    /// this one.
    pub fn submit(&self, conv: ConvId, message: NewMessage, on_stored: OnStored) {
        let mut shard = self.0.shard(&conv).lock();
        let Some(slot) = shard.get_mut(&conv) else {
            let waiting = vec![Pending { message, callers: vec![on_stored] }];
            shard.insert(conv.clone(), Slot { in_flight: Vec::new(), waiting });
            drop(shard);
            self.0.tasks.spawn(self.0.clone().drive(conv));
            return;
        };
        // A linear search: the lists are as long as one conversation's sends within one store round trip.
        let same = |pending: &&mut Pending| {
            pending.message.cid == message.cid
                && pending.message.sender == message.sender
                && pending.message.body == message.body
        };
        if let Some(twin) = slot.in_flight.iter_mut().chain(&mut slot.waiting).find(same) {
            twin.callers.push(on_stored);
        } else if slot.waiting.len() < WAITING {
            slot.waiting.push(Pending { message, callers: vec![on_stored] });
        } else {
            drop(shard);
            on_stored(&Err(StoreError::unavailable("too many sends wait for this conversation; try again")));
        }
    }

    /// Waits until everything taken is stored, answered and published. New sends prolong it.
    pub async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }
}

impl Inner {
    fn shard(&self, conv: &ConvId) -> &Mutex<HashMap<ConvId, Slot>> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(conv);
        &self.shards[(hash % SHARDS as u64) as usize]
    }

    async fn drive(self: Arc<Self>, conv: ConvId) {
        while let Some(batch) = self.next_batch(&conv) {
            let results = self.logs.append(&conv, batch).await;
            let finished = mem::take(&mut self.shard(&conv).lock().entry(conv.clone()).or_default().in_flight);
            self.answer(&conv, finished, results);
        }
    }

    /// Moves what waits into flight; `None`, and the slot is gone, when nothing waits.
    fn next_batch(&self, conv: &ConvId) -> Option<Vec<NewMessage>> {
        let mut shard = self.shard(conv).lock();
        let slot = shard.get_mut(conv)?;
        if slot.waiting.is_empty() {
            shard.remove(conv);
            return None;
        }
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += pending.message.body.size();
            bytes <= BATCH_BYTES
        };
        let rows = slot.waiting.iter().take(BATCH_ROWS).take_while(fits).count().max(1);
        let rest = slot.waiting.split_off(rows);
        slot.in_flight = mem::replace(&mut slot.waiting, rest);
        Some(slot.in_flight.iter().map(|pending| pending.message.clone()).collect())
    }

    fn answer(&self, conv: &ConvId, finished: Vec<Pending>, mut results: Vec<StoreResult<Appended>>) {
        if results.len() != finished.len() {
            // The engine broke its contract: nobody can tell which answer belongs to which message.
            tracing::error!(%conv, sent = finished.len(), answered = results.len(), "the store answered for another batch");
            results = vec![Err(StoreError::unavailable("the store gave no clear answer")); finished.len()];
        }
        let mut stored = Vec::with_capacity(finished.len());
        for (pending, result) in finished.into_iter().zip(results) {
            for on_stored in pending.callers {
                on_stored(&result);
            }
            if let Ok(appended) = result {
                let NewMessage { sender, cid, .. } = &pending.message;
                tracing::debug!(%conv, seq = appended.seq, %sender, %cid, fresh = appended.fresh, "stored");
                stored.push((pending.message, appended));
            }
        }
        if !stored.is_empty() {
            (self.on_appended)(conv, &stored);
        }
    }
}

#[cfg(test)]
mod tests;
