//! Looking for a user: here first, then on all nodes at once. Whoever holds the user answers; that nobody could is what the
//! NATS server says by itself.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{
    Inner, PATIENCE,
    watches::{Look, State},
};
use crate::{
    bus::RequestError,
    model::UserId,
    protocol::{ask::Seen, people::encode_probe},
    routing::SessionHandle,
    subject::Subject,
};

/// Users of one request that are looked for at the same time.
const AT_ONCE: usize = 16;

impl Inner {
    pub(super) async fn ask(self: Arc<Self>, asker: Option<&SessionHandle>, users: &[UserId]) -> Vec<Seen> {
        let asker = asker.map(|session| session.identity.rank.session.clone());
        let looks: Vec<_> = users
            .iter()
            .map(|user| {
                let (inner, user, asker) = (self.clone(), user.clone(), asker.clone());
                async move {
                    let known = inner.watches.lock().get(&user);
                    let state = match known {
                        Some((state, _)) if state.online.is_some() => state,
                        known => inner.look_for(&user, known.map(|(_, look)| look), asker.as_ref()).await,
                    };
                    Seen { user, online: state.online, last_seen: state.last_seen }
                }
            })
            .collect();
        stream::iter(looks).buffered(AT_ONCE).collect().await
    }

    /// A look because its time has come.
    pub(super) async fn probe(self: Arc<Self>, user: UserId, look: Look) {
        self.look_for(&user, Some(look), None).await;
    }

    /// Looks, and tells those who watch; but not the session that gets it as an answer.
    async fn look_for(
        self: &Arc<Self>,
        user: &UserId,
        look: Option<Look>,
        asker: Option<&crate::model::SessionId>,
    ) -> State {
        let found = self.look(user).await;
        let was_offline = self.watches.lock().get(user).is_some_and(|(state, _)| state.online == Some(false));
        let last_seen = match found {
            Some(false) if !was_offline => self.seen(user).await,
            _ => None,
        };
        let state = State { online: found, last_seen };
        let Some(look) = look else { return state };
        let (now, wait) = (self.clock.now(), self.settings.probe);
        let told = self.watches.lock().on_looked(user, look, found.map(|_| state).ok_or(()), now, wait);
        self.wake.notify_one();
        let told = told.map(|(mut sessions, state)| {
            sessions.retain(|session| Some(&session.identity.rank.session) != asker);
            (sessions, state)
        });
        self.tell(user, told);
        state
    }

    /// Whether a session of the user lives; none where that could not be found out.
    async fn look(&self, user: &UserId) -> Option<bool> {
        let subject = Subject::user(user);
        if self.registry.has(&subject) {
            return Some(true);
        }
        let _turn = self.looks.acquire().await.ok()?;
        self.metrics.presence_probes.inc();
        match self.cells.of(&subject).request(&subject, encode_probe(), PATIENCE).await {
            Ok(_) => Some(true),
            // A node does not hear itself, and the user may have come here meanwhile.
            Err(RequestError::NoResponders) => Some(self.registry.has(&subject)),
            Err(RequestError::TimedOut | RequestError::NotConnected) => {
                self.metrics.presence_probes_failed.inc();
                None
            }
        }
    }
}
