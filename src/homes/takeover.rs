//! Finding the home of a slot that does not answer where it should, and making one where there is none: the best live node
//! by rendezvous takes it (F2). Called by [`super::route`] for a send that waits, by [`super::serve`] for another node,
//! and by [`super::placing`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use compact_str::CompactString;
use futures_util::FutureExt as _;

use super::{
    Probed, Shared, Words,
    fencing::Fenced,
    rendezvous,
    wire::{TakeAnswer, TakeRequest},
};
use crate::{
    store::{
        StoreError,
        slots::{Incarnation, Slot, Take},
    },
    subject::Subject,
};

/// How long a node has to take a slot, fence included, before the next one is asked.
const TAKE: Duration = Duration::from_millis(1_000);
/// How often a slot is tried in a row: each round but the last ends a silent home.
const ROUNDS: usize = 4;

/// Where the home of a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// This process is.
    Here,
    /// This one is, and said so.
    At(Incarnation),
}

/// Or why there is none.
pub(super) type Finding = Result<Found, Words>;

/// What became of taking a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taking {
    /// There is a home.
    Home(Found),
    /// This home is silent and keeps it, for this reason.
    Kept(Incarnation, Words),
    /// The store did not answer.
    Failed(Words),
}

impl Shared {
    /// Finds the slot's home, or makes one. One search per slot at a time; who comes meanwhile shares it. `suspect` was
    /// just found silent.
    pub(super) async fn find(self: &Arc<Self>, slot: Slot, suspect: Option<Incarnation>) -> Finding {
        let shared = Arc::clone(self);
        let search = self.searches.join(slot, || async move { shared.search(slot, suspect).await }.boxed());
        let found = search.await.unwrap_or_else(|| Err("the search for the conversation's home failed".into()));
        if found.is_err() {
            self.metrics.homes_not_found.inc();
        }
        found
    }

    async fn search(self: Arc<Self>, slot: Slot, suspect: Option<Incarnation>) -> Finding {
        if self.slots.holds(slot) {
            return Ok(Found::Here);
        }
        let term = self.slots.term(slot).await.map_err(words)?;
        let Some(home) = term.map(|term| term.home) else { return self.place(slot, None).await };
        if home.node == self.own {
            // Of this process, which gave it up, or of a former life.
            return self.settle(slot, self.take_over(slot, false).await).await;
        }
        if suspect.as_ref() == Some(&home) || self.roster.lock().is_over(&home) {
            return self.place(slot, Some(home)).await;
        }
        match self.probe(&home, slot, 0).await {
            Probed::Same(alive) if alive.serves => Ok(Found::At(home)),
            // It does not know yet, or gave up and nobody took it.
            Probed::Same(_) => match self.ask_to_take(&home.node, slot, false).await {
                Some(TakeAnswer::HomeIs(who)) if who.node != self.own => Ok(Found::At(who)),
                Some(TakeAnswer::HomeIs(_)) => self.settle(slot, self.take_over(slot, false).await).await,
                Some(TakeAnswer::Leaving) => self.place(slot, Some(home)).await,
                Some(TakeAnswer::Refused(words)) => Err(words.into()),
                None => Err(format!("{home} should be home of the conversation and does not take it").into()),
            },
            Probed::Over | Probed::Silent => self.place(slot, Some(home)).await,
            Probed::Cut => self.want(slot, &home).await,
        }
    }

    /// Has the best node take a slot whose home is nobody, or `former`.
    async fn place(self: &Arc<Self>, slot: Slot, former: Option<Incarnation>) -> Finding {
        for name in self.candidates(slot, former.as_ref()) {
            if name == self.own {
                break;
            }
            match self.ask_to_take(&name, slot, false).await {
                Some(TakeAnswer::HomeIs(who)) if who.node != self.own => return Ok(Found::At(who)),
                Some(TakeAnswer::Refused(words)) => match &former {
                    Some(home) => return self.want(slot, home).await,
                    None => return Err(words.into()),
                },
                _ => {}
            }
        }
        self.settle(slot, self.take_over(slot, false).await).await
    }

    /// Where a silent home keeps the slot, the store is the way to it that is left.
    async fn settle(self: &Arc<Self>, slot: Slot, taking: Taking) -> Finding {
        match taking {
            Taking::Home(found) => Ok(found),
            Taking::Kept(home, words) => {
                tracing::debug!(%slot, %home, %words, "leaving a note for a home that NATS does not reach");
                self.want(slot, &home).await
            }
            Taking::Failed(words) => Err(words),
        }
    }

    /// The names of those who might take it, the best first: steady ones, then whoever is there, then this node.
    fn candidates(&self, slot: Slot, former: Option<&Incarnation>) -> Vec<CompactString> {
        let now = Instant::now();
        if self.bus.connected().is_none() {
            return vec![self.own.clone()];
        }
        let (mut steady, staying, settled) = {
            let roster = self.roster.lock();
            (roster.steady(now), roster.staying(now), roster.is_settled(now))
        };
        if settled && !self.is_leaving() && !self.slots.is_stuck() {
            steady.push(self.slots.incarnation());
        }
        let mut names = Vec::<CompactString>::new();
        for tier in [steady, staying] {
            let fit = tier.iter().filter(|who| Some(*who) != former).map(|who| who.node.as_str());
            for name in rendezvous::ranked(slot, fit) {
                if !names.iter().any(|known| known == name) {
                    names.push(name.into());
                }
            }
        }
        if !names.contains(&self.own) {
            names.push(self.own.clone());
        }
        names
    }

    /// Asks a node to take a slot, or tells it that it was given one.
    pub(super) async fn ask_to_take(&self, node: &str, slot: Slot, given: bool) -> Option<TakeAnswer> {
        self.ask(&Subject::node(node, "take"), &TakeRequest { slot, given }, TAKE).await.ok()
    }

    /// Becomes home of a slot, fencing a silent home on the way; of one that was `given`, only when it was. One at a time
    /// for each slot.
    pub(super) async fn take_over(self: &Arc<Self>, slot: Slot, given: bool) -> Taking {
        let shared = Arc::clone(self);
        let taking = self.takes.join(slot, || async move { shared.take(slot, given).await }.boxed());
        taking.await.unwrap_or_else(|| Taking::Failed("taking the conversation over failed".into()))
    }

    async fn take(self: Arc<Self>, slot: Slot, given: bool) -> Taking {
        for _ in 0..ROUNDS {
            if self.slots.holds(slot) {
                return Taking::Home(Found::Here);
            }
            match self.slots.take(slot).await {
                Ok(Take::Mine) => {
                    if !given {
                        self.metrics.takeovers.inc();
                    }
                    tracing::debug!(%slot, given, "home of a slot");
                    return Taking::Home(Found::Here);
                }
                Ok(Take::Held(by)) if given => return Taking::Home(Found::At(by)),
                Ok(Take::Held(by)) => match self.fence_silent(&by, slot).await {
                    Fenced::Done => {}
                    Fenced::Alive => return Taking::Home(Found::At(by)),
                    Fenced::Refused(words) => return Taking::Kept(by, words),
                },
                Err(error) => return Taking::Failed(words(error)),
            }
        }
        Taking::Failed("the conversation's home changes too fast; try again".into())
    }
}

/// What a caller is told when the store fails.
pub(super) fn words(error: StoreError) -> Words {
    match error {
        StoreError::Unavailable(words) => words,
        other => other.to_string().into(),
    }
}
