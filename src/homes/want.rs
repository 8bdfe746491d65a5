//! When NATS carries nothing between this node and a home, the store is the way that is left: a note asks for the slot,
//! the home finds it within a second and hands the slot over. If nobody reacts for seconds while the store answers, the
//! home is fenced. Called by [`super::takeover`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::{
    Shared, Words,
    fencing::Fenced,
    jittered,
    takeover::{Finding, Found, Taking, words},
};
use crate::store::slots::{Incarnation, Slot};

/// A connection that is only just lost comes back within this time, most often.
const BLINK: Duration = Duration::from_millis(500);
const BLINK_LOOK: Duration = Duration::from_millis(50);
/// How often the note is renewed: the store shows those of the last seconds.
const RENEW: Duration = Duration::from_secs(1);
/// How often the record is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A home that did not react for this long, while the store answers, is taken for dead.
const GIVE_UP: Duration = Duration::from_secs(5);

impl Shared {
    /// Asks for the slot through the store. One at a time for each slot; it goes on when who asked gives up, so that
    /// the next one finds it further on.
    pub(super) async fn want(self: &Arc<Self>, slot: Slot, home: &Incarnation) -> Finding {
        let (shared, home) = (Arc::clone(self), home.clone());
        let wanting = self.wants.join(slot, || async move { shared.wait_for(slot, home).await }.boxed());
        wanting.await.unwrap_or_else(|| Err("asking for the conversation through the store failed".into()))
    }

    async fn wait_for(self: Arc<Self>, slot: Slot, home: Incarnation) -> Finding {
        if self.comes_back().await {
            return Err("the connection to NATS was lost for a moment; try again".into());
        }
        let cut = self.bus.connected().is_none();
        let mut since = Instant::now();
        let mut noted: Option<Instant> = None;
        while since.elapsed() < GIVE_UP {
            if noted.is_none_or(|noted| noted.elapsed() >= RENEW) {
                // A store that does not answer says nothing about the home.
                self.slots.want(slot, &home).await.map_err(words)?;
                since = noted.map_or_else(Instant::now, |_| since);
                noted = Some(Instant::now());
            }
            sleep(jittered(LOOK)).await;
            if let Some(finding) = self.look_at_record(slot, &home).await {
                return finding;
            }
            // It was started again: there is nobody to wait for.
            if self.roster.lock().is_over(&home) {
                break;
            }
            if cut && self.bus.connected().is_some() {
                return Err("connected to NATS again; try again".into());
            }
        }
        match self.fence_given_up(&home).await {
            Fenced::Done | Fenced::Alive => match self.take_over(slot, false).await {
                Taking::Home(found) => Ok(found),
                Taking::Kept(_, words) | Taking::Failed(words) => Err(words),
            },
            Fenced::Refused(words) => Err(words),
        }
    }

    /// Whether the connection was away and came back at once.
    async fn comes_back(&self) -> bool {
        let begin = Instant::now();
        let away = self.bus.connected().is_none();
        while self.bus.connected().is_none() && begin.elapsed() < BLINK {
            sleep(BLINK_LOOK).await;
        }
        away && self.bus.connected().is_some()
    }

    /// `None` while `home` is still on record.
    async fn look_at_record(self: &Arc<Self>, slot: Slot, home: &Incarnation) -> Option<Finding> {
        if self.slots.holds(slot) {
            return Some(Ok(Found::Here));
        }
        let now = match self.slots.term(slot).await {
            Ok(term) => term.map(|term| term.home),
            Err(error) => return Some(Err(words(error))),
        };
        match now {
            Some(now) if now == *home => None,
            Some(now) if now.node != self.own => Some(Err(elsewhere(&now))),
            _ => Some(match self.take_over(slot, true).await {
                Taking::Home(Found::At(other)) => Err(elsewhere(&other)),
                Taking::Home(Found::Here) => Ok(Found::Here),
                Taking::Kept(_, words) | Taking::Failed(words) => Err(words),
            }),
        }
    }
}

fn elsewhere(home: &Incarnation) -> Words {
    format!("{home} got the conversation first; try again").into()
}
