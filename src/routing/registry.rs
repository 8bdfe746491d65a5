//! The sessions on this node, by the subject that they listen on, and the one bus subscription that each subject has.
//!
//! Called by the gateway (sessions come and go) and the router (deliver). This is not a registry of where users are:
//! other nodes are found by NATS interest alone.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    mailbox::{Mail, Mailbox},
    rooms::{Listening, RoomListeners, Rooms},
};
use crate::{
    bus::{OnMessage, Subscription, cells::Cells},
    metrics::Metrics,
    model::{ConvId, Device, Millis, RoomId, Seq, UserId, now_millis},
    protocol::Encoding,
    session::{Identity, Tick},
    subject::Subject,
};

const SHARDS: usize = 64;
/// In so many parts the users of a node can be gone through.
pub const PARTS: usize = SHARDS;
/// At the limit of a user's sessions a device that has one here may come again, while it has fewer than so many: its
/// old session may be dead and is about to be replaced (R11).
const REPLACING: usize = 3;
/// A session that sent something within this time counts as active.
const ACTIVE: Tick = 60_000;

/// A live session as the rest of the node sees it.
#[derive(Debug)]
pub struct SessionHandle {
    /// Who it is, as far as that was known when it joined: before its number and the device's life.
    pub identity: Identity,
    /// How its frames are written.
    pub encoding: Encoding,
    /// Where to put something for it.
    pub mailbox: Mailbox,
    /// Since when it is here, for people.
    pub since: Millis,
    active_at: AtomicU64,
    /// The life of its device; 0 before the store has told.
    life: AtomicU64,
    /// The rooms that it listens on; `None` once it has left.
    pub(super) rooms: Mutex<Option<Vec<Arc<RoomListeners>>>>,
}

impl SessionHandle {
    /// A session that has sent nothing yet.
    pub fn new(identity: Identity, encoding: Encoding) -> Self {
        let (active_at, life) = (AtomicU64::new(0), AtomicU64::new(0));
        let rooms = Mutex::new(Some(Vec::new()));
        Self { identity, encoding, mailbox: Mailbox::default(), since: now_millis(), active_at, life, rooms }
    }

    /// The store told which life of its device this is.
    pub fn enter(&self, life: u64) {
        self.life.store(life, Ordering::Release);
    }

    /// Its device, in this life.
    pub fn device(&self) -> Device {
        Device { life: self.life.load(Ordering::Acquire), ..self.identity.device.clone() }
    }

    /// It sent a frame.
    pub fn mark_active(&self, now: Tick) {
        self.active_at.store(now, Ordering::Relaxed);
    }

    /// Whether it sent anything within the minute before `now`: active sessions are reconciled first (R12).
    pub fn is_active(&self, now: Tick) -> bool {
        self.active_at.load(Ordering::Relaxed) + ACTIVE > now
    }
}

/// The sessions here that listen on one subject.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(super) sessions: Mutex<Vec<Arc<SessionHandle>>>,
    /// The highest seq that was heard of there: of a room, where one subject is one log.
    pub(super) heard: AtomicU64,
}

impl Listeners {
    /// Puts something into the mailbox of every session.
    pub fn each(&self, mut mail: impl FnMut(&SessionHandle) -> Option<Mail>) {
        for session in self.sessions.lock().iter() {
            if let Some(mail) = mail(session) {
                session.mailbox.push(mail);
            }
        }
    }

    /// The sessions.
    pub fn all(&self) -> Vec<Arc<SessionHandle>> {
        self.sessions.lock().clone()
    }

    /// A seq was heard of.
    pub(super) fn note(&self, seq: Seq) {
        self.heard.fetch_max(seq, Ordering::AcqRel);
    }
}

struct Entry {
    listeners: Arc<Listeners>,
    /// Held for its drop: the last session out unsubscribes.
    _subscription: Subscription,
}

type Shard = Mutex<HashMap<Subject, Entry>>;

/// Hears of users and sessions that come and go. Called outside of all locks of the registry, so of two calls at the same
/// moment either may be first.
pub trait Comings: Send + Sync + 'static {
    /// A user's first session here began.
    fn came(&self, user: &UserId);
    /// A user's last session here ended.
    fn went(&self, user: &UserId);
    /// A session ended; its mailbox was closed before.
    fn ended(&self, session: &SessionHandle);
}

/// How many sessions a node takes.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Of all users.
    pub sessions: usize,
    /// Of one user.
    pub per_user: usize,
}

/// There are too many sessions, of the user or on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// All sessions of a node.
pub struct Registry {
    shards: Vec<Shard>,
    hasher: std::hash::RandomState,
    sessions: AtomicUsize,
    capacity: Capacity,
    cells: Cells,
    metrics: Arc<Metrics>,
    rooms: Rooms,
    comings: OnceLock<Box<dyn Comings>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} sessions)", self.len())
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(cells: Cells, metrics: Arc<Metrics>, capacity: Capacity) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        let hasher = std::hash::RandomState::new();
        let (sessions, rooms, comings) = (AtomicUsize::new(0), Rooms::default(), OnceLock::new());
        Self { shards, hasher, sessions, capacity, cells, metrics, rooms, comings }
    }

    /// Tells these ears of whoever comes and goes from now on. Set once.
    pub fn tell_comings(&self, ears: Box<dyn Comings>) {
        if self.comings.set(ears).is_err() {
            tracing::error!("the registry has somebody to tell already");
        }
    }

    fn shard(&self, subject: &Subject) -> &Shard {
        &self.shards[(self.hasher.hash_one(subject) % SHARDS as u64) as usize]
    }

    /// Adds a session on its user's subject, from its first step on, so that another one's end does not unsubscribe
    /// the user (R10). The first session on a subject subscribes; `on_message` is told what arrives then.
    ///
    /// # Errors
    /// [`Full`].
    pub fn join(
        &self,
        session: &Arc<SessionHandle>,
        on_message: impl FnOnce(Arc<Listeners>) -> OnMessage,
    ) -> Result<(), Full> {
        if self.sessions.fetch_add(1, Ordering::AcqRel) >= self.capacity.sessions {
            self.sessions.fetch_sub(1, Ordering::AcqRel);
            return Err(Full);
        }
        let subject = Subject::user(&session.identity.device.user);
        let joined = self.attach(session, &subject, self.capacity.per_user, on_message);
        match joined {
            Ok(true) => {
                self.metrics.users.inc();
                self.comings.get().inspect(|ears| ears.came(&session.identity.device.user));
            }
            Ok(false) => {}
            Err(Full) => drop(self.sessions.fetch_sub(1, Ordering::AcqRel)),
        }
        joined.map(drop)
    }

    /// Removes a session; the last one on a subject unsubscribes.
    pub fn leave(&self, session: &Arc<SessionHandle>) {
        session.mailbox.close();
        self.rooms.leave_all(session);
        let subject = Subject::user(&session.identity.device.user);
        let (was_here, was_last) = self.detach(session, &subject);
        if was_here {
            self.sessions.fetch_sub(1, Ordering::AcqRel);
        }
        if was_last {
            self.metrics.users.dec();
        }
        if let Some(ears) = self.comings.get().filter(|_| was_here) {
            ears.ended(session);
            if was_last {
                ears.went(&session.identity.device.user);
            }
        }
    }

    /// Has a session listen on a subject; true when it is the first here.
    fn attach(
        &self,
        session: &Arc<SessionHandle>,
        subject: &Subject,
        most: usize,
        on_message: impl FnOnce(Arc<Listeners>) -> OnMessage,
    ) -> Result<bool, Full> {
        let mut shard = self.shard(subject).lock();
        let mut first = false;
        let entry = shard.entry(subject.clone()).or_insert_with(|| {
            first = true;
            let listeners = Arc::<Listeners>::default();
            let subscription = self.cells.of(subject).subscribe(subject, on_message(listeners.clone()));
            Entry { listeners, _subscription: subscription }
        });
        let mut sessions = entry.listeners.sessions.lock();
        let device = &session.identity.device.device;
        let same = sessions.iter().filter(|other| other.identity.device.device == *device).count();
        if sessions.len() >= most && !(1..REPLACING).contains(&same) {
            return Err(Full);
        }
        sessions.reserve_exact(1);
        sessions.push(session.clone());
        Ok(first)
    }

    /// Ends that; whether it listened there, and whether it was the last one.
    fn detach(&self, session: &Arc<SessionHandle>, subject: &Subject) -> (bool, bool) {
        let mut shard = self.shard(subject).lock();
        let Some(entry) = shard.get(subject) else { return (false, false) };
        let mut sessions = entry.listeners.sessions.lock();
        let before = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        let (was_here, was_last) = (sessions.len() < before, sessions.is_empty());
        drop(sessions);
        let gone = if was_last { shard.remove(subject) } else { None };
        drop(shard);
        // Unsubscribes outside of the lock.
        drop(gone);
        (was_here, was_last)
    }

    /// Puts something into the mailbox of each session that listens on `subject`; false when there is none here.
    pub fn deliver(&self, subject: &Subject, mail: impl FnMut(&SessionHandle) -> Option<Mail>) -> bool {
        if subject.is_room() {
            return self.rooms.deliver(subject, mail);
        }
        let listeners = self.shard(subject).lock().get(subject).map(|entry| entry.listeners.clone());
        let Some(listeners) = listeners else { return false };
        listeners.each(mail);
        true
    }

    /// The rooms of sessions here.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Has a session listen on a room; the first one there subscribes, as in [`Registry::join`].
    pub fn listen(
        &self,
        session: &Arc<SessionHandle>,
        room: &RoomId,
        on_message: impl FnOnce(Arc<Listeners>) -> OnMessage,
    ) -> Listening {
        self.rooms.listen(session, room, |subject, listeners| {
            self.cells.of(subject).subscribe(subject, on_message(listeners))
        })
    }

    /// Ends that; the last one there unsubscribes.
    pub fn unlisten(&self, session: &Arc<SessionHandle>, conv: &ConvId) {
        if let Some(room) = conv.as_room() {
            self.rooms.unlisten(session, &room);
        }
    }

    /// The sessions here that listen on `subject`.
    pub fn sessions_of(&self, subject: &Subject) -> Vec<Arc<SessionHandle>> {
        let listeners = self.shard(subject).lock().get(subject).map(|entry| entry.listeners.clone());
        listeners.map(|listeners| listeners.all()).unwrap_or_default()
    }

    /// Whether a session here listens on `subject`.
    pub fn has(&self, subject: &Subject) -> bool {
        self.shard(subject).lock().contains_key(subject)
    }

    /// The users of one of [`PARTS`].
    pub fn users_in(&self, part: usize) -> Vec<UserId> {
        let Some(shard) = self.shards.get(part) else { return Vec::new() };
        let shard = shard.lock();
        let user = |entry: &Entry| Some(entry.listeners.sessions.lock().first()?.identity.device.user.clone());
        shard.values().filter_map(user).collect()
    }

    /// Calls `each` for every session, a shard at a time.
    pub fn for_all(&self, mut each: impl FnMut(&Arc<SessionHandle>)) {
        for shard in &self.shards {
            let subjects: Vec<_> = shard.lock().values().map(|entry| entry.listeners.clone()).collect();
            for listeners in subjects {
                listeners.sessions.lock().iter().for_each(&mut each);
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
