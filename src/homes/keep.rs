//! What a node does for its homes all the time: it announces itself, and it is subscribed to the subjects of the slots that
//! it holds. [`super::placing`] is the third of these tasks. Started by [`super::Homes`].

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared, jittered,
    wire::{self, Here},
};
use crate::{
    bus::Subscription,
    store::slots::Slot,
    subject::{QUEUE_GROUP, Subject},
};

/// How often a node announces itself.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How long a node answers "not home" for a slot that it lost: as long as requests may be on their way to it.
const LINGER: Duration = Duration::from_secs(2);
/// The pause after a task that ended by a panic.
const AGAIN: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn keep(self: &Arc<Self>) -> Vec<AbortOnDropHandle<()>> {
        let (announcing, following, placing) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        [
            tokio::spawn(always("announce", move || Arc::clone(&announcing).announce_always())),
            tokio::spawn(always("follow", move || Arc::clone(&following).follow())),
            tokio::spawn(always("place", move || Arc::clone(&placing).place_always())),
        ]
        .map(AbortOnDropHandle::new)
        .into()
    }

    async fn announce_always(self: Arc<Self>) {
        loop {
            self.announce();
            // Also to see a new connection soon.
            self.is_linked_for(Duration::ZERO);
            sleep(ANNOUNCE.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        }
    }

    /// Says who this node is, to all others.
    pub(super) fn announce(&self) {
        let hears = self.roster.lock().live(Instant::now());
        let here = Here { who: self.slots.incarnation(), leaving: self.is_leaving() || self.slots.is_stuck(), hears };
        self.bus.publish(&Subject::node(&self.own, "here"), wire::encode(&here));
    }

    /// Keeps the subscriptions as the slots are.
    async fn follow(self: Arc<Self>) {
        let mut changes = self.slots.changes();
        let (mut served, mut who) = (BTreeMap::<Slot, Served>::new(), self.slots.incarnation());
        loop {
            // Marked as seen before they are read, so that no change is missed.
            changes.borrow_and_update();
            self.serve_held(&mut served);
            let now = self.slots.incarnation();
            if now != who {
                tracing::warn!(lost = %who, %now, "this node was fenced and begins anew, without slots");
                self.metrics.incarnations_lost.inc();
                who = now;
                self.announce();
            }
            let lingering = served.values().any(|served| served.lost.is_some());
            let changed = timeout(if lingering { LINGER / 4 } else { ANNOUNCE * 10 }, changes.changed());
            // Without its sender the engine is gone, and with it, soon, this node.
            if matches!(changed.await, Ok(Err(_))) {
                sleep(AGAIN).await;
            }
        }
    }

    fn serve_held(self: &Arc<Self>, served: &mut BTreeMap<Slot, Served>) {
        let (held, now) = (self.slots.held(), Instant::now());
        let held: BTreeSet<_> = held.into_iter().collect();
        self.metrics.slots_held.set(i64::try_from(held.len()).unwrap_or(i64::MAX));
        self.tenure.lock().follow(&held, now);
        for slot in &held {
            let subject = Subject::log(slot.number());
            let subscribe = || self.bus.queue_subscribe(&subject, QUEUE_GROUP, self.on(Self::on_append));
            served.entry(*slot).or_insert_with(|| Served { _subscription: subscribe(), lost: None }).lost = None;
        }
        served.retain(|slot, served| {
            if !held.contains(slot) {
                served.lost.get_or_insert(now);
            }
            served.lost.is_none_or(|lost| now.saturating_duration_since(lost) < LINGER)
        });
    }
}

/// The subscription of a slot.
struct Served {
    _subscription: Subscription,
    /// Since when it is only kept to say that the home is elsewhere.
    lost: Option<Instant>,
}

/// Runs a task that never ends, again after a panic: a node whose announcements stop would be taken for dead.
async fn always<F: Future<Output = ()> + Send + 'static>(name: &'static str, run: impl Fn() -> F) {
    loop {
        if let Err(error) = AbortOnDropHandle::new(tokio::spawn(run())).await {
            tracing::error!(name, %error, "a task of the homes ended and begins anew");
        }
        sleep(jittered(AGAIN)).await;
    }
}
