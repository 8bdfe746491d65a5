//! Taking the right to write from a home that is silent (F2). It takes the word of most of the nodes still heard, each of
//! which asks the silent one itself, and is limited. It is safe in any case: what is at stake here is only that a slow
//! node, or one that is cut off, does not take the mesh's homes away. Called by [`super::takeover`].

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use parking_lot::Mutex;

use super::{
    PROBE, Probed, Shared,
    flights::Flights,
    limits::Limits,
    wire::{Word, WordRequest},
};
use crate::{
    store::slots::{Incarnation, Slot},
    subject::Subject,
};

/// A node that was cut off from NATS hears everybody again only after their next announcements: until then it would
/// take the others for dead.
const CALM: Duration = Duration::from_secs(2);
/// How long a node has for its word: its own probe, and the way.
const WORD: Duration = PROBE.saturating_add(Duration::from_millis(150));
/// How many fenced incarnations are remembered.
const REMEMBERED: usize = 64;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fenced {
    /// It is fenced: whatever it had can be taken.
    Done,
    /// It answers, and keeps what it has.
    Alive,
    /// Not done, for this reason.
    Refused(Arc<str>),
}

/// Whether a fence is in order.
enum May {
    /// A later life of its name is there: this one is no guess, and needs no limit.
    AsOver,
    /// Most who have a word find it silent.
    AsSilent,
    Not(Fenced),
}

/// What a node knows of fences.
pub(super) struct Fencing {
    under_way: Flights<Incarnation, Fenced>,
    limits: Mutex<Limits>,
    done: Mutex<VecDeque<Incarnation>>,
}

impl Fencing {
    pub(super) fn new() -> Self {
        Self { under_way: Flights::new(), limits: Mutex::default(), done: Mutex::default() }
    }

    fn is_done(&self, who: &Incarnation) -> bool {
        self.done.lock().contains(who)
    }
}

impl Shared {
    /// Fences a home that others find silent, too. One at a time for each incarnation; who asks meanwhile shares it.
    pub(super) async fn fence_silent(self: &Arc<Self>, who: &Incarnation, slot: Slot) -> Fenced {
        let (shared, about) = (Arc::clone(self), who.clone());
        let outcome = self.fencing.under_way.join(who.clone(), || {
            async move {
                match shared.may_fence(&about, slot).await {
                    May::AsOver => shared.fence_by_store(&about).await,
                    May::AsSilent => shared.fence(&about).await,
                    May::Not(why) => why,
                }
            }
            .boxed()
        });
        outcome.await.unwrap_or_else(|| Fenced::Refused("the fence failed".into()))
    }

    /// Fences without asking anybody, but within the limits.
    async fn fence(&self, who: &Incarnation) -> Fenced {
        if self.fencing.is_done(who) {
            return Fenced::Done;
        }
        if self.slots.is_stuck() {
            return Fenced::Refused("the store does not answer this node, or only just does: it fences nobody".into());
        }
        if !self.fencing.limits.lock().admit(&who.node, Instant::now()) {
            let words = format!("{who} is silent, and too many homes were fenced within a minute to fence one more");
            return Fenced::Refused(words.into());
        }
        self.fence_by_store(who).await
    }

    /// Fences one that gave no sign for a long time, whoever else may think so: within the limits, unless it is over.
    pub(super) async fn fence_given_up(&self, who: &Incarnation) -> Fenced {
        let over = self.roster.lock().is_over(who);
        if over { self.fence_by_store(who).await } else { self.fence(who).await }
    }

    async fn fence_by_store(&self, who: &Incarnation) -> Fenced {
        if self.fencing.is_done(who) {
            return Fenced::Done;
        }
        if let Err(error) = self.slots.fence(who).await {
            return Fenced::Refused(format!("{who} could not be fenced: {error}").into());
        }
        tracing::warn!(home = %who, "fenced a home that does not answer: its slots can be taken");
        self.metrics.homes_fenced.inc();
        let mut done = self.fencing.done.lock();
        done.push_back(who.clone());
        if done.len() > REMEMBERED {
            done.pop_front();
        }
        Fenced::Done
    }

    async fn may_fence(&self, who: &Incarnation, slot: Slot) -> May {
        let refused = |words: String| May::Not(Fenced::Refused(words.into()));
        let now = Instant::now();
        let (over, voters) = {
            let roster = self.roster.lock();
            (roster.is_over(who), roster.recent(now))
        };
        // Its own later life says so, or it was fenced by this node already.
        if over || self.fencing.is_done(who) {
            return May::AsOver;
        }
        let voters: Vec<_> = voters.into_iter().filter(|voter| voter.node != who.node).collect();
        let words = join_all(voters.iter().map(|voter| self.word_of(voter, who)));
        let (own, words) = tokio::join!(self.probe(who, slot, 0), words);
        let silent = words.iter().filter(|word| **word == Some(false)).count();
        match own {
            Probed::Over => return May::AsOver,
            _ if !self.is_linked_for(CALM) => {
                return refused("this node is cut off from NATS, or was just now: it fences nobody".into());
            }
            Probed::Same(_) => return May::Not(Fenced::Alive),
            Probed::Cut => return refused("this node is cut off from NATS: it fences nobody".into()),
            Probed::Silent => {}
        }
        // This node's own word counts as well; of one alone it is most.
        let (say, have) = (silent + 1, voters.len() + 1);
        if say * 2 > have {
            return May::AsSilent;
        }
        tracing::warn!(home = %who, say, have, "a home is silent, but too few nodes say so");
        refused(format!("{who} is silent, but only {say} of {have} nodes say so"))
    }

    async fn word_of(&self, voter: &Incarnation, on: &Incarnation) -> Option<bool> {
        let subject = Subject::node(&voter.node, "word");
        self.ask::<Word>(&subject, &WordRequest { on: on.clone() }, WORD).await.ok().map(|word| word.alive)
    }

    /// This node's word, for another that asks for it.
    pub(super) async fn own_word(&self, on: &Incarnation) -> Word {
        let Some(slot) = Slot::new(0) else { return Word { alive: true } };
        // One's own life is over when it is not the present one.
        let alive = if on.node == self.own {
            *on == self.slots.incarnation()
        } else {
            matches!(self.probe(on, slot, 0).await, Probed::Same(_) | Probed::Cut)
        };
        Word { alive }
    }
}
