//! Where stored messages go: to the sessions on this node, and over the bus to the others. Also what arrives over
//! the bus, and what nobody was there to receive.
//!
//! Called by the appender (a batch was stored), by bus subscriptions, and by `ops` (receipts, signals, announcements).

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use compact_str::{CompactString, format_compact};

use super::{
    audience::{self, Sender},
    gather,
    mailbox::Mail,
    recent::Recent,
    registry::{Listeners, Registry, SessionHandle},
    rooms::{Listening, Rooms},
    untold::{Last, Untold},
};
use crate::{
    bus::{Bus, BusError, BusMessage, OnMessage},
    metrics::Metrics,
    model::{ConvId, Kind, NewMessage, RoomId, Seq, UserId, room::Change},
    protocol::{
        Encoding, LiveMessage, Message, ServerFrame, SharedFrame,
        people::{encode_blocked, encode_room_signal},
        server::{Announcement, Asked, OnBus, Signal, encode_head},
    },
    store::Appended,
    subject::Subject,
};

/// The router of one node. Cheap to clone.
#[derive(Clone)]
pub struct Router(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) registry: Arc<Registry>,
    pub(super) node: String,
    metrics: Arc<Metrics>,
    recent: Recent,
    untold: Untold,
    on_blocked: OnceLock<OnBlocked>,
}

/// Called with two users of whom one blocked the other, or unblocked.
pub type OnBlocked = Box<dyn Fn(&UserId, &UserId) + Send + Sync>;

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Router({:?})", self.0.registry)
    }
}

#[derive(serde::Serialize)]
struct OfflineEvent<'a> {
    user: &'a UserId,
    from: &'a UserId,
    conv: &'a ConvId,
    seq: Seq,
}

impl Router {
    /// A router; takes over what the bus tells of publishes that had no responders.
    pub fn new(node: &str, bus: Arc<dyn Bus>, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        let node = node.to_owned();
        let inner = Arc::new(Inner {
            bus,
            registry,
            node,
            metrics,
            recent: Recent::default(),
            untold: Untold::default(),
            on_blocked: OnceLock::new(),
        });
        // Weak: the bus is owned by what it calls here, and a cycle would keep a whole node alive forever.
        let told: Weak<Inner> = Arc::downgrade(&inner);
        inner.bus.on_no_responders(Arc::new(move |tag| {
            if let Some(inner) = told.upgrade() {
                inner.on_no_responders(tag);
            }
        }));
        Self(inner)
    }

    /// A batch of a conversation was stored and answered: publish it, retries too (R3).
    pub fn publish_stored(&self, conv: &ConvId, batch: &[(NewMessage, Appended)]) {
        let highest = batch.iter().map(|(_, appended)| appended.seq).max().unwrap_or(0);
        self.0.recent.note(conv, highest, self.0.bus.connected().is_some());
        for (message, appended) in batch {
            let counter = if appended.fresh { &self.0.metrics.appended } else { &self.0.metrics.append_retries };
            counter.inc();
            self.0.publish(conv, message, appended);
        }
    }

    /// The connection was lost and is back: tells again how far the conversations are that were published into it
    /// just before or not at all. The nodes that were not cut off would otherwise hear of it at their slow sweep.
    pub fn tell_again(&self) {
        self.tell_untold();
        for (conv, seq) in self.0.recent.take() {
            let payload = encode_head(&conv, seq);
            audience::each_of_conversation(&conv, |subject| {
                self.0.bus.publish(subject, payload.clone());
            });
        }
    }

    /// The connection moves again after it stalled: tells how far the conversations are of which something could not be
    /// published, and asks about recipients whom nobody holds, as the publish itself would have. What still cannot be
    /// published is remembered again.
    pub fn tell_untold(&self) {
        for (conv, last) in self.0.untold.take() {
            let payload = encode_head(&conv, last.seq);
            let mut told = true;
            audience::each_of_message(&conv, &last.from, |subject, recipient| {
                told &= match recipient {
                    Some(user) => {
                        let tag = tag_of(user, &last.from.name, &conv, last.seq);
                        self.0.bus.publish_tagged(subject, payload.clone(), &tag)
                    }
                    None => self.0.bus.publish(subject, payload.clone()),
                };
            });
            if !told {
                self.0.note_untold(&conv, last);
            }
        }
    }

    /// Whether something could not be published and was not told since.
    pub fn has_untold(&self) -> bool {
        !self.0.untold.is_empty()
    }

    /// What the subscription of a subject does with what arrives.
    pub fn inbound(&self, listeners: Arc<Listeners>) -> OnMessage {
        // Weak: the subscription is in the registry, which the router owns.
        let router = Arc::downgrade(&self.0);
        Arc::new(move |message| on_inbound(&router, &listeners, message))
    }

    /// Has a session listen on a room.
    pub fn listen(&self, session: &Arc<SessionHandle>, room: &RoomId) -> Listening {
        self.0.registry.listen(session, room, |listeners| self.inbound(listeners))
    }

    /// The rooms that sessions here listen on.
    pub fn rooms(&self) -> &Rooms {
        self.0.registry.rooms()
    }

    /// Waits until the subscriptions so far are known to the server (R10); false where it did not say so: then I7, the
    /// reconnect will fence and compare.
    pub async fn fence(&self) -> bool {
        let fenced = match self.0.bus.fence().await {
            // The fence belongs to one generation of the connection: when that changes meanwhile, once more.
            Err(BusError::Reconnected) => self.0.bus.fence().await,
            done => done,
        };
        if let Err(error) = &fenced {
            tracing::debug!(%error, "no fence for the subscriptions of rooms");
        }
        fenced.is_ok()
    }

    /// Sends a receipt or a signal to a user's sessions everywhere.
    pub fn pass(&self, user: &UserId, frame: &ServerFrame) {
        let (subject, shared) = (Subject::user(user), Arc::new(SharedFrame::of(frame)));
        self.0.registry.deliver(&subject, |_| Some(Mail::Passing(shared.clone())));
        self.0.bus.publish(&subject, shared.msgpack().clone());
    }

    /// Calls `call` whenever a node told that one user blocks another, or no more. Set once.
    pub fn on_blocked(&self, call: OnBlocked) {
        if self.0.on_blocked.set(call).is_err() {
            tracing::error!("the router has somebody to tell of blocks already");
        }
    }

    /// Tells the nodes of both users, this one included, that one blocks the other, or no more (R24).
    pub fn tell_blocked(&self, user: &UserId, other: &UserId) {
        self.0.blocked(user, other);
        let payload = encode_blocked(user, other);
        for one in [user, other] {
            self.0.bus.publish(&Subject::user(one), payload.clone());
        }
    }

    /// Sends a signal to the sessions that listen on a room, everywhere, but for those of its sender and of `except`.
    pub fn signal_room(&self, room: &RoomId, signal: &Signal, except: &[UserId]) {
        let subject = Subject::room(room);
        let mail = mail_of(signal, except);
        self.0.registry.deliver(&subject, mail);
        self.0.bus.publish(&subject, encode_room_signal(except, signal));
    }

    /// Tells a user's sessions everywhere that one of a device exists (R11).
    pub fn announce(&self, user: &UserId, announcement: Announcement) {
        let subject = Subject::user(user);
        self.0.bus.publish(&subject, announcement.encode());
        let shared = Arc::new(announcement);
        self.0.registry.deliver(&subject, |session| {
            (session.identity.rank.session != shared.session).then(|| Mail::Announcement(shared.clone()))
        });
    }

    /// Tells push services that a message of `from` reaches no device of `user` now.
    pub fn offline(&self, user: &UserId, from: &UserId, conv: &ConvId, seq: Seq) {
        self.0.offline(user, from, conv, seq);
    }
}

impl Inner {
    fn publish(&self, conv: &ConvId, message: &NewMessage, appended: &Appended) {
        let shown = shown(conv, message, appended);
        let expires = shown.expires;
        let change = Change::of_row(message.kind, &message.body);
        let target = change.as_ref().and_then(|change| change.concerns(&message.sender)).cloned();
        let puts_out = change.and_then(|change| change.puts_out(&message.sender));
        let member = target.map(|target| (target, ServerFrame::Member(shown.clone())));
        let frame = SharedFrame::of(&ServerFrame::Message(shown));
        let payload = frame.msgpack().clone();
        let live =
            Arc::new(LiveMessage { conv: conv.clone(), seq: appended.seq, puts_out, expires, frame, from_bus: false });
        let mut told = true;
        let from = Sender::of(message);
        audience::each_of_message(conv, &from, |subject, recipient| {
            self.registry.deliver(subject, |_| Some(Mail::Live(live.clone())));
            self.registry.rooms().note(subject, live.seq);
            told &= match recipient {
                // A retry is published (R3), but nobody is told a second time that its recipient is away.
                // Push services are told of messages, not of what is about them.
                Some(user) if appended.fresh && message.kind == Kind::Message => {
                    let tag = tag_of(user, &message.sender, conv, appended.seq);
                    self.bus.publish_tagged(subject, payload.clone(), &tag)
                }
                _ => self.bus.publish(subject, payload.clone()),
            };
        });
        if !told {
            self.note_untold(conv, Last { seq: appended.seq, from });
        }
        if let Some((target, frame)) = member {
            self.tell_member(&target, conv, appended.seq, &frame);
        }
    }

    /// Whom an event of a room concerns may not listen there. A hint: the sessions read how it is, and the comparisons of
    /// rooms find what is lost here.
    fn tell_member(&self, target: &UserId, conv: &ConvId, seq: Seq, frame: &ServerFrame) {
        let (subject, shared) = (Subject::user(target), Arc::new(SharedFrame::of(frame)));
        self.registry.deliver(&subject, |_| Some(Mail::Member(conv.clone(), seq, shared.clone())));
        self.bus.publish(&subject, shared.msgpack().clone());
    }

    /// Remembers what was not published. The sessions here have it; those on other nodes are told later.
    fn note_untold(&self, conv: &ConvId, last: Last) {
        if !self.untold.note(conv, last) {
            self.metrics.notices_forgotten.inc();
        }
    }

    fn offline(&self, user: &UserId, from: &UserId, conv: &ConvId, seq: Seq) {
        self.metrics.offline_events.inc();
        let payload = Encoding::Json.encode(&OfflineEvent { user, from, conv, seq });
        self.bus.publish(&Subject::event("offline"), payload);
    }

    fn blocked(&self, user: &UserId, other: &UserId) {
        self.on_blocked.get().inspect(|call| call(user, other));
    }

    fn on_no_responders(&self, tag: &str) {
        let mut parts = tag.splitn(4, '.');
        let mut name = || parts.next().and_then(|text| UserId::new(text).ok());
        let (user, from) = (name(), name());
        let conv = parts.next().and_then(|text| ConvId::new(text).ok());
        let seq = parts.next().and_then(|text| text.parse().ok());
        let (Some(user), Some(from), Some(conv), Some(seq)) = (user, from, conv, seq) else {
            return tracing::warn!(tag, "a publish without responders came back with a tag that cannot be read");
        };
        // A node does not hear itself, so silence elsewhere says nothing of the sessions here.
        if !self.registry.has(&Subject::user(&user)) {
            self.offline(&user, &from, &conv, seq);
        }
    }
}

/// A message as it was stored: a second try bears another time, and expires when the first one does.
fn shown(conv: &ConvId, message: &NewMessage, appended: &Appended) -> Message {
    let NewMessage { kind, sender, cid, ts, body, refs, .. } = message;
    let mut refs = refs.clone();
    if let Some(expires) = refs.as_mut().and_then(|refs| refs.expires.as_mut()).filter(|_| *kind == Kind::Message) {
        *expires = expires.saturating_sub(*ts).saturating_add(appended.ts);
    }
    let shown = Message::new(conv.clone(), appended.seq, sender.clone(), appended.ts, body.clone());
    Message { kind: *kind, cid: Some(cid.clone()), ..shown }.with_refs(refs, appended.ts)
}

/// What a publish is known by if nobody has interest in it.
fn tag_of(user: &UserId, from: &UserId, conv: &ConvId, seq: Seq) -> CompactString {
    format_compact!("{user}.{from}.{conv}.{seq}")
}

/// What each session that listens on a room gets of a signal.
fn mail_of<'a>(signal: &'a Signal, except: &'a [UserId]) -> impl FnMut(&SessionHandle) -> Option<Mail> + 'a {
    let shared = Arc::new(SharedFrame::of(&ServerFrame::Signal(signal.clone())));
    move |session| {
        let user = &session.identity.device.user;
        (*user != signal.from && !except.contains(user)).then(|| Mail::Passing(shared.clone()))
    }
}

/// Tells the node that asked of these sessions.
fn answer(router: &Weak<Inner>, asked: &Asked, sessions: &[Arc<SessionHandle>]) {
    let (Some(router), Some(reply)) = (router.upgrade(), Subject::gathered_by(&asked.reply)) else { return };
    let sessions: Vec<_> = sessions.iter().map(|session| router.seen(session)).collect();
    router.bus.publish(&reply, Encoding::MsgPack.encode(&sessions));
}

fn on_inbound(router: &Weak<Inner>, listeners: &Listeners, message: BusMessage) {
    let payload = message.payload;
    match OnBus::decode(&payload) {
        Ok(OnBus::Message { conv, seq, puts_out, expires }) => {
            let frame = SharedFrame::encoded(payload);
            listeners.note(seq);
            let live = Arc::new(LiveMessage { conv, seq, puts_out, expires, frame, from_bus: true });
            listeners.each(|_| Some(Mail::Live(live.clone())));
        }
        Ok(OnBus::Head { conv, seq }) => {
            listeners.note(seq);
            listeners.each(|_| Some(Mail::Notice(conv.clone(), seq)));
        }
        Ok(OnBus::Member { conv, seq }) => {
            let shared = Arc::new(SharedFrame::encoded(payload));
            listeners.each(|_| Some(Mail::Member(conv.clone(), seq, shared.clone())));
        }
        Ok(OnBus::Passing) => {
            let shared = Arc::new(SharedFrame::encoded(payload));
            listeners.each(|_| Some(Mail::Passing(shared.clone())));
        }
        Ok(OnBus::Probe) => {
            if let (Some(router), Some(reply)) = (router.upgrade(), &message.reply)
                && !listeners.all().is_empty()
            {
                router.bus.answer(reply, Bytes::from_static(b"1"));
            }
        }
        Ok(OnBus::Blocked { user, other }) => {
            router.upgrade().inspect(|router| router.blocked(&user, &other));
        }
        Ok(OnBus::RoomSignal { except, signal }) => listeners.each(mail_of(&signal, &except)),
        Ok(OnBus::Session(announcement)) => {
            let shared = Arc::new(announcement);
            listeners.each(|_| Some(Mail::Announcement(shared.clone())));
        }
        Ok(OnBus::Who(asked)) => answer(router, &asked, &listeners.all()),
        Ok(OnBus::End(asked, which)) => {
            let mut ended = listeners.all();
            ended.retain(|session| gather::end(session, &which));
            if !ended.is_empty() {
                answer(router, &asked, &ended);
            }
        }
        Err(error) => tracing::warn!(subject = %message.subject, error, "not a node's payload on a node's subject"),
    }
}
