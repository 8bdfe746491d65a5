//! One conversation at this home, and the task that drives it while something is under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{Inner, io::Done};
use crate::{
    model::{ConvId, NewMessage, Seq},
    store::{
        Appended, StoreResult,
        fence::{Effect, Epoch, Limits, Role, Ticket},
        slots::Slot,
    },
};

/// Who waits for an answer. Dropped unanswered when the slot is lost.
#[derive(Debug)]
pub(super) enum Caller {
    Send(oneshot::Sender<StoreResult<Appended>>),
    Mend(oneshot::Sender<Seq>),
}

impl Ticket for Caller {
    fn is_gone(&self) -> bool {
        match self {
            Self::Send(caller) => caller.is_closed(),
            Self::Mend(caller) => caller.is_closed(),
        }
    }
}

/// A conversation in one epoch of its slot.
pub(super) struct Entry {
    pub(super) conv: ConvId,
    pub(super) slot: Slot,
    pub(super) epoch: Epoch,
    state: Mutex<State>,
    cids: AtomicUsize,
    /// Something changed that the task has not seen.
    wake: Notify,
}

struct State {
    /// `None` once the epoch has ended for it.
    role: Option<Role<Caller>>,
    driven: bool,
    used: u64,
}

impl Entry {
    pub(super) fn new(conv: ConvId, slot: Slot, epoch: Epoch, limits: Limits) -> Self {
        let state = State { role: Some(Role::new(conv.clone(), epoch, limits)), driven: false, used: 0 };
        let (state, cids, wake) = (Mutex::new(state), AtomicUsize::new(0), Notify::new());
        Self { conv, slot, epoch, state, cids, wake }
    }

    /// Takes sends; true when nothing drives the conversation: the caller must.
    pub(super) fn submit(
        &self,
        batch: Vec<NewMessage>,
        now: u64,
    ) -> (Vec<oneshot::Receiver<StoreResult<Appended>>>, bool) {
        let mut state = self.state.lock();
        state.used = now;
        let mut answers = Vec::with_capacity(batch.len());
        for message in batch {
            let (caller, answer) = oneshot::channel();
            answers.push(answer);
            if let Some(role) = &mut state.role {
                role.submit(Caller::Send(caller), message);
            }
        }
        (answers, self.has_work(&mut state))
    }

    /// Takes a mend; true as above.
    pub(super) fn mend(&self, now: u64) -> (oneshot::Receiver<Seq>, bool) {
        let mut state = self.state.lock();
        state.used = now;
        let (caller, answer) = oneshot::channel();
        if let Some(role) = &mut state.role {
            role.mend(Caller::Mend(caller));
        }
        (answer, self.has_work(&mut state))
    }

    fn has_work(&self, state: &mut State) -> bool {
        self.wake.notify_one();
        !std::mem::replace(&mut state.driven, true)
    }

    /// The epoch ends: everybody who waits hears so, and what is under way is abandoned.
    pub(super) fn end(&self) {
        let role = self.state.lock().role.take();
        self.wake.notify_one();
        drop(role.map(Role::end));
    }

    /// When it was last used, if it may be forgotten.
    pub(super) fn quiet_since(&self) -> Option<u64> {
        let state = self.state.lock();
        state.role.as_ref().is_none_or(Role::is_quiet).then_some(state.used)
    }

    /// How many cids it holds, as of the last change.
    pub(super) fn cids(&self) -> usize {
        self.cids.load(Ordering::Relaxed)
    }

    /// What is to be done; `None` when the task is no longer needed.
    fn next(&self, resting: bool) -> Option<Vec<Effect<Caller>>> {
        let mut state = self.state.lock();
        let effects = state.role.as_mut()?.take_effects();
        if effects.is_empty() && resting {
            state.driven = false;
            return None;
        }
        Some(effects)
    }

    fn on(&self, event: crate::store::fence::Event) {
        if let Some(role) = &mut self.state.lock().role {
            role.on(event);
            self.cids.store(role.cids(), Ordering::Relaxed);
        }
    }
}

/// Carries out what the role wants until it wants nothing more. Ends, and drops what is under way, when the epoch does.
pub(super) async fn drive(inner: Arc<Inner>, entry: Arc<Entry>) {
    let guard = GiveUpOnPanic { inner: &inner, slot: entry.slot };
    let mut under_way = FuturesUnordered::new();
    while let Some(effects) = entry.next(under_way.is_empty()) {
        for effect in effects {
            match effect {
                Effect::Answer(Caller::Send(caller), result) => drop(caller.send(result)),
                Effect::Mended(Caller::Mend(caller), seq) => drop(caller.send(seq)),
                effect => under_way.push(inner.carry_out(&entry, effect)),
            }
        }
        if under_way.is_empty() {
            continue;
        }
        tokio::select! {
            done = under_way.next() => match done {
                Some(Done::Event(event)) => entry.on(event),
                Some(Done::Fenced(number)) => inner.on_fenced(number),
                Some(Done::Stopped) => drop(inner.homes.lose(entry.slot)),
                None => {}
            },
            () = entry.wake.notified() => {}
        }
    }
    std::mem::forget(guard);
}

/// A panic leaves writes behind of which nobody knows whether they were acknowledged: the slot begins anew (F7).
struct GiveUpOnPanic<'a> {
    inner: &'a Arc<Inner>,
    slot: Slot,
}

impl Drop for GiveUpOnPanic<'_> {
    fn drop(&mut self) {
        tracing::error!(slot = %self.slot, "an append ended without an answer; its slot is given up and taken anew");
        self.inner.homes.lose(self.slot);
    }
}
