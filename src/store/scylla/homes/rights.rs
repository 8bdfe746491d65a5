//! The engine's [`Slots`]: how a process becomes home, stops being it, and takes the right from another one.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{Inner, Me};
use crate::store::{
    STORE_DEADLINE, StoreError, StoreFuture, StoreResult,
    scylla::{
        ScyllaStore,
        retry::{AFTER_ERROR, Backoff},
        rows, signed, unsigned,
    },
    slots::{Incarnation, Slot, Slots, Take, Term},
};

/// How long appends under way may take to end before a slot is handed over without them.
const ENDING: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);

impl Slots for ScyllaStore {
    fn incarnation(&self) -> Incarnation {
        self.inner.homes.me.read().who.clone()
    }

    fn holds(&self, slot: Slot) -> bool {
        let held = self.inner.homes.slot(slot).lock();
        held.epoch.is_some() && !held.leaving
    }

    fn held(&self) -> Vec<Slot> {
        Slot::all().filter(|slot| self.holds(*slot)).collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.homes.changes.subscribe()
    }

    fn term(&self, slot: Slot) -> StoreFuture<'_, Option<Term>> {
        self.bounded(async move { Ok(self.inner.read_term(slot).await?) })
    }

    fn take(&self, slot: Slot) -> StoreFuture<'_, Take> {
        self.bounded(self.inner.take(slot))
    }

    fn fence<'a>(&'a self, who: &'a Incarnation) -> StoreFuture<'a, ()> {
        self.bounded(async move {
            self.inner.fence_incarnation(who).await;
            tracing::warn!(%who, "fenced an incarnation: what it writes from now on is never answered");
            Ok(())
        })
    }

    fn hand_over<'a>(&'a self, slot: Slot, to: &'a Incarnation) -> StoreFuture<'a, bool> {
        self.bounded(self.inner.hand_over(slot, to))
    }

    fn is_stuck(&self) -> bool {
        self.inner.homes.pulse.is_stuck()
    }

    fn want<'a>(&'a self, slot: Slot, home: &'a Incarnation) -> StoreFuture<'a, ()> {
        self.bounded(async move {
            let me = self.inner.homes.me()?;
            let values = (home.to_string(), i32::from(slot.number()), me.node.as_str(), signed(me.number));
            self.inner.ask(&self.inner.cql.want, values).await?;
            Ok(())
        })
    }

    fn wanted(&self) -> StoreFuture<'_, Vec<(Slot, Incarnation)>> {
        self.bounded(async move {
            let me = self.inner.homes.me()?;
            let answer = self.inner.ask(&self.inner.cql.wanted, (me.to_string(),)).await?;
            let notes = rows::all::<(i32, String, i64)>(answer)?;
            let note = |(slot, node, number): (i32, String, i64)| {
                let slot = u16::try_from(slot).ok().and_then(Slot::new)?;
                Some((slot, Incarnation { node: node.into(), number: unsigned(number) }))
            };
            Ok(notes.into_iter().filter_map(note).collect())
        })
    }
}

impl Inner {
    async fn take(self: &Arc<Self>, slot: Slot) -> StoreResult<Take> {
        let mut backoff = Backoff::new();
        loop {
            let me = self.homes.me()?;
            match self.try_to_take(slot, &me).await {
                Ok(Some(take)) => return Ok(take),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%slot, %error, "taking a slot: looking again");
                    backoff.wait(AFTER_ERROR).await;
                }
            }
        }
    }

    /// One look at the record and one proposal; `None` to look again.
    async fn try_to_take(self: &Arc<Self>, slot: Slot, me: &Incarnation) -> StoreResult<Option<Take>> {
        let term = self.read_term(slot).await?;
        if let Some(Term { epoch, home }) = &term {
            if home == me && self.homes.begin(slot, *epoch, me) {
                return Ok(Some(Take::Mine));
            }
            if home.node == me.node && home.number < me.number {
                // A former life of this process: its word is enough.
                self.fence_incarnation(home).await;
            } else if home != me && !self.is_fenced_for_good(home).await? {
                return Ok(Some(Take::Held(home.clone())));
            }
        }
        let epoch = term.as_ref().map_or(0, |term| term.epoch) + 1;
        let won = self.propose(slot, term.as_ref(), me).await?;
        Ok((won && self.homes.begin(slot, epoch, me)).then_some(Take::Mine))
    }

    /// The role of this epoch has ended before the proposal leaves, whatever becomes of that (F8).
    async fn hand_over(self: &Arc<Self>, slot: Slot, to: &Incarnation) -> StoreResult<bool> {
        let me = self.homes.me()?;
        if !self.end_what_is_under_way(slot).await {
            return Ok(false);
        }
        let Some(epoch) = self.homes.lose(slot) else { return Ok(false) };
        let from = Term { epoch, home: me };
        let mut backoff = Backoff::new();
        loop {
            match self.propose(slot, Some(&from), to).await {
                Ok(true) => return Ok(true),
                Ok(false) => return Ok(self.read_term(slot).await?.is_some_and(|term| term.home == *to)),
                Err(_) => backoff.wait(AFTER_ERROR).await,
            }
        }
    }

    /// Takes no more appends and waits a moment for those under way. False when the slot is not held.
    async fn end_what_is_under_way(&self, slot: Slot) -> bool {
        let until = Instant::now() + ENDING;
        loop {
            {
                let mut held = self.homes.slot(slot).lock();
                if held.epoch.is_none() {
                    return false;
                }
                held.leaving = true;
                if held.is_quiet() || Instant::now() >= until {
                    return true;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Another node fenced this process: it starts again as a new incarnation, with no slots.
    pub(super) fn on_fenced(self: &Arc<Self>, number: u64) {
        if !self.homes.lose_all(number) {
            return;
        }
        tracing::error!(incarnation = number, "this node was fenced by another one; it goes on as a new incarnation");
        let inner = self.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff::new();
            while inner.begin_life().await.is_err() {
                backoff.wait(AFTER_ERROR).await;
            }
        });
    }

    /// Asks for a number until there is one: an answer that is lost may have taken it, and then the next one is free.
    async fn next_life(&self, node: &str) -> StoreResult<Incarnation> {
        let until = Instant::now() + STORE_DEADLINE;
        let (mut backoff, mut last) = (Backoff::new(), StoreError::unavailable("no answer in time"));
        while let Ok(begun) = timeout_at(until, self.new_incarnation(node)).await {
            match begun {
                Ok(me) => return Ok(me),
                Err(error) => last = error.into(),
            }
            backoff.wait(AFTER_ERROR).await;
        }
        Err(last)
    }

    /// Ends the incarnation: it is fenced by its own word.
    pub(in crate::store::scylla) async fn end_life(self: &Arc<Self>) -> StoreResult<()> {
        let me = self.homes.me()?;
        self.homes.lose_all(me.number);
        self.fence_incarnation(&me).await;
        Ok(())
    }

    /// Takes a new incarnation.
    pub(in crate::store::scylla) async fn begin_life(self: &Arc<Self>) -> StoreResult<()> {
        let node = self.homes.me.read().who.node.clone();
        let me = self.next_life(&node).await?;
        tracing::info!(incarnation = %me, "a new incarnation");
        *self.homes.me.write() = Me { who: me, alive: true };
        self.homes.changed();
        Ok(())
    }
}
