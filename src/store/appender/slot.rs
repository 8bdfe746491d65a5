//! One conversation with an append in flight: what is in flight, what waits, and where each message stands. Used by
//! [`super::Appender`], under the lock of the conversation's shard.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::OnStored;
use crate::{
    model::{Cid, NewMessage, UserId},
    overload::Held,
    store::{Appended, StoreError, StoreResult},
};

/// The sends of one conversation, numbered in the order in which they came.
#[derive(Default)]
pub(super) struct Slot {
    in_flight: Vec<Pending>,
    waiting: VecDeque<Pending>,
    /// The number of the first in flight, or of the first that waits where none is.
    first: u64,
    /// The number of the last send with this cid.
    by_cid: HashMap<(UserId, Cid), u64>,
}

/// A message, and all who want to know what becomes of it.
pub(super) struct Pending {
    pub(super) message: NewMessage,
    pub(super) callers: Vec<Answerer>,
}

impl Pending {
    pub(super) fn new(message: NewMessage, caller: Answerer) -> Self {
        Self { message, callers: vec![caller] }
    }

    fn key(&self) -> (UserId, Cid) {
        (self.message.sender.clone(), self.message.cid.clone())
    }
}

impl Slot {
    /// How many wait for the next batch.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The same message, where it waits or is in flight.
    pub(super) fn twin_of(&mut self, message: &NewMessage) -> Option<&mut Pending> {
        let number = *self.by_cid.get(&(message.sender.clone(), message.cid.clone()))?;
        let at = usize::try_from(number - self.first).ok()?;
        let waiting = at.checked_sub(self.in_flight.len());
        let found = match waiting {
            None => self.in_flight.get_mut(at),
            Some(at) => self.waiting.get_mut(at),
        };
        found.filter(|twin| twin.message.is_same_as(message))
    }

    /// Adds a message that has no twin here.
    pub(super) fn push(&mut self, pending: Pending) {
        let number = self.first + (self.in_flight.len() + self.waiting.len()) as u64;
        self.by_cid.insert(pending.key(), number);
        self.waiting.push_back(pending);
    }

    /// Moves what waits into flight, within the limits, but at least one.
    pub(super) fn next_batch(&mut self, most_rows: usize, most_bytes: usize) -> Vec<NewMessage> {
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += pending.message.body.size();
            bytes <= most_bytes
        };
        let rows = self.waiting.iter().take(most_rows).take_while(fits).count().max(1).min(self.waiting.len());
        self.in_flight.extend(self.waiting.drain(..rows));
        self.in_flight.iter().map(|pending| pending.message.clone()).collect()
    }

    /// Takes what was in flight.
    pub(super) fn finish(&mut self) -> Vec<Pending> {
        let finished = mem::take(&mut self.in_flight);
        for (number, pending) in (self.first..).zip(&finished) {
            let key = pending.key();
            if self.by_cid.get(&key) == Some(&number) {
                self.by_cid.remove(&key);
            }
        }
        self.first += finished.len() as u64;
        finished
    }
}

/// Somebody who is answered exactly once: where nobody did by the time it is dropped, with `unavailable`.
pub(super) struct Answerer {
    on_stored: Option<OnStored>,
    _held: Held,
}

impl Answerer {
    /// Holds its bytes until it is answered.
    pub(super) fn new(on_stored: OnStored, held: Held) -> Self {
        Self { on_stored: Some(on_stored), _held: held }
    }

    /// Tells what became of the send.
    pub(super) fn answer(mut self, result: &StoreResult<Appended>) {
        self.tell(result);
    }

    fn tell(&mut self, result: &StoreResult<Appended>) {
        if let Some(on_stored) = self.on_stored.take() {
            guarded("answering a send", || on_stored(result));
        }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        if self.on_stored.is_some() {
            self.tell(&Err(StoreError::unavailable("the node dropped the send; try again")));
        }
    }
}

/// Calls what belongs to others: its panic is logged and goes no further.
pub(super) fn guarded(what: &str, call: impl FnOnce()) {
    // What a panicking callback leaves behind is its own; nothing of the appender is borrowed by it.
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!(what, "panicked");
    }
}
