//! A store of the tests that several nodes share, with homes: what the CQL engine promises of [`Slots`] and of an append,
//! in memory, and with faults as values. It checks that nobody but a home ever finishes an append, and that an engine
//! has one append of a conversation at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use natter::{
    model::{ConvId, NewMessage, Row, Seq},
    store::{
        Appended, Logs, Span, StoreError, StoreFuture, StoreResult,
        slots::{Incarnation, Slot, Slots, Take, Term},
    },
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

/// What is durable: shared by all engines.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last_number: HashMap<String, u64>,
    fenced: Vec<Incarnation>,
    slots: BTreeMap<Slot, Term>,
    logs: HashMap<ConvId, Vec<NewMessage>>,
    wanted: Vec<(Slot, Incarnation, Incarnation, Instant)>,
}

impl Record {
    /// Everybody who was fenced, in order.
    pub fn fenced(&self) -> Vec<Incarnation> {
        self.0.lock().fenced.clone()
    }

    /// The homes on record.
    pub fn homes(&self) -> BTreeMap<Slot, Incarnation> {
        self.0.lock().slots.iter().map(|(slot, term)| (*slot, term.home.clone())).collect()
    }

    /// Gives a slot away behind its home's back.
    pub fn assign(&self, slot: Slot, home: Incarnation) {
        let mut state = self.0.lock();
        let epoch = state.slots.get(&slot).map_or(0, |term| term.epoch) + 1;
        state.slots.insert(slot, Term { epoch, home });
    }

    /// The cids of a log, in order.
    pub fn cids(&self, conv: &ConvId) -> Vec<String> {
        self.0.lock().logs.get(conv).into_iter().flatten().map(|message| message.cid.to_string()).collect()
    }
}

/// One process's side of it.
pub struct Engine {
    record: Record,
    me: Mutex<Incarnation>,
    /// With the epoch of each.
    held: Mutex<BTreeMap<Slot, u64>>,
    changes: watch::Sender<u64>,
    /// While false, appends wait: a slow disk, or a stopped process.
    open: watch::Sender<bool>,
    under_way: Mutex<BTreeSet<ConvId>>,
    /// Appends begun, and times that one conversation had two at once.
    pub appends: AtomicUsize,
    pub collisions: AtomicUsize,
    /// Conversations that were mended here.
    pub mended: Mutex<Vec<ConvId>>,
}

impl Engine {
    pub fn new(record: &Record, node: &str) -> Arc<Self> {
        Arc::new(Self {
            me: Mutex::new(record.new_life(node)),
            record: record.clone(),
            held: Mutex::default(),
            changes: watch::Sender::new(0),
            open: watch::Sender::new(true),
            under_way: Mutex::default(),
            appends: AtomicUsize::new(0),
            collisions: AtomicUsize::new(0),
            mended: Mutex::default(),
        })
    }

    /// Holds appends back, or lets them go on.
    pub fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub fn begun(&self) -> usize {
        self.appends.load(Ordering::Acquire)
    }

    /// A round trip to the store, which differs each time.
    async fn trip(&self) {
        sleep(Duration::from_micros(rand::random_range(200..3_000))).await;
    }

    fn changed(&self) {
        self.changes.send_modify(|change| *change += 1);
    }

    /// F5: whether this process still has the right to write. If not, it begins anew.
    fn is_valid(&self, state: &mut State) -> bool {
        let me = self.me.lock().clone();
        let valid = !state.fenced.contains(&me);
        if !valid {
            *self.me.lock() = state.new_life(&me.node);
            self.held.lock().clear();
            self.changed();
        }
        valid
    }

    async fn append_all(&self, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let (slot, count) = (Slot::of(conv), batch.len());
        let Some(epoch) = self.held.lock().get(&slot).copied() else { return vec![Err(StoreError::NotHome); count] };
        self.appends.fetch_add(1, Ordering::AcqRel);
        if !self.under_way.lock().insert(conv.clone()) {
            self.collisions.fetch_add(1, Ordering::AcqRel);
        }
        self.trip().await;
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        self.under_way.lock().remove(conv);
        let mut state = self.record.0.lock();
        let unknown = || vec![Err(StoreError::unavailable("the right to write is gone")); count];
        if !self.is_valid(&mut state) {
            return unknown();
        }
        if state.slots.get(&slot).is_none_or(|term| term.epoch != epoch) {
            self.held.lock().remove(&slot);
            self.changed();
            return vec![Err(StoreError::NotHome); count];
        }
        let log = state.logs.entry(conv.clone()).or_default();
        batch.into_iter().map(|message| Ok(place(log, message))).collect()
    }
}

fn place(log: &mut Vec<NewMessage>, message: NewMessage) -> Appended {
    let same = |stored: &NewMessage| stored.sender == message.sender && stored.cid == message.cid;
    let (at, fresh) = match log.iter().position(same) {
        Some(at) => (at, false),
        None => {
            log.push(message);
            (log.len() - 1, true)
        }
    };
    Appended { seq: at as Seq + 1, ts: log[at].ts, fresh, expires: None }
}

impl Record {
    fn new_life(&self, node: &str) -> Incarnation {
        self.0.lock().new_life(node)
    }
}

impl State {
    fn new_life(&mut self, node: &str) -> Incarnation {
        let number = self.last_number.entry(node.to_owned()).or_default();
        *number += 1;
        Incarnation { node: node.into(), number: *number }
    }

    fn fence(&mut self, who: &Incarnation) {
        if !self.fenced.contains(who) {
            self.fenced.push(who.clone());
        }
    }
}

impl Logs for Engine {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        self.append_all(conv, batch).boxed()
    }

    fn read_after<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn read_before<'a>(&'a self, _: &'a ConvId, _: Seq, _: Span) -> StoreFuture<'a, Vec<Row>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        async { Ok(self.record.cids(conv).len() as Seq) }.boxed()
    }

    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        async move {
            self.trip().await;
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            if !self.holds(Slot::of(conv)) {
                return Err(StoreError::NotHome);
            }
            self.mended.lock().push(conv.clone());
            Ok(self.record.cids(conv).len() as Seq)
        }
        .boxed()
    }
}

impl Slots for Engine {
    fn incarnation(&self) -> Incarnation {
        self.me.lock().clone()
    }

    fn holds(&self, slot: Slot) -> bool {
        self.held.lock().contains_key(&slot)
    }

    fn held(&self) -> Vec<Slot> {
        self.held.lock().keys().copied().collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn term(&self, slot: Slot) -> StoreFuture<'_, Option<Term>> {
        async move {
            self.trip().await;
            Ok(self.record.0.lock().slots.get(&slot).cloned())
        }
        .boxed()
    }

    fn take(&self, slot: Slot) -> StoreFuture<'_, Take> {
        async move {
            self.trip().await;
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            let mut state = self.record.0.lock();
            self.is_valid(&mut state);
            let me = self.me.lock().clone();
            let epoch = match state.slots.get(&slot).cloned() {
                Some(Term { epoch, home }) if home == me && self.held.lock().get(&slot) == Some(&epoch) => epoch,
                Some(Term { epoch, home }) => {
                    if home.node == me.node && home != me {
                        state.fence(&home);
                    }
                    if home != me && !state.fenced.contains(&home) {
                        return Ok(Take::Held(home));
                    }
                    epoch + 1
                }
                None => 1,
            };
            state.slots.insert(slot, Term { epoch, home: me });
            self.held.lock().insert(slot, epoch);
            self.changed();
            Ok(Take::Mine)
        }
        .boxed()
    }

    fn fence<'a>(&'a self, who: &'a Incarnation) -> StoreFuture<'a, ()> {
        async move {
            self.trip().await;
            self.record.0.lock().fence(who);
            Ok(())
        }
        .boxed()
    }

    fn hand_over<'a>(&'a self, slot: Slot, to: &'a Incarnation) -> StoreFuture<'a, bool> {
        async move {
            let Some(epoch) = self.held.lock().remove(&slot) else { return Ok(false) };
            self.changed();
            self.trip().await;
            let mut state = self.record.0.lock();
            let home = self.me.lock().clone();
            let mine = state.slots.get(&slot) == Some(&Term { epoch, home });
            if mine {
                state.slots.insert(slot, Term { epoch: epoch + 1, home: to.clone() });
            }
            Ok(mine)
        }
        .boxed()
    }

    fn is_stuck(&self) -> bool {
        false
    }

    fn want<'a>(&'a self, slot: Slot, home: &'a Incarnation) -> StoreFuture<'a, ()> {
        async move {
            self.trip().await;
            let by = self.me.lock().clone();
            self.record.0.lock().wanted.push((slot, home.clone(), by, Instant::now()));
            Ok(())
        }
        .boxed()
    }

    fn wanted(&self) -> StoreFuture<'_, Vec<(Slot, Incarnation)>> {
        async move {
            self.trip().await;
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            let me = self.me.lock().clone();
            let state = self.record.0.lock();
            let fresh = state.wanted.iter().filter(|(_, home, _, at)| *home == me && at.elapsed().as_secs() < 3);
            Ok(fresh.map(|(slot, _, by, _)| (*slot, by.clone())).collect())
        }
        .boxed()
    }
}
