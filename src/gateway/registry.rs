//! The users with a session on this node: user → sessions, and the one subscription that each user has.
//!
//! Called by the greeting (join), the router (deliver) and the pump (leave). This is not a registry of where users
//! are: other nodes are found by NATS interest alone.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::mailbox::{Mail, Mailbox};
use crate::{
    bus::{Bus, OnMessage, Subscription},
    metrics::Metrics,
    model::UserId,
    protocol::Encoding,
    session::{Identity, Tick},
    subject::Subject,
};

const SHARDS: usize = 64;

/// A live session as the rest of the node sees it.
#[derive(Debug)]
pub struct SessionHandle {
    /// Who it is.
    pub identity: Identity,
    /// How its frames are written.
    pub encoding: Encoding,
    /// Where to put something for it.
    pub mailbox: Mailbox,
    /// When it last sent a frame, on the node's clock: active sessions are reconciled first (R12).
    pub active_at: AtomicU64,
}

/// A user with at least one session here.
#[derive(Debug)]
pub struct LocalUser {
    sessions: Mutex<Vec<Arc<SessionHandle>>>,
}

impl LocalUser {
    /// Puts something into the mailbox of every session of the user.
    pub fn each(&self, mut mail: impl FnMut(&SessionHandle) -> Option<Mail>) {
        for session in self.sessions.lock().iter() {
            if let Some(mail) = mail(session) {
                session.mailbox.push(mail);
            }
        }
    }
}

struct Entry {
    user: Arc<LocalUser>,
    /// Held for its drop: the last session out unsubscribes.
    _subscription: Subscription,
}

type Shard = Mutex<HashMap<UserId, Entry>>;

/// All local users of a node.
pub struct Registry {
    shards: Vec<Shard>,
    hasher: std::hash::RandomState,
    sessions: AtomicUsize,
    most_sessions: usize,
    most_per_user: usize,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} sessions)", self.sessions.load(Ordering::Relaxed))
    }
}

/// There are too many sessions, of the user or on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Registry {
    /// An empty registry that holds at most so many sessions, of all users and of one.
    pub fn new(bus: Arc<dyn Bus>, metrics: Arc<Metrics>, most_sessions: usize, most_per_user: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self {
            shards,
            hasher: std::hash::RandomState::new(),
            sessions: AtomicUsize::new(0),
            most_sessions,
            most_per_user,
            bus,
            metrics,
        }
    }

    fn shard(&self, user: &UserId) -> &Shard {
        &self.shards[(self.hasher.hash_one(user) % SHARDS as u64) as usize]
    }

    /// Adds a session from its first step on, so that another one's end does not unsubscribe the user (R10). The
    /// first session of a user subscribes; `on_message` is told what arrives then.
    ///
    /// # Errors
    /// [`Full`].
    pub fn join(
        &self,
        session: &Arc<SessionHandle>,
        on_message: impl FnOnce(Arc<LocalUser>) -> OnMessage,
    ) -> Result<(), Full> {
        if self.sessions.fetch_add(1, Ordering::AcqRel) >= self.most_sessions {
            self.sessions.fetch_sub(1, Ordering::AcqRel);
            return Err(Full);
        }
        let user = &session.identity.user;
        let mut shard = self.shard(user).lock();
        let entry = shard.entry(user.clone()).or_insert_with(|| {
            let local = Arc::new(LocalUser { sessions: Mutex::new(Vec::with_capacity(1)) });
            let subscription = self.bus.subscribe(&Subject::user(user), on_message(local.clone()));
            self.metrics.users.inc();
            Entry { user: local, _subscription: subscription }
        });
        let mut sessions = entry.user.sessions.lock();
        if sessions.len() >= self.most_per_user {
            self.sessions.fetch_sub(1, Ordering::AcqRel);
            return Err(Full);
        }
        sessions.push(session.clone());
        Ok(())
    }

    /// Removes a session; the last one of a user unsubscribes.
    pub fn leave(&self, session: &Arc<SessionHandle>) {
        session.mailbox.close();
        let user = &session.identity.user;
        let gone = {
            let mut shard = self.shard(user).lock();
            let Some(entry) = shard.get(user) else { return };
            let mut sessions = entry.user.sessions.lock();
            let before = sessions.len();
            sessions.retain(|other| !Arc::ptr_eq(other, session));
            self.sessions.fetch_sub(before - sessions.len(), Ordering::AcqRel);
            let empty = sessions.is_empty();
            drop(sessions);
            if empty { shard.remove(user) } else { None }
        };
        if gone.is_some() {
            self.metrics.users.dec();
        }
    }

    /// Puts something into the mailbox of each session of `user`; false when it has none here.
    pub fn deliver(&self, user: &UserId, mail: impl FnMut(&SessionHandle) -> Option<Mail>) -> bool {
        let Some(local) = self.shard(user).lock().get(user).map(|entry| entry.user.clone()) else { return false };
        local.each(mail);
        true
    }

    /// Whether `user` has a session here.
    pub fn has(&self, user: &UserId) -> bool {
        self.shard(user).lock().contains_key(user)
    }

    /// Calls `each` for every session, a shard at a time.
    pub fn for_all(&self, mut each: impl FnMut(&Arc<SessionHandle>)) {
        for shard in &self.shards {
            let users: Vec<_> = shard.lock().values().map(|entry| entry.user.clone()).collect();
            for user in users {
                user.sessions.lock().iter().for_each(&mut each);
            }
        }
    }

    /// Sessions now.
    pub fn len(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl SessionHandle {
    /// Whether it sent anything within the minute before `now`.
    pub fn is_active(&self, now: Tick) -> bool {
        self.active_at.load(Ordering::Relaxed) + 60_000 > now
    }
}
