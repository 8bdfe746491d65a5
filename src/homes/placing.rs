//! Which slots this node takes and which it hands over, without anybody waiting for it: what rendezvous gives to whom,
//! notes that ask for a slot, and everything when the node drains. Bounded and spread, so that a node that comes or goes
//! does not move hundreds of slots at once. A task of [`super::keep`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use compact_str::CompactString;
use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{Shared, jittered, rendezvous, takeover::Taking, wire::TakeAnswer};
use crate::store::slots::{Incarnation, Slot, Take};

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Changes of home under way at once.
const AT_ONCE: usize = 16;
/// Most slots handed over per look.
const PER_LOOK: usize = 32;
/// A slot stays at least this long: two nodes that both want it, without NATS, would do nothing but move it.
const STAY: Duration = Duration::from_secs(1);
/// A slot that was asked for through the store is not moved by rendezvous for this long.
const WANTED: Duration = Duration::from_secs(60);
/// Where the others hand over to this node what it should have, it looks for what nobody has after this time.
const MOVING: Duration = Duration::from_secs(15);
/// And in any case this often.
const EVERY: Duration = Duration::from_secs(60);
/// How long the connection must have stood before anything is moved.
const CALM: Duration = Duration::from_secs(4);
/// How long a drain may take to hand everything over.
pub(crate) const LEAVE: Duration = Duration::from_secs(8);

/// Since when slots are held, and when they were last asked for through the store.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    since: BTreeMap<Slot, Instant>,
    wanted: BTreeMap<Slot, Instant>,
}

impl Tenure {
    /// These are held now.
    pub(super) fn follow(&mut self, held: &BTreeSet<Slot>, now: Instant) {
        self.since.retain(|slot, _| held.contains(slot));
        for slot in held {
            self.since.entry(*slot).or_insert(now);
        }
        self.wanted.retain(|_, at| now.saturating_duration_since(*at) < WANTED);
    }

    fn may_go(&self, slot: Slot, now: Instant) -> bool {
        self.since.get(&slot).is_some_and(|since| now.saturating_duration_since(*since) >= STAY)
    }
}

/// Among whom slots were placed at the last look, by which life of this node, and when what nobody has is looked for.
struct Places {
    who: Incarnation,
    names: Vec<CompactString>,
    due: Instant,
}

impl Shared {
    pub(super) async fn place_always(self: Arc<Self>) {
        let mut places = Places { who: self.slots.incarnation(), names: Vec::new(), due: Instant::now() };
        loop {
            sleep(jittered(LOOK)).await;
            if self.is_leaving() || self.slots.is_stuck() {
                continue;
            }
            self.give_wanted().await;
            let now = Instant::now();
            let steady = {
                let roster = self.roster.lock();
                roster.is_settled(now).then(|| roster.steady(now))
            };
            let Some(steady) = steady.filter(|_| self.is_linked_for(CALM)) else { continue };
            self.give_by_rendezvous(&steady).await;
            self.take_by_rendezvous(&steady, &mut places).await;
        }
    }

    /// Hands over what others ask for through the store.
    async fn give_wanted(self: &Arc<Self>) {
        let wanted = match self.slots.wanted().await {
            Ok(wanted) => wanted,
            Err(error) => return tracing::debug!(%error, "cannot read the notes that ask for slots"),
        };
        let now = Instant::now();
        let ripe = |(slot, by): &(Slot, Incarnation)| {
            by.node != self.own && self.slots.holds(*slot) && self.tenure.lock().may_go(*slot, now)
        };
        let ripe: BTreeMap<_, _> = wanted.into_iter().filter(ripe).collect();
        for slot in ripe.keys() {
            self.tenure.lock().wanted.insert(*slot, now);
        }
        self.give_all(ripe).await;
    }

    /// Hands over what others should have.
    async fn give_by_rendezvous(self: &Arc<Self>, steady: &[Incarnation]) {
        let now = Instant::now();
        let mut gifts: Vec<_> = {
            let tenure = self.tenure.lock();
            let held = self.slots.held().into_iter();
            let free = held.filter(|slot| tenure.may_go(*slot, now) && !tenure.wanted.contains_key(slot));
            free.filter_map(|slot| Some((slot, self.better_home(slot, steady)?.clone()))).collect()
        };
        gifts.truncate(PER_LOOK);
        self.give_all(gifts).await;
    }

    /// Another node that should have the slot.
    fn better_home<'a>(&self, slot: Slot, steady: &'a [Incarnation]) -> Option<&'a Incarnation> {
        let names = steady.iter().map(|who| who.node.as_str()).chain([self.own.as_str()]);
        let best = rendezvous::best(slot, names)?;
        steady.iter().find(|who| who.node == best)
    }

    async fn give_all(self: &Arc<Self>, gifts: impl IntoIterator<Item = (Slot, Incarnation)>) {
        let give = |(slot, to): (Slot, Incarnation)| async move { self.give(slot, &to).await };
        stream::iter(gifts).for_each_concurrent(AT_ONCE, give).await;
    }

    /// Hands a slot over and tells its new home. A home that is not told finds out from whoever asks next.
    async fn give(self: &Arc<Self>, slot: Slot, to: &Incarnation) {
        match self.slots.hand_over(slot, to).await {
            Ok(true) => {
                self.metrics.slots_handed_over.inc();
                tracing::debug!(%slot, %to, "handed a slot over");
                if !matches!(self.ask_to_take(&to.node, slot, true).await, Some(TakeAnswer::HomeIs(_))) {
                    tracing::debug!(%slot, %to, "the new home of a slot did not say that it has it");
                }
            }
            Ok(false) => tracing::debug!(%slot, %to, "a slot was not handed over"),
            Err(error) => tracing::debug!(%slot, %to, %error, "a slot was not handed over"),
        }
    }

    /// Takes what this node should have and nobody has.
    async fn take_by_rendezvous(self: &Arc<Self>, steady: &[Incarnation], places: &mut Places) {
        let now = Instant::now();
        let names: Vec<_> = steady.iter().map(|who| who.node.clone()).collect();
        if names != places.names {
            places.names = names;
            places.due = now;
        }
        let who = self.slots.incarnation();
        if who != places.who {
            // Fenced: whatever made this node too slow may last. Nobody waits for what it had; who does, takes it.
            places.who = who;
            places.due = now + jittered(MOVING);
        }
        if now < places.due {
            return;
        }
        let own = Slot::all().filter(|slot| !self.slots.holds(*slot) && self.better_home(*slot, steady).is_none());
        let (own, found) = (own.collect::<Vec<_>>(), AtomicBool::new(false));
        let moving = &found;
        let take = |slot| async move {
            // One that is held tells that the rest is, too: a read for each of hundreds of slots would tell nothing more.
            if !moving.load(Ordering::Acquire) && self.take_abandoned(slot).await {
                moving.store(true, Ordering::Release);
            }
        };
        stream::iter(own).for_each_concurrent(AT_ONCE, take).await;
        places.due = Instant::now() + jittered(if found.into_inner() { MOVING } else { EVERY });
    }

    /// True when its home is there, and will hand it over when its turn comes.
    async fn take_abandoned(self: &Arc<Self>, slot: Slot) -> bool {
        match self.slots.take(slot).await {
            Ok(Take::Held(by)) if self.roster.lock().hears(&by, Instant::now()) => return true,
            Ok(Take::Held(_)) => {
                if let Taking::Kept(_, words) | Taking::Failed(words) = self.take_over(slot, false).await {
                    tracing::debug!(%slot, %words, "a slot stays with a silent home");
                }
            }
            Ok(Take::Mine) => {}
            Err(error) => tracing::debug!(%slot, %error, "a slot was not taken"),
        }
        false
    }

    /// Hands every slot over, for as long as a drain may take, and takes none from now on.
    pub(super) async fn hand_all_over(self: &Arc<Self>) {
        self.leaving.store(true, Ordering::Release);
        self.announce();
        let handing = async {
            loop {
                let staying = self.roster.lock().staying(Instant::now());
                let held = self.slots.held();
                if staying.is_empty() || held.is_empty() || self.bus.connected().is_none() {
                    return;
                }
                let best = |slot| {
                    let name = rendezvous::best(slot, staying.iter().map(|who| who.node.as_str()))?;
                    Some((slot, staying.iter().find(|who| who.node == name)?.clone()))
                };
                self.give_all(held.into_iter().filter_map(best)).await;
                sleep(jittered(LOOK / 20)).await;
            }
        };
        if timeout(LEAVE, handing).await.is_err() {
            let left = self.slots.held().len();
            tracing::warn!(left, "the drain ends before every slot was handed over: the others take the rest");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_for_a_while_and_longer_where_it_was_asked_for() {
        let (mut tenure, begin) = (Tenure::default(), Instant::now());
        let (slot, at) = (Slot::new(3).unwrap(), |millis| begin + Duration::from_millis(millis));
        let held = BTreeSet::from([slot]);
        assert!(!tenure.may_go(slot, begin));
        tenure.follow(&held, begin);
        assert!(!tenure.may_go(slot, at(999)) && tenure.may_go(slot, at(1_000)));
        tenure.follow(&BTreeSet::new(), at(2_000));
        tenure.follow(&held, at(2_500));
        assert!(!tenure.may_go(slot, at(3_000)), "taken again");
        tenure.wanted.insert(slot, at(2_500));
        tenure.follow(&held, at(62_000));
        assert!(tenure.wanted.contains_key(&slot));
        tenure.follow(&held, at(62_500));
        assert!(!tenure.wanted.contains_key(&slot));
    }
}
