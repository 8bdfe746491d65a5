//! What services are told of users who come and go: once for all nodes, when a user came online on the first and went offline
//! on the last, after the quiet time. Only where somebody wants those events; called with what is quiet by then.
//!
//! Nodes agree on who tells by what the sessions themselves say: of two nodes to which a user came the one with the earlier
//! session tells. Where that one may not have told yet, or nobody knows, it is looked at once more; so an event may come
//! twice, and is missed only where a node is killed.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{Inner, PATIENCE, changes::Change};
use crate::{
    bus::RequestError,
    model::{Millis, UserId, now_millis},
    protocol::{
        event::{EventKind, Presence, What},
        people::encode_probe,
    },
    subject::Subject,
};

/// Users who are looked for at the same time.
const AT_ONCE: usize = 64;
/// How far a node may be behind with telling, on top of the quiet time.
const SLACK: Millis = 2_000;

impl Inner {
    pub(super) async fn tell_services<'a>(
        self: &Arc<Self>,
        came: impl Iterator<Item = &'a Change>,
        went: impl Iterator<Item = &'a Change>,
    ) {
        if !self.router.events().wants(EventKind::Presence) {
            return;
        }
        let came = came.map(|change| (change.clone(), true));
        let all: Vec<_> = came.chain(went.map(|change| (change.clone(), false))).collect();
        let told = all.into_iter().map(|(change, came)| {
            let inner = self.clone();
            async move { if came { inner.tell_came(change).await } else { inner.tell_went(change).await } }
        });
        stream::iter(told).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn tell_came(&self, change: Change) {
        match self.is_elsewhere(&change.user).await {
            Some(false) => self.tell_service(change.user, true, change.at),
            Some(true) => self.tell_if_first(change).await,
            None => self.look_again(&change),
        }
    }

    async fn tell_if_first(&self, change: Change) {
        let mut sessions = self.router.sessions_of(&change.user).await;
        sessions.sort_by(|one, other| (one.since, &one.session).cmp(&(other.since, &other.session)));
        let Some(first) = sessions.first() else { return };
        if first.node == self.node {
            self.tell_service(change.user, true, change.at);
        } else if first.since.saturating_add(self.settings.quiet + SLACK) > now_millis() {
            // Its node may not have told yet, and never will if it ends before.
            self.look_again(&change);
        }
    }

    async fn tell_went(&self, change: Change) {
        match self.is_elsewhere(&change.user).await {
            // Perhaps the user is back by now.
            Some(false) if !self.registry.has(&Subject::user(&change.user)) => {
                self.tell_service(change.user, false, change.at);
            }
            Some(_) => {}
            None => self.look_again(&change),
        }
    }

    /// Whether another node holds the user; none where that cannot be found out.
    async fn is_elsewhere(&self, user: &UserId) -> Option<bool> {
        let subject = Subject::user(user);
        match self.cells.of(&subject).request(&subject, encode_probe(), PATIENCE).await {
            Ok(_) => Some(true),
            Err(RequestError::NoResponders) => Some(false),
            Err(RequestError::TimedOut | RequestError::NotConnected) => None,
        }
    }

    /// After another quiet time, as if the user came, or went, just now.
    fn look_again(&self, change: &Change) {
        let due = self.clock.now() + self.settings.quiet.max(1);
        self.changes.lock().note(&change.user, change.was_here, change.at, due);
        self.wake.notify_one();
    }

    fn tell_service(&self, user: UserId, online: bool, since: Millis) {
        self.router.events().tell(EventKind::Presence, || What::Presence(Presence { user, online, since }));
    }
}
