//! What this node answers to the others: appends to its slots (mends are in [`super::mend`]), whether it is there, that it takes a slot, its word on a
//! silent home, and their announcements. Started by [`super::Homes`]; the slots' own subjects are kept by [`super::keep`].

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{
    Shared, gather,
    takeover::{Found, Taking},
    wire::{self, Alive, AppendAnswer, AppendRequest, Here, Outcome, Probe, TakeAnswer, TakeRequest, WordRequest},
};
use crate::{
    bus::{BusMessage, OnMessage, Subscription},
    store::{StoreError, slots::Slot},
    subject::Subject,
};

/// Most bytes of requests that are under way at once; beyond it askers wait and try again.
const BYTES: usize = 64 << 20;
/// What a request costs besides its payload.
const COST: usize = 512;

/// The appends of other nodes that this one has and has not answered.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Load>);

#[derive(Default)]
struct Load {
    /// By the asker's number; one that was asked twice counts twice.
    ids: HashMap<u64, usize>,
    bytes: usize,
}

/// Takes a request out when it is answered, however that ends.
pub(super) struct Held {
    under_way: Arc<UnderWay>,
    id: u64,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut load = self.under_way.0.lock();
        load.bytes -= self.bytes;
        if let Some(count) = load.ids.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                load.ids.remove(&self.id);
            }
        }
    }
}

impl UnderWay {
    pub(super) fn enter(self: &Arc<Self>, id: u64, payload: usize) -> Option<Held> {
        let (mut load, bytes) = (self.0.lock(), payload + COST);
        if load.bytes + bytes > BYTES {
            return None;
        }
        load.bytes += bytes;
        *load.ids.entry(id).or_default() += 1;
        Some(Held { under_way: Arc::clone(self), id, bytes })
    }

    fn has(&self, id: u64) -> bool {
        self.0.lock().ids.contains_key(&id)
    }
}

impl Shared {
    /// Subscribes to what this node is asked under its own name, and to the announcements of all.
    pub(super) fn listen(self: &Arc<Self>) -> Vec<Subscription> {
        let own = |tail| Subject::node(&self.own, tail);
        vec![
            self.bus.subscribe(&Subject::all_here(), self.on(Self::on_here)),
            self.bus.subscribe(&own("alive"), self.on(Self::on_probe)),
            self.bus.subscribe(&own("word"), self.on(Self::on_word)),
            self.bus.subscribe(&own("take"), self.on(Self::on_take)),
            self.bus.subscribe(&own("append"), self.on(Self::on_append)),
            self.bus.subscribe(&own("mend"), self.on(Self::on_mend)),
        ]
    }

    /// A callback that does not keep this alive: the bus owns it.
    pub(super) fn on(self: &Arc<Self>, call: fn(&Arc<Self>, BusMessage)) -> OnMessage {
        let shared: Weak<Self> = Arc::downgrade(self);
        Arc::new(move |message| {
            if let Some(shared) = shared.upgrade() {
                call(&shared, message);
            }
        })
    }

    fn on_here(self: &Arc<Self>, message: BusMessage) {
        let Some(here) = read::<Here>(&message) else { return };
        // The subject is what NATS permissions are about.
        if Subject::here_of(&message.subject).is_some_and(|name| name.as_str() == here.who.node) {
            self.roster.lock().on_here(&here, Instant::now());
        }
    }

    fn on_probe(self: &Arc<Self>, message: BusMessage) {
        let Some(Probe { slot, id }) = read(&message) else { return };
        // A home that the store does not answer is as good as silent: whoever the store answers takes over.
        if self.slots.is_stuck() {
            return;
        }
        let (who, serves) = (self.slots.incarnation(), self.slots.holds(slot));
        self.reply(&message, &Alive { who, serves, under_way: id != 0 && self.under_way.has(id) });
    }

    fn on_word(self: &Arc<Self>, message: BusMessage) {
        let Some(WordRequest { on }) = read(&message) else { return };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let word = shared.own_word(&on).await;
            shared.reply(&message, &word);
        });
    }

    fn on_take(self: &Arc<Self>, message: BusMessage) {
        let Some(TakeRequest { slot, given }) = read(&message) else { return };
        if (self.is_leaving() || self.slots.is_stuck()) && !given {
            return self.reply(&message, &TakeAnswer::Leaving);
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let answer = match shared.take_over(slot, given).await {
                Taking::Home(Found::Here) => TakeAnswer::HomeIs(shared.slots.incarnation()),
                Taking::Home(Found::At(other)) => TakeAnswer::HomeIs(other),
                Taking::Kept(_, words) | Taking::Failed(words) => TakeAnswer::Refused(words.to_string()),
            };
            shared.reply(&message, &answer);
        });
    }

    /// An append, on its slot's subject or on this node's own.
    pub(super) fn on_append(self: &Arc<Self>, message: BusMessage) {
        let refuse = |words: &str| self.reply(&message, &AppendAnswer::Refused(words.to_owned()));
        let AppendRequest { id, conv, batch } = match wire::decode(&message.payload) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "an append of another node cannot be read");
                return refuse(&error.to_string());
            }
        };
        if !self.slots.holds(Slot::of(&conv)) {
            return self.reply(&message, &AppendAnswer::Done(vec![Outcome::NotHome; batch.len()]));
        }
        let Some(held) = self.under_way.enter(id, message.payload.len()) else {
            return refuse("the conversation's home has too much to do; try again");
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let count = batch.len();
            let results = timeout(gather::LONGEST, shared.gather.append(&conv, batch)).await;
            let results =
                results.unwrap_or_else(|_| vec![Err(StoreError::unavailable("no answer of the store")); count]);
            let outcomes = results.into_iter().map(Outcome::from).collect();
            // Out of the table only once the answer is on its way: an asker that looks meanwhile waits for it.
            shared.reply(&message, &AppendAnswer::Done(outcomes));
            drop(held);
        });
    }

    pub(super) fn reply(&self, message: &BusMessage, what: &impl Serialize) {
        if let Some(to) = &message.reply {
            self.bus.answer(to, wire::encode(what));
        }
    }
}

fn read<T: DeserializeOwned>(message: &BusMessage) -> Option<T> {
    let read = wire::decode(&message.payload);
    if let Err(error) = &read {
        tracing::warn!(subject = %message.subject, %error, "a message of another node cannot be read");
    }
    read.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_known_by_its_number_and_bounded_in_bytes() {
        let under_way = Arc::<UnderWay>::default();
        let (first, again) = (under_way.enter(7, 1_000), under_way.enter(7, 1_000));
        assert!(under_way.has(7) && !under_way.has(8));
        drop(first);
        assert!(under_way.has(7), "asked twice, answered once");
        drop(again);
        assert!(!under_way.has(7));
        let all: Vec<_> = (0..200).map_while(|id| under_way.enter(id, 512 << 10)).collect();
        assert_eq!(all.len(), 127);
        drop(all);
        assert_eq!(under_way.0.lock().bytes, 0);
    }
}
