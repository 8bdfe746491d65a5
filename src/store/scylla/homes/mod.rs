//! The slots of which this process is home, and their conversations. `record` changes who is home in the store, `entry`
//! drives one conversation's [`Role`](crate::store::fence::Role), `io` carries out what it wants.
//!
//! One lock per slot guards its epoch together with its conversations: a slot that is lost takes all of them with it
//! before the record changes (F7, F8), and nothing of an earlier epoch can be entered into a later one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

pub(super) use self::io::key_of;
use self::{entry::Entry, gathered::Gathering, lives::Lives, pulse::Pulse, raiser::Raiser};
use super::{Inner, shared_query::SharedQuery};
use crate::{
    model::{ConvId, NewMessage, Seq, room::RoomLimits},
    store::{
        Appended, StoreError, StoreResult,
        fence::{Epoch, Limits},
        slots::{Incarnation, SLOTS, Slot},
    },
};

mod beside;
mod entry;
mod gathered;
mod io;
mod lives;
mod pulse;
mod raiser;
mod record;
mod rights;
mod rooms;

/// Conversations that a slot keeps in memory while none of them is in use.
const KEPT: usize = 128;
/// Cids that a slot keeps in memory: some 24 bytes each.
const KEPT_CIDS: usize = 4096;

/// All slots of one process.
pub(super) struct Homes {
    me: RwLock<Me>,
    slots: Vec<Mutex<Held>>,
    changes: watch::Sender<u64>,
    /// Counts uses, so that what was not used for longest is forgotten first.
    clock: AtomicU64,
    validations: SharedQuery<u64, StoreResult<bool>>,
    pulse: Pulse,
    raiser: Raiser,
    gathering: Gathering,
    lives: Lives,
    limits: Limits,
}

/// This process as a writer.
struct Me {
    who: Incarnation,
    /// False between the loss of one incarnation and the next one.
    alive: bool,
}

/// What this process has of a slot.
#[derive(Default)]
struct Held {
    /// The epoch in which it is home.
    epoch: Option<Epoch>,
    /// It is being handed over: what is under way ends, nothing new begins.
    leaving: bool,
    /// The last epoch in which it was home: it never serves one twice.
    last: Epoch,
    entries: HashMap<ConvId, Arc<Entry>>,
}

impl Homes {
    pub(super) fn new(node: &str, writes_at_once: usize, rooms: RoomLimits) -> Self {
        Self {
            me: RwLock::new(Me { who: Incarnation { node: node.into(), number: 0 }, alive: false }),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            changes: watch::Sender::new(0),
            clock: AtomicU64::new(0),
            validations: SharedQuery::default(),
            pulse: Pulse::new(),
            raiser: Raiser::default(),
            gathering: Gathering::new(writes_at_once),
            lives: Lives::default(),
            limits: Limits { room: rooms, ..Limits::default() },
        }
    }

    fn slot(&self, slot: Slot) -> &Mutex<Held> {
        &self.slots[usize::from(slot.number())]
    }

    fn me(&self) -> StoreResult<Incarnation> {
        let me = self.me.read();
        if me.alive {
            return Ok(me.who.clone());
        }
        Err(StoreError::unavailable("this node was fenced and starts again as a new incarnation"))
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Takes up a slot in an epoch that the record gives to `me`. False when that came too late.
    fn begin(&self, slot: Slot, epoch: Epoch, me: &Incarnation) -> bool {
        let mut held = self.slot(slot).lock();
        if held.epoch == Some(epoch) {
            held.leaving = false;
            return true;
        }
        if epoch <= held.last || self.me().as_ref() != Ok(me) {
            return false;
        }
        let ended = std::mem::take(&mut held.entries);
        (held.epoch, held.last, held.leaving) = (Some(epoch), epoch, false);
        drop(held);
        ended.into_values().for_each(|entry| entry.end());
        self.changed();
        true
    }

    /// Gives a slot up at once: what is under way is abandoned and never validated.
    fn lose(&self, slot: Slot) -> Option<Epoch> {
        let mut held = self.slot(slot).lock();
        let (epoch, entries) = (held.epoch.take(), std::mem::take(&mut held.entries));
        held.leaving = false;
        // Under the lock: whoever takes the slot next finds nothing of this epoch under way.
        entries.into_values().for_each(|entry| entry.end());
        drop(held);
        if epoch.is_some() {
            self.changed();
        }
        epoch
    }

    /// The incarnation may write no more: all of its slots are gone. True for the first who says so.
    fn lose_all(&self, fenced: u64) -> bool {
        {
            let mut me = self.me.write();
            if !me.alive || me.who.number != fenced {
                return false;
            }
            me.alive = false;
        }
        Slot::all().for_each(|slot| {
            self.lose(slot);
        });
        true
    }
}

impl Inner {
    /// Appends at home, with answers until `deadline`; [`StoreError::NotHome`] for every message when this process is not.
    pub(super) async fn append(
        self: &Arc<Self>,
        conv: &ConvId,
        batch: Vec<NewMessage>,
        deadline: Instant,
    ) -> Vec<StoreResult<Appended>> {
        let count = batch.len();
        let answers = match self.submit(conv, batch) {
            Ok(answers) => answers,
            Err(e) => return vec![Err(e); count],
        };
        let mut results = Vec::with_capacity(count);
        for answer in answers {
            results.push(match timeout_at(deadline, answer).await {
                Ok(Ok(result)) => result,
                // Dropped with its conversation: the slot was lost.
                Ok(Err(_)) => Err(StoreError::NotHome),
                Err(_) => Err(StoreError::unavailable("no answer in time")),
            });
        }
        results
    }

    /// Brings all heads of a conversation to the end of its log, at home.
    pub(super) async fn mend(self: &Arc<Self>, conv: &ConvId) -> StoreResult<Seq> {
        let me = self.homes.me()?;
        let answer = self.enter(conv, Entry::mend)?;
        let seq = answer.await.map_err(|_| StoreError::NotHome)?;
        // As a batch (F5): a home that was fenced before the heads were raised may not know the end of the log.
        if self.is_valid(&me).await? {
            return Ok(seq);
        }
        self.on_fenced(me.number);
        Err(StoreError::NotHome)
    }

    fn submit(
        self: &Arc<Self>,
        conv: &ConvId,
        batch: Vec<NewMessage>,
    ) -> StoreResult<Vec<oneshot::Receiver<StoreResult<Appended>>>> {
        self.enter(conv, |entry, now| entry.submit(batch, now))
    }

    /// Gives work to the conversation's entry, which is made where there is none, and has it driven.
    fn enter<T>(self: &Arc<Self>, conv: &ConvId, give: impl FnOnce(&Entry, u64) -> (T, bool)) -> StoreResult<T> {
        let slot = Slot::of(conv);
        let mut held = self.homes.slot(slot).lock();
        let Some(epoch) = held.epoch.filter(|_| !held.leaving) else { return Err(StoreError::NotHome) };
        let limits = self.homes.limits;
        let known = held.entries.get(conv).cloned();
        let entry = known.unwrap_or_else(|| Arc::new(Entry::new(conv.clone(), slot, epoch, limits)));
        let (answers, idle) = give(&entry, self.homes.clock.fetch_add(1, Ordering::Relaxed));
        held.entries.insert(conv.clone(), entry.clone());
        held.forget_some();
        drop(held);
        if idle {
            tokio::spawn(entry::drive(self.clone(), entry));
        }
        Ok(answers)
    }
}

impl Held {
    /// Forgets the conversations that were not used for longest, of those that may be forgotten (F7).
    fn forget_some(&mut self) {
        let cids = |entries: &HashMap<ConvId, Arc<Entry>>| entries.values().map(|entry| entry.cids()).sum::<usize>();
        while self.entries.len() > KEPT || (self.entries.len() > 1 && cids(&self.entries) > KEPT_CIDS) {
            let quiet = self.entries.iter().filter_map(|(conv, entry)| entry.quiet_since().map(|used| (used, conv)));
            let Some(oldest) = quiet.min().map(|(_, conv)| conv.clone()) else { break };
            self.entries.remove(&oldest);
        }
    }

    fn is_quiet(&self) -> bool {
        self.entries.values().all(|entry| entry.quiet_since().is_some())
    }
}
