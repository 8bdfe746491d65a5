//! Gathers sends per conversation: at most one append of a conversation is in flight on a node; the sends that come
//! meanwhile become the next batch, and a send whose message already waits or is in flight joins it and shares its
//! answer. So a hot conversation costs one store round trip per batch, and two tries of one message never race
//! each other on one node.
//!
//! A batch waits for its turn in the class of appends, and grows meanwhile. How many bytes wait is bounded for the whole
//! node. Every send is answered exactly once, also when the store or somebody's callback panics.
//!
//! Called by the gateway for sessions and services.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use self::slot::{Answerer, Pending, Slot, guarded};
use super::{Appended, Logs, STORE_DEADLINE, StoreError, StoreResult};
use crate::{
    model::{ConvId, NewMessage},
    overload::{Class, Overload, WaitingBytes, cost},
};

mod slot;

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
/// Enough that two conversations hardly ever share a lock.
const SHARDS: usize = 1024;
/// What a send holds beside its body, about: names, the callback, its places in the lists.
const SEND_BYTES: usize = 512;

/// The appender of one node. Cheap to clone.
#[derive(Clone)]
pub struct Appender(Arc<Inner>);

struct Inner {
    logs: Arc<dyn Logs>,
    on_appended: OnAppended,
    overload: Overload,
    bytes: WaitingBytes,
    /// The conversations with an append in flight or about to be.
    shards: Vec<Mutex<HashMap<ConvId, Slot>>>,
    hasher: RandomState,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Appender({} conversations, {} bytes)", self.0.tasks.len(), self.0.bytes.held())
    }
}

impl Appender {
    /// An appender to `logs`; `on_appended` publishes, `overload` says when, and `bytes` is how much may wait.
    pub fn new(logs: Arc<dyn Logs>, on_appended: OnAppended, overload: Overload, bytes: WaitingBytes) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (hasher, tasks) = (RandomState::new(), TaskTracker::new());
        Self(Arc::new(Inner { logs, on_appended, overload, bytes, shards, hasher, tasks }))
    }

    /// Takes a send. `on_stored` is called exactly once, from another task or, when the send is refused at once, from
    /// this one.
    pub fn submit(&self, conv: ConvId, message: NewMessage, on_stored: OnStored) {
        let Some(mut held) = self.0.bytes.hold(message.body.size() + SEND_BYTES) else {
            return on_stored(&Err(StoreError::unavailable("too many sends wait for the store; try again")));
        };
        let mut shard = self.0.shard(&conv).lock();
        let Some(slot) = shard.get_mut(&conv) else {
            let mut slot = Slot::default();
            slot.push(Pending::new(message, Answerer::new(on_stored, held)));
            shard.insert(conv.clone(), slot);
            drop(shard);
            self.0.tasks.spawn(Driving { inner: self.0.clone(), conv, over: false }.run());
            return;
        };
        if let Some(twin) = slot.twin_of(&message) {
            // Its own copy of the body goes.
            held.shrink_to(SEND_BYTES);
            twin.callers.push(Answerer::new(on_stored, held));
        } else if slot.waiting() < WAITING {
            slot.push(Pending::new(message, Answerer::new(on_stored, held)));
        } else {
            drop(shard);
            on_stored(&Err(StoreError::unavailable("too many sends wait for this conversation; try again")));
        }
    }

    /// The same for whoever can wait.
    ///
    /// # Errors
    /// Those of [`Logs::append`], and `unavailable` where too much waits already.
    pub async fn append(&self, conv: ConvId, message: NewMessage) -> StoreResult<Appended> {
        let (told, stored) = oneshot::channel();
        self.submit(conv, message, Box::new(move |result| drop(told.send(result.clone()))));
        stored.await.unwrap_or_else(|_| Err(StoreError::unavailable("the store gave no answer")))
    }

    /// Waits until everything taken is stored, answered and published. New sends prolong it.
    pub async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }
}

/// The task of one conversation. When it panics, its sends are answered `unavailable` and the conversation is free.
struct Driving {
    inner: Arc<Inner>,
    conv: ConvId,
    /// Its slot is gone already: one that is there now belongs to the next task.
    over: bool,
}

impl Drop for Driving {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let left = self.inner.shard(&self.conv).lock().remove(&self.conv);
        tracing::error!(conv = %self.conv, "the task of a conversation ended early; its sends are answered unavailable");
        // Outside of the lock: whoever still waits is answered by this.
        drop(left);
    }
}

impl Driving {
    async fn run(mut self) {
        let (inner, conv) = (&self.inner, &self.conv);
        while let Some(rows) = inner.waiting(conv) {
            let turn = inner.overload.turn_within(STORE_DEADLINE, Class::Append, cost(rows, 0)).await;
            // Those that came while the turn was waited for go with it.
            let batch = inner.next_batch(conv);
            let results = match turn {
                Ok(turn) => {
                    let used = cost(batch.len(), batch.iter().map(|message| message.body.size()).sum());
                    let results = inner.logs.append(conv, batch).await;
                    turn.end(used, !results.iter().all(|result| matches!(result, Err(StoreError::Unavailable(_)))));
                    results
                }
                Err(busy) => batch.iter().map(|_| Err(StoreError::unavailable(busy))).collect(),
            };
            let finished = inner.finish(conv);
            inner.answer(conv, finished, results);
        }
        self.over = true;
    }
}

impl Inner {
    fn shard(&self, conv: &ConvId) -> &Mutex<HashMap<ConvId, Slot>> {
        &self.shards[(self.hasher.hash_one(conv) % SHARDS as u64) as usize]
    }

    /// How many rows the next batch has at most; `None`, and the slot is gone, when nothing waits.
    fn waiting(&self, conv: &ConvId) -> Option<usize> {
        let mut shard = self.shard(conv).lock();
        let rows = shard.get(conv)?.waiting().min(BATCH_ROWS);
        if rows == 0 {
            shard.remove(conv);
            return None;
        }
        Some(rows)
    }

    /// Moves what waits into flight.
    fn next_batch(&self, conv: &ConvId) -> Vec<NewMessage> {
        let mut shard = self.shard(conv).lock();
        shard.get_mut(conv).map(|slot| slot.next_batch(BATCH_ROWS, BATCH_BYTES)).unwrap_or_default()
    }

    /// Takes what was in flight.
    fn finish(&self, conv: &ConvId) -> Vec<Pending> {
        self.shard(conv).lock().get_mut(conv).map(Slot::finish).unwrap_or_default()
    }

    fn answer(&self, conv: &ConvId, finished: Vec<Pending>, mut results: Vec<StoreResult<Appended>>) {
        if results.len() != finished.len() {
            // The engine broke its contract: nobody can tell which answer belongs to which message.
            tracing::error!(%conv, sent = finished.len(), answered = results.len(), "the store answered for another batch");
            results = vec![Err(StoreError::unavailable("the store gave no clear answer")); finished.len()];
        }
        let mut stored = Vec::with_capacity(finished.len());
        for (pending, result) in finished.into_iter().zip(results) {
            for caller in pending.callers {
                caller.answer(&result);
            }
            if let Ok(appended) = result {
                let NewMessage { sender, cid, .. } = &pending.message;
                tracing::debug!(%conv, seq = appended.seq, %sender, %cid, fresh = appended.fresh, "stored");
                stored.push((pending.message, appended));
            }
        }
        if !stored.is_empty() {
            guarded("publishing a batch", || (self.on_appended)(conv, &stored));
        }
    }
}

#[cfg(test)]
mod tests;
