//! Whom the sessions here watch: each watched user once, whoever watches, with one subscription and one place in the queue of
//! looks. No I/O and no clock. Kept by [`super::Presence`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::interest::{Group, group};
use crate::{
    bus::Subscription,
    model::{Millis, SessionId, UserId},
    routing::SessionHandle,
    session::Tick,
};

/// A look that failed is followed by ever longer waits, up to so many times the usual one.
const MOST_BACK_OFF: u32 = 8;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) per_session: usize,
    pub(super) users: usize,
}

/// Why a session does not watch a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotWatched {
    /// It watches as many as it may.
    TooMany,
    /// The sessions here do, together.
    Full,
    /// It has ended.
    Ended,
}

/// What is known of a watched user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// None before the first look.
    pub(super) online: Option<bool>,
    /// Of one who is not online.
    pub(super) last_seen: Option<Millis>,
}

/// A look at a user: what it finds counts only if nothing was heard since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look(u64);

/// Who is to be told, and what.
pub(super) type Told = (Vec<Arc<SessionHandle>>, State);

/// A watched user.
pub(super) struct Watched {
    sessions: Vec<Arc<SessionHandle>>,
    state: State,
    /// When it is looked at; none while it is.
    due: Option<Tick>,
    failures: u32,
    /// Grows with everything that is heard.
    heard: u64,
    /// Held for its drop.
    _subscription: Subscription,
}

/// All watched users of a node.
#[derive(Default)]
pub(super) struct Watches {
    users: HashMap<UserId, Watched>,
    queue: BTreeSet<(Tick, UserId)>,
    of: HashMap<SessionId, Vec<UserId>>,
}

fn id(session: &SessionHandle) -> &SessionId {
    &session.identity.rank.session
}

impl Watches {
    /// Has a session watch a user. The first one of a user subscribes, and the user is looked at when it is `due`.
    pub(super) fn add(
        &mut self,
        session: &Arc<SessionHandle>,
        user: &UserId,
        due: Tick,
        room: Room,
        subscribe: impl FnOnce() -> Subscription,
    ) -> Result<(), NotWatched> {
        // A session that ends closes its mailbox first, and is taken out of here after.
        if session.mailbox.is_closed() {
            return Err(NotWatched::Ended);
        }
        let is_full = self.users.len() >= room.users && !self.users.contains_key(user);
        let own = self.of.entry(id(session).clone()).or_default();
        if own.contains(user) {
            return Ok(());
        }
        let refused =
            if own.len() >= room.per_session { Some(NotWatched::TooMany) } else { is_full.then_some(NotWatched::Full) };
        if let Some(refused) = refused {
            if own.is_empty() {
                self.of.remove(id(session));
            }
            return Err(refused);
        }
        own.push(user.clone());
        let watched = self.users.entry(user.clone()).or_insert_with(|| {
            self.queue.insert((due, user.clone()));
            Watched {
                sessions: Vec::new(),
                state: State::default(),
                due: Some(due),
                failures: 0,
                heard: 0,
                _subscription: subscribe(),
            }
        });
        watched.sessions.push(session.clone());
        Ok(())
    }

    /// A session watches a user no more; what is returned is to be dropped outside of the lock.
    pub(super) fn remove(&mut self, session: &SessionHandle, user: &UserId) -> Option<Watched> {
        if let Some(own) = self.of.get_mut(id(session)) {
            own.retain(|other| other != user);
            if own.is_empty() {
                self.of.remove(id(session));
            }
        }
        self.detach(session, user)
    }

    /// The same of all that it watches.
    pub(super) fn remove_all(&mut self, session: &SessionHandle) -> Vec<Watched> {
        let own = self.of.remove(id(session)).unwrap_or_default();
        own.iter().filter_map(|user| self.detach(session, user)).collect()
    }

    fn detach(&mut self, session: &SessionHandle, user: &UserId) -> Option<Watched> {
        let watched = self.users.get_mut(user)?;
        watched.sessions.retain(|other| id(other) != id(session));
        if !watched.sessions.is_empty() {
            return None;
        }
        let gone = self.users.remove(user)?;
        if let Some(due) = gone.due {
            self.queue.remove(&(due, user.clone()));
        }
        Some(gone)
    }

    /// The sessions of `by` that watch `user`.
    pub(super) fn sessions(&self, user: &UserId, by: &UserId) -> Vec<Arc<SessionHandle>> {
        let all = self.users.get(user).into_iter().flat_map(|watched| &watched.sessions);
        all.filter(|session| session.identity.device.user == *by).cloned().collect()
    }

    /// What is known of a user, and the look that would change it; none of one whom nobody watches.
    pub(super) fn get(&self, user: &UserId) -> Option<(State, Look)> {
        self.users.get(user).map(|watched| (watched.state, Look(watched.heard)))
    }

    /// The users that are to be looked at by now, at most `most`.
    pub(super) fn take_due(&mut self, now: Tick, most: usize) -> Vec<(UserId, Look)> {
        let mut found = Vec::new();
        while found.len() < most && self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, user)) = self.queue.pop_first() else { break };
            if let Some(watched) = self.users.get_mut(&user) {
                watched.due = None;
                found.push((user, Look(watched.heard)));
            }
        }
        found
    }

    /// When somebody is to be looked at.
    pub(super) fn next(&self) -> Option<Tick> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The groups of all watched users, some more than once.
    pub(super) fn groups(&self) -> Vec<Group> {
        self.users.keys().map(group).collect()
    }

    /// How many users are watched.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// A node told of a user's first session there.
    pub(super) fn on_came(&mut self, user: &UserId) -> Option<Told> {
        let watched = self.users.get_mut(user)?;
        watched.heard += 1;
        watched.become_(State { online: Some(true), last_seen: None })
    }

    /// A node told that a user's last session there ended: there may be others elsewhere.
    pub(super) fn on_gone(&mut self, user: &UserId, now: Tick) {
        let Some(watched) = self.users.get_mut(user) else { return };
        watched.heard += 1;
        if let Some(due) = watched.due.filter(|due| *due > now) {
            self.queue.remove(&(due, user.clone()));
            self.queue.insert((now, user.clone()));
            watched.due = Some(now);
        }
    }

    /// What a look found; `Err`: nothing. The next one is about `wait` later.
    pub(super) fn on_looked(
        &mut self,
        user: &UserId,
        look: Look,
        found: Result<State, ()>,
        now: Tick,
        wait: Tick,
    ) -> Option<Told> {
        let watched = self.users.get_mut(user)?;
        let is_late = watched.heard != look.0;
        watched.failures = if found.is_err() { watched.failures.saturating_add(1) } else { 0 };
        if watched.due.is_none() {
            let longer = 1_u64 << watched.failures.min(MOST_BACK_OFF.ilog2());
            // Something was heard meanwhile: that is looked at again, at once.
            let due = if is_late { now } else { now + jittered(wait.saturating_mul(longer)) };
            watched.due = Some(due);
            self.queue.insert((due, user.clone()));
        }
        found.ok().filter(|_| !is_late).and_then(|state| watched.become_(state))
    }

    /// Some who watch a user could not be told: they are with the next look.
    pub(super) fn untold(&mut self, user: &UserId) {
        if let Some(watched) = self.users.get_mut(user) {
            watched.state.online = None;
        }
    }
}

impl Watched {
    fn become_(&mut self, state: State) -> Option<Told> {
        let changes = self.state.online != state.online;
        if changes {
            self.state = state;
        }
        changes.then(|| (self.sessions.clone(), state))
    }
}

/// Between three quarters and five quarters of it.
fn jittered(wait: Tick) -> Tick {
    wait - wait / 4 + rand::random_range(0..=wait / 2)
}

#[cfg(test)]
mod tests;
