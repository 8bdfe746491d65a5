//! When users were last seen: noted when the last session here ended and its user is quiet, and of everybody who is here
//! every few minutes, a part of them at a time. So a kill costs no more than those minutes.

use std::sync::Arc;

use super::{Inner, changes::Change};
use crate::{
    metrics::StoreOp,
    model::{Millis, UserId, now_millis},
    overload::{Class, cost},
    protocol::people::encode_coming,
    session::Tick,
    store::{StoreError, StoreResult, is_served},
    subject::Subject,
};

/// Users in one write.
const CHUNK: usize = 256;

/// Which part of the users is noted next, and when.
pub(super) struct Round {
    part: usize,
    parts: usize,
    due: Tick,
    whole: Tick,
}

impl Round {
    /// Begins somewhere: nodes that started together do not all write the same at once.
    pub(super) fn new(parts: usize, whole: Tick, now: Tick) -> Self {
        let mut round = Self { part: rand::random_range(0..parts.max(1)), parts: parts.max(1), due: now, whole };
        round.wait(now);
        round
    }

    fn wait(&mut self, now: Tick) {
        let step = self.whole / self.parts as u64;
        self.due = now + step / 2 + rand::random_range(0..=step);
    }

    /// The part that is due.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<usize> {
        if self.due > now {
            return None;
        }
        self.wait(now);
        self.part = (self.part + 1) % self.parts;
        Some(self.part)
    }

    pub(super) fn next(&self) -> Tick {
        self.due
    }
}

impl Inner {
    /// Users who are quiet: other nodes are told of those who came, and of those who went after it was noted when.
    pub(super) async fn settle(self: Arc<Self>, changes: Vec<Change>) {
        let is_here = |change: &Change| self.registry.has(&Subject::user(&change.user));
        let (here, gone): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_here);
        // Also of those who are as they were before: whoever looked in between knows what was true then.
        for change in &here {
            self.publish(&change.user, true);
        }
        for some in gone.chunks(CHUNK) {
            let seen: Vec<(UserId, Millis)> = some.iter().map(|change| (change.user.clone(), change.at)).collect();
            // Where it fails, an earlier time stays.
            let _ = self.note(&seen).await;
            for change in some {
                self.publish(&change.user, false);
            }
        }
        // Only after all who watch know it.
        self.tell_services(here.iter().filter(|change| !change.was_here), gone.iter().filter(|change| change.was_here))
            .await;
    }

    /// A part of the users who are here.
    pub(super) async fn note_part(self: Arc<Self>, part: usize) {
        let users = self.registry.users_in(part);
        for some in users.chunks(CHUNK) {
            let now = now_millis();
            let seen: Vec<_> = some.iter().map(|user| (user.clone(), now)).collect();
            // The next round tells it.
            let _ = self.note(&seen).await;
        }
    }

    async fn note(&self, seen: &[(UserId, Millis)]) -> StoreResult<()> {
        let turn = self.overload.turn(Class::Listing, cost(seen.len(), 0)).await.map_err(StoreError::unavailable)?;
        let noted = self.people.see(seen).await;
        turn.end(cost(seen.len(), 0), is_served(&noted));
        self.count(&noted);
        noted
    }

    /// When a user who is not here now was seen.
    pub(super) async fn seen(&self, user: &UserId) -> Option<Millis> {
        let turn = self.overload.turn(Class::Listing, cost(1, 0)).await.ok()?;
        let read = self.people.last_seen(std::slice::from_ref(user)).await;
        turn.end(cost(1, 0), is_served(&read));
        self.count(&read);
        read.ok()?.pop().flatten()
    }

    fn count<T>(&self, done: &StoreResult<T>) {
        if done.is_err() {
            self.metrics.store_errors.of(StoreOp::LastSeen).inc();
        }
    }

    /// Tells those who watch the user, here and elsewhere: a node does not hear itself. Nothing is published where nobody
    /// watches.
    fn publish(self: &Arc<Self>, user: &UserId, came: bool) {
        self.on_coming(user, came);
        if self.may_be_watched(user) {
            self.metrics.presence_published.inc();
            let subject = Subject::presence(user);
            self.cells.of(&subject).publish(&subject, encode_coming(came));
        } else {
            self.metrics.presence_unpublished.inc();
        }
    }
}
