//! The rooms that sessions here listen on: one bus subscription each, however many members are here, and one look at a
//! room's head for all of them together.
//!
//! Kept by the registry. The subscription is made by the first session that listens and ended with the last one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    mailbox::Mail,
    registry::{Listeners, SessionHandle},
};
use crate::{
    bus::Subscription,
    model::{ConvId, RoomId, Seq},
    session::Tick,
    subject::Subject,
};

/// A room whose members' sessions are here.
#[derive(Debug)]
pub(super) struct RoomListeners {
    room: RoomId,
    listeners: Arc<Listeners>,
    /// The server has processed the subscription (R10).
    is_fenced: AtomicBool,
    /// When its head is looked at next.
    due: AtomicU64,
}

struct Entry {
    room: Arc<RoomListeners>,
    /// Held for its drop.
    _subscription: Subscription,
}

/// What came of a wish to listen.
#[derive(Debug, Clone)]
pub struct Listening {
    room: Option<Arc<RoomListeners>>,
    /// The session did not listen there before: what it knows of the room's head is from before.
    pub is_new: bool,
}

impl Listening {
    /// Whether the subscription is to be fenced before heads are read.
    pub fn needs_fence(&self) -> bool {
        self.room.as_ref().is_some_and(|room| !room.is_fenced.load(Ordering::Acquire))
    }

    /// It was fenced.
    pub fn fenced(&self) {
        if let Some(room) = &self.room {
            room.is_fenced.store(true, Ordering::Release);
        }
    }

    /// Where.
    pub(super) fn subject(&self) -> Option<Subject> {
        Some(Subject::room(&self.room.as_ref()?.room))
    }

    /// The session has ended: nothing listens.
    pub fn is_gone(&self) -> bool {
        self.room.is_none()
    }
}

/// All rooms of a node's sessions.
#[derive(Default)]
pub struct Rooms(Mutex<HashMap<Subject, Entry>>);

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rooms({})", self.len())
    }
}

impl Rooms {
    /// Has a session listen; `subscribe` is called for the first one of a room.
    pub(super) fn listen(
        &self,
        session: &Arc<SessionHandle>,
        room: &RoomId,
        subscribe: impl FnOnce(&Subject, Arc<Listeners>) -> Subscription,
    ) -> Listening {
        // Held until the session is in the room's list, so that its end finds it there.
        let mut own = session.rooms.lock();
        let Some(own) = own.as_mut() else { return Listening { room: None, is_new: false } };
        if let Some(known) = own.iter().find(|known| known.room == *room) {
            return Listening { room: Some(known.clone()), is_new: false };
        }
        let subject = Subject::room(room);
        let mut rooms = self.0.lock();
        let entry = rooms.entry(subject).or_insert_with_key(|subject| {
            let listeners = Arc::<Listeners>::default();
            let (is_fenced, due) = (AtomicBool::new(false), AtomicU64::new(0));
            let subscription = subscribe(subject, listeners.clone());
            let room = Arc::new(RoomListeners { room: room.clone(), listeners, is_fenced, due });
            Entry { room, _subscription: subscription }
        });
        entry.room.listeners.sessions.lock().push(session.clone());
        own.reserve_exact(1);
        own.push(entry.room.clone());
        Listening { room: Some(entry.room.clone()), is_new: true }
    }

    /// Ends that.
    pub(super) fn unlisten(&self, session: &Arc<SessionHandle>, room: &RoomId) {
        let mut own = session.rooms.lock();
        let Some(own) = own.as_mut() else { return };
        let Some(at) = own.iter().position(|known| known.room == *room) else { return };
        let gone = self.detach(session, &own.swap_remove(at));
        // Unsubscribes outside of the locks of the rooms.
        drop(gone);
    }

    /// A session ends: it listens nowhere, and never again.
    pub(super) fn leave_all(&self, session: &Arc<SessionHandle>) {
        let own = session.rooms.lock().take();
        for room in own.into_iter().flatten() {
            let gone = self.detach(session, &room);
            drop(gone);
        }
    }

    fn detach(&self, session: &Arc<SessionHandle>, room: &RoomListeners) -> Option<Entry> {
        let mut rooms = self.0.lock();
        let mut sessions = room.listeners.sessions.lock();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        let is_last = sessions.is_empty();
        drop(sessions);
        if is_last { rooms.remove(&Subject::room(&room.room)) } else { None }
    }

    /// Whether a session listens on a room.
    pub fn listens(session: &SessionHandle, room: &RoomId) -> bool {
        session.rooms.lock().iter().flatten().any(|known| known.room == *room)
    }

    fn get(&self, subject: &Subject) -> Option<Arc<Listeners>> {
        self.0.lock().get(subject).map(|entry| entry.room.listeners.clone())
    }

    /// Puts something into the mailbox of each session that listens on a room's subject; false when there is none here.
    pub(super) fn deliver(&self, subject: &Subject, mail: impl FnMut(&SessionHandle) -> Option<Mail>) -> bool {
        let Some(listeners) = self.get(subject) else { return false };
        listeners.each(mail);
        true
    }

    /// A message of a room was stored here.
    pub(super) fn note(&self, subject: &Subject, seq: Seq) {
        if subject.is_room()
            && let Some(listeners) = self.get(subject)
        {
            listeners.note(seq);
        }
    }

    /// The recorded head of a room was read. Where nothing of it was heard, the sessions here are told: they missed it.
    /// Returns whether they were.
    pub fn on_head(&self, room: &RoomId, head: Seq) -> bool {
        let Some(listeners) = self.get(&Subject::room(room)) else { return false };
        if listeners.heard.fetch_max(head, Ordering::AcqRel) >= head {
            return false;
        }
        let conv = ConvId::room(room);
        listeners.each(|_| Some(Mail::Notice(conv.clone(), head)));
        true
    }

    /// A session that has just begun to listen read the head by itself: where nothing was heard yet, nobody missed anything.
    pub fn on_first_head(&self, room: &RoomId, head: Seq) {
        if let Some(listeners) = self.get(&Subject::room(room)) {
            let _ = listeners.heard.compare_exchange(0, head, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The rooms whose heads are to be looked at by now, at most `most`; each is due again about `interval` later, or never
    /// where that is 0. A room that is new here is due after `first`: its subscription takes a moment to reach the other
    /// servers of a cluster.
    pub fn take_due(&self, now: Tick, first: Tick, interval: Tick, most: usize) -> Vec<RoomId> {
        let mut found = Vec::new();
        for Entry { room, .. } in self.0.lock().values() {
            match room.due.load(Ordering::Relaxed) {
                0 => room.due.store(now + first.max(1), Ordering::Relaxed),
                due if due <= now && found.len() < most => {
                    found.push(room.room.clone());
                    let wait = interval / 2 + rand::random_range(0..=interval);
                    room.due.store(if interval == 0 { Tick::MAX } else { now + wait }, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        found
    }

    /// The heads of all these rooms are to be looked at within `spread`: notices may have been lost.
    pub fn all_due(&self, now: Tick, spread: Tick, which: impl Fn(&Subject) -> bool) {
        for (_, Entry { room, .. }) in self.0.lock().iter().filter(|(subject, _)| which(subject)) {
            room.due.store(now + 1 + rand::random_range(0..=spread), Ordering::Relaxed);
        }
    }

    /// The heads of these could not be read: they are looked at again within `spread`.
    pub fn due_again(&self, rooms: &[RoomId], now: Tick, spread: Tick) {
        let known = self.0.lock();
        for Entry { room, .. } in rooms.iter().filter_map(|room| known.get(&Subject::room(room))) {
            room.due.store(now + 1 + spread / 2 + rand::random_range(0..=spread / 2), Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
