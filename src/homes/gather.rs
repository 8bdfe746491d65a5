//! Appends at the home: those of one conversation, from this node and from all others, go to the engine one at a time,
//! and what comes meanwhile becomes the next batch. So a conversation that many nodes write to at once costs one store
//! round trip per batch, as on one node. Called by [`super::route`] and [`super::serve`].

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    model::{ConvId, NewMessage},
    store::{Appended, Logs, STORE_DEADLINE, StoreError, StoreResult},
};

/// Most messages of one batch.
const BATCH_ROWS: usize = 256;
/// Most bytes of bodies of one batch (what one asker sent together stays together).
const BATCH_BYTES: usize = 1 << 20;
/// Most messages that wait for one conversation; more are refused as `unavailable`.
const WAITING: usize = 4096;

type Results = Vec<StoreResult<Appended>>;

/// The conversations with an append under way.
pub(super) struct Gather {
    logs: Arc<dyn Logs>,
    queues: Mutex<HashMap<ConvId, VecDeque<Turn>>>,
}

/// What one asker brought.
struct Turn {
    batch: Vec<NewMessage>,
    since: Instant,
    tell: oneshot::Sender<Results>,
}

/// Takes the conversation out when its task ends: where that was a panic, those who wait are told, and it is not dead.
struct Running {
    gather: Arc<Gather>,
    conv: ConvId,
    /// It is out already: what is there now belongs to the next task.
    over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.gather.queues.lock().remove(&self.conv);
        }
    }
}

impl Gather {
    pub(super) fn new(logs: Arc<dyn Logs>) -> Arc<Self> {
        Arc::new(Self { logs, queues: Mutex::default() })
    }

    /// As [`Logs::append`], for any number of callers at once.
    pub(super) async fn append(self: &Arc<Self>, conv: &ConvId, batch: Vec<NewMessage>) -> Results {
        let count = batch.len();
        let Some(told) = self.enter(conv, batch) else {
            return refused(count, "too many sends wait for this conversation; try again");
        };
        told.await.unwrap_or_else(|_| refused(count, "the append ended without an answer"))
    }

    fn enter(self: &Arc<Self>, conv: &ConvId, batch: Vec<NewMessage>) -> Option<oneshot::Receiver<Results>> {
        let (tell, told) = oneshot::channel();
        let turn = Turn { since: Instant::now(), batch, tell };
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(conv) {
            let waiting: usize = queue.iter().map(|turn| turn.batch.len()).sum();
            if waiting + turn.batch.len() > WAITING {
                return None;
            }
            queue.push_back(turn);
        } else {
            queues.insert(conv.clone(), VecDeque::from([turn]));
            tokio::spawn(run(Running { gather: Arc::clone(self), conv: conv.clone(), over: false }));
        }
        Some(told)
    }

    /// The turns of the next batch; `None`, and the conversation is taken out, when nobody waits.
    fn next(&self, conv: &ConvId) -> Option<Vec<Turn>> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(conv)?;
        let (mut rows, mut bytes, mut turns) = (0, 0, Vec::new());
        while let Some(turn) = queue.front() {
            rows += turn.batch.len();
            bytes += turn.batch.iter().map(|message| message.body.size()).sum::<usize>();
            if !turns.is_empty() && (rows > BATCH_ROWS || bytes > BATCH_BYTES) {
                break;
            }
            turns.extend(queue.pop_front());
        }
        if turns.is_empty() {
            queues.remove(conv);
            return None;
        }
        Some(turns)
    }
}

async fn run(mut running: Running) {
    let Running { gather, conv, .. } = &running;
    while let Some(mut turns) = gather.next(conv) {
        // Whoever gave up meanwhile repeats it with the same cid; to store it now would only make others wait.
        turns.retain(|turn| !turn.tell.is_closed() && turn.since.elapsed() < STORE_DEADLINE);
        let batch: Vec<_> = turns.iter().flat_map(|turn| turn.batch.iter().cloned()).collect();
        if batch.is_empty() {
            continue;
        }
        let count = batch.len();
        let mut results = gather.logs.append(conv, batch).await;
        if results.len() != count {
            tracing::error!(%conv, sent = count, answered = results.len(), "the store answered for another batch");
            results = refused(count, "the store gave no clear answer");
        }
        let mut results = results.into_iter();
        for Turn { batch, tell, .. } in turns {
            let own = results.by_ref().take(batch.len()).collect();
            // Whoever gave up in this moment repeats it.
            let _ = tell.send(own);
        }
    }
    running.over = true;
}

/// The same refusal for each message.
pub(super) fn refused(count: usize, words: &str) -> Results {
    vec![Err(StoreError::unavailable(words)); count]
}

/// How long anybody may wait for a turn and for the append itself.
pub(super) const LONGEST: Duration = STORE_DEADLINE.saturating_mul(2);

#[cfg(test)]
mod tests;
