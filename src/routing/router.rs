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
    traces::{Point, Step, Traces},
    untold::{Last, Untold},
};
use crate::{
    bus::{
        BusError, BusMessage, OnMessage,
        cells::{Cell, CellSet, Cells, PerCell},
    },
    events::Events,
    metrics::Metrics,
    model::{ConvId, Kind, NewMessage, RoomId, Seq, UserId, now_millis, room::Change},
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
    pub(super) cells: Cells,
    pub(super) registry: Arc<Registry>,
    pub(super) node: String,
    metrics: Arc<Metrics>,
    told: PerCell<Told>,
    traces: Traces,
    events: Events,
    on_blocked: OnceLock<OnBlocked>,
    on_offline: OnceLock<OnOffline>,
}

/// What is to be told again in one cell when its connection is back, or moves again.
#[derive(Debug, Default)]
struct Told {
    recent: Recent,
    untold: Untold,
}

/// Called with two users of whom one blocked the other, or unblocked.
pub type OnBlocked = Box<dyn Fn(&UserId, &UserId) + Send + Sync>;

/// Called with messages that reach no device of a user.
pub type OnOffline = Box<dyn Fn(UserId, Missed) + Send + Sync>;

/// A message that reaches no device of a user now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Which conversation.
    pub conv: ConvId,
    /// Its place.
    pub seq: Seq,
    /// Who wrote it.
    pub from: UserId,
    /// It mentions the user.
    pub mention: bool,
}

/// What a publish is known by if nobody has interest in it; [`Missed::of_tag`] reads it.
fn tag_of(user: &UserId, from: &UserId, conv: &ConvId, seq: Seq, mention: bool) -> CompactString {
    format_compact!("{user}.{from}.{conv}.{seq}.{}", u8::from(mention))
}

impl Missed {
    fn of_tag(tag: &str) -> Option<(UserId, Self)> {
        let mut parts = tag.splitn(5, '.');
        let mut name = || UserId::new(parts.next()?).ok();
        let (user, from) = (name()?, name()?);
        let conv = ConvId::new(parts.next()?).ok()?;
        let seq = parts.next()?.parse().ok()?;
        Some((user, Self { conv, seq, from, mention: parts.next()? == "1" }))
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Router({:?})", self.0.registry)
    }
}

impl Router {
    /// A router; takes over what the buses tell of publishes that had no responders.
    pub fn new(node: &str, cells: Cells, registry: Arc<Registry>, metrics: Arc<Metrics>, events: Events) -> Self {
        let (traces, told) = (Traces::new(node, cells.first().clone()), cells.map(|_| Told::default()));
        let (node, on_blocked, on_offline) = (node.to_owned(), OnceLock::new(), OnceLock::new());
        let inner = Arc::new(Inner { cells, registry, node, metrics, told, traces, events, on_blocked, on_offline });
        for cell in inner.cells.all() {
            // Weak: the bus is owned by what it calls here, and a cycle would keep a whole node alive forever.
            let told: Weak<Inner> = Arc::downgrade(&inner);
            inner.cells.at(cell).on_no_responders(Arc::new(move |tag| {
                if let Some(inner) = told.upgrade() {
                    inner.on_no_responders(tag);
                }
            }));
        }
        Self(inner)
    }

    /// Who is followed here.
    pub fn traces(&self) -> &Traces {
        &self.0.traces
    }

    /// A batch of a conversation was stored and answered: publish it, retries too (R3).
    pub fn publish_stored(&self, conv: &ConvId, batch: &[(NewMessage, Appended)]) {
        let highest = batch.iter().map(|(_, appended)| appended.seq).max().unwrap_or(0);
        for cell in self.0.cells_of(conv).iter() {
            self.0.told.of(cell).recent.note(conv, highest, self.0.cells.at(cell).connected().is_some());
        }
        for (message, appended) in batch {
            let counter = if appended.fresh { &self.0.metrics.appended } else { &self.0.metrics.append_retries };
            counter.inc();
            self.0.publish(conv, message, appended);
        }
    }

    /// The connection of a cell was lost and is back: tells again how far the conversations are that were published into
    /// it just before or not at all. The nodes that were not cut off would otherwise hear of it at their slow sweep.
    pub fn tell_again(&self, cell: Cell) {
        self.tell_untold(cell);
        for (conv, seq) in self.0.told.of(cell).recent.take() {
            let payload = encode_head(&conv, seq);
            audience::each_of_conversation(&conv, |subject| {
                if self.0.cells.cell(subject) == cell {
                    self.0.cells.at(cell).publish(subject, payload.clone());
                }
            });
        }
    }

    /// The connection of a cell moves again after it stalled: tells how far the conversations are of which something could not be
    /// published, and asks about recipients whom nobody holds, as the publish itself would have. What still cannot be
    /// published is remembered again.
    pub fn tell_untold(&self, cell: Cell) {
        let bus = self.0.cells.at(cell);
        for (conv, last) in self.0.told.of(cell).untold.take() {
            let payload = encode_head(&conv, last.seq);
            let mut told = true;
            audience::each_of_message(&conv, &last.from, |subject, recipient| {
                if self.0.cells.cell(subject) != cell {
                    return;
                }
                told &= match recipient {
                    Some(user) => {
                        let tag = tag_of(user, &last.from.name, &conv, last.seq, false);
                        bus.publish_tagged(subject, payload.clone(), &tag)
                    }
                    None => bus.publish(subject, payload.clone()),
                };
            });
            if !told {
                self.0.note_untold(cell, &conv, last);
            }
        }
    }

    /// Whether something could not be published in a cell and was not told since.
    pub fn has_untold(&self, cell: Cell) -> bool {
        !self.0.told.of(cell).untold.is_empty()
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

    /// Waits until the subscriptions of these rooms are known to the servers (R10). Where one does not say so, I7: the
    /// reconnect will fence and compare.
    pub async fn fence(&self, listening: &[Listening]) {
        let new = || listening.iter().filter(|one| one.needs_fence());
        let cell = |one: &Listening| Some(self.0.cells.cell(&one.subject()?));
        for at in new().filter_map(cell).collect::<CellSet>().iter() {
            match self.fenced(at).await {
                Ok(_) => new().filter(|one| cell(one) == Some(at)).for_each(Listening::fenced),
                Err(error) => tracing::debug!(%error, "no fence for the subscriptions of rooms"),
            }
        }
    }

    /// Waits until the server has processed the subscription of a user's subject (R10).
    ///
    /// # Errors
    /// As [`Bus::fence`](crate::bus::Bus::fence)'s.
    pub async fn fence_user(&self, user: &UserId) -> Result<u64, BusError> {
        self.fenced(self.0.cells.cell(&Subject::user(user))).await
    }

    /// Waits until the servers have said of everything that was published whether anybody was there to receive it.
    pub async fn settle(&self) {
        for cell in self.0.cells.all() {
            // Without a connection there is nobody to say it.
            let _ = self.0.cells.at(cell).fence().await;
        }
    }

    /// The fence belongs to one generation of the connection: when that changes meanwhile, once more.
    async fn fenced(&self, cell: Cell) -> Result<u64, BusError> {
        let bus = self.0.cells.at(cell);
        match bus.fence().await {
            Err(BusError::Reconnected) => bus.fence().await,
            done => done,
        }
    }

    /// Sends a receipt or a signal to a user's sessions everywhere.
    pub fn pass(&self, user: &UserId, frame: &ServerFrame) {
        let (subject, shared) = (Subject::user(user), Arc::new(SharedFrame::of(frame)));
        self.0.registry.deliver(&subject, |_| Some(Mail::Passing(shared.clone())));
        self.0.publish_to(&subject, shared.msgpack().clone());
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
            self.0.publish_to(&Subject::user(one), payload.clone());
        }
    }

    /// Sends a signal to the sessions that listen on a room, everywhere, but for those of its sender and of `except`.
    pub fn signal_room(&self, room: &RoomId, signal: &Signal, except: &[UserId]) {
        let subject = Subject::room(room);
        let mail = mail_of(signal, except);
        self.0.registry.deliver(&subject, mail);
        self.0.publish_to(&subject, encode_room_signal(except, signal));
    }

    /// Tells a user's sessions everywhere that one of a device exists (R11).
    pub fn announce(&self, user: &UserId, announcement: Announcement) {
        let subject = Subject::user(user);
        self.0.publish_to(&subject, announcement.encode());
        let shared = Arc::new(announcement);
        self.0.registry.deliver(&subject, |session| {
            (session.identity.rank.session != shared.session).then(|| Mail::Announcement(shared.clone()))
        });
    }

    /// A message reaches no device of `user` now.
    pub fn offline(&self, user: &UserId, missed: Missed) {
        self.0.offline(user.clone(), missed);
    }

    /// Calls `call` with each message that reaches no device of its recipient. Set once; before that nobody is told.
    pub fn on_offline(&self, call: OnOffline) {
        if self.0.on_offline.set(call).is_err() {
            tracing::error!("the router has somebody to tell of messages for nobody already");
        }
    }

    /// Tells a member's sessions everywhere how far a room is, and push services where there is none.
    pub fn notify(&self, user: &UserId, missed: &Missed) {
        let (subject, conv, seq) = (Subject::user(user), &missed.conv, missed.seq);
        self.0.registry.deliver(&subject, |_| Some(Mail::Notice(conv.clone(), seq)));
        let tag = tag_of(user, &missed.from, conv, seq, missed.mention);
        self.0.cells.of(&subject).publish_tagged(&subject, encode_head(conv, seq), &tag);
    }

    /// What services are told.
    pub fn events(&self) -> &Events {
        &self.0.events
    }
}

impl Inner {
    fn publish(&self, conv: &ConvId, message: &NewMessage, appended: &Appended) {
        let trace = self.traces.is_on().then(|| (&message.sender, Point::of(Step::Stored, conv, appended.seq)));
        if let Some((sender, point)) = &trace {
            self.traces.tell(sender, &Point { from: Some(sender), cid: Some(&message.cid), ..point.clone() });
        }
        let shown = shown(conv, message, appended);
        let expires = shown.expires;
        let change = Change::of_row(message.kind, &message.body);
        let target = change.as_ref().and_then(|change| change.concerns(&message.sender)).cloned();
        let puts_out = change.and_then(|change| change.puts_out(&message.sender));
        let member = target.map(|target| (target, ServerFrame::Member(shown.clone())));
        let frame = SharedFrame::of(&ServerFrame::Message(shown));
        let payload = frame.msgpack().clone();
        let live = Arc::new(LiveMessage {
            conv: conv.clone(),
            seq: appended.seq,
            puts_out,
            expires,
            ts: message.ts,
            frame,
            from_bus: false,
        });
        let mut untold = CellSet::default();
        let from = Sender::of(message);
        audience::each_of_message(conv, &from, |subject, recipient| {
            self.registry.deliver(subject, |_| Some(Mail::Live(live.clone())));
            self.registry.rooms().note(subject, live.seq);
            let cell = self.cells.cell(subject);
            let bus = self.cells.at(cell);
            let told = match recipient {
                // A retry is published (R3), but nobody is told a second time that its recipient is away.
                // Push services are told of messages, not of what is about them.
                Some(user) if appended.fresh && message.kind == Kind::Message => {
                    let tag = tag_of(user, &message.sender, conv, appended.seq, message.mentions(user));
                    bus.publish_tagged(subject, payload.clone(), &tag)
                }
                _ => bus.publish(subject, payload.clone()),
            };
            if !told {
                untold.insert(cell);
            }
        });
        if let Some((sender, point)) = trace {
            let ok = Some(untold == CellSet::default());
            let step = Step::Published;
            self.traces.tell(sender, &Point { step, at: now_millis(), from: Some(sender), ok, ..point });
        }
        for cell in untold.iter() {
            self.note_untold(cell, conv, Last { seq: appended.seq, from: from.clone() });
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
        self.publish_to(&subject, shared.msgpack().clone());
    }

    /// The cells in which a conversation's news is published.
    fn cells_of(&self, conv: &ConvId) -> CellSet {
        let mut found = CellSet::default();
        if self.cells.count() == 1 {
            self.cells.all().for_each(|cell| found.insert(cell));
        } else {
            audience::each_of_conversation(conv, |subject| found.insert(self.cells.cell(subject)));
        }
        found
    }

    /// Publishes where whoever listens on the subject is.
    fn publish_to(&self, subject: &Subject, payload: Bytes) {
        self.cells.of(subject).publish(subject, payload);
    }

    /// Remembers what was not published. The sessions here have it; those on other nodes are told later.
    fn note_untold(&self, cell: Cell, conv: &ConvId, last: Last) {
        if !self.told.of(cell).untold.note(conv, last) {
            self.metrics.notices_forgotten.inc();
        }
    }

    fn offline(&self, user: UserId, missed: Missed) {
        if self.traces.is_on() {
            let Missed { conv, seq, from, .. } = &missed;
            let point = Point { from: Some(from), user: Some(&user), ..Point::of(Step::Offline, conv, *seq) };
            self.traces.tell(&user, &point);
        }
        self.metrics.offline_events.inc();
        if let Some(call) = self.on_offline.get() {
            call(user, missed);
        }
    }

    fn blocked(&self, user: &UserId, other: &UserId) {
        self.on_blocked.get().inspect(|call| call(user, other));
    }

    fn on_no_responders(&self, tag: &str) {
        let Some((user, missed)) = Missed::of_tag(tag) else {
            return tracing::warn!(tag, "a publish without responders came back with a tag that cannot be read");
        };
        // A node does not hear itself, so silence elsewhere says nothing of the sessions here.
        if !self.registry.has(&Subject::user(&user)) {
            self.offline(user, missed);
        }
    }
}

/// A message as it was stored: a second try bears another time, and its room may have said how long it lasts.
pub fn shown(conv: &ConvId, message: &NewMessage, appended: &Appended) -> Message {
    let NewMessage { kind, sender, cid, body, refs, .. } = message;
    let mut refs = refs.clone();
    if appended.expires.is_some() {
        refs.get_or_insert_default().expires = appended.expires;
    }
    let shown = Message::new(conv.clone(), appended.seq, sender.clone(), appended.ts, body.clone());
    Message { kind: *kind, cid: Some(cid.clone()), ..shown }.with_refs(refs, appended.ts)
}

/// What each session that listens on a room gets of a signal.
fn mail_of<'a>(signal: &'a Signal, except: &'a [UserId]) -> impl FnMut(&SessionHandle) -> Option<Mail> + 'a {
    let shared = Arc::new(SharedFrame::of(&ServerFrame::Signal(signal.clone())));
    move |session| {
        let user = &session.identity.device.user;
        (*user != signal.from && !except.contains(user)).then(|| Mail::Passing(shared.clone()))
    }
}

/// Tells the node that asked of these sessions, over the bus that brought its question.
fn answer(router: &Weak<Inner>, subject: &str, asked: &Asked, sessions: &[Arc<SessionHandle>]) {
    let (Some(router), Some(reply)) = (router.upgrade(), Subject::gathered_by(&asked.reply)) else { return };
    let sessions: Vec<_> = sessions.iter().map(|session| router.seen(session)).collect();
    router.cells.that_brought(subject).publish(&reply, Encoding::MsgPack.encode(&sessions));
}

fn on_inbound(router: &Weak<Inner>, listeners: &Listeners, message: BusMessage) {
    let payload = message.payload;
    match OnBus::decode(&payload) {
        Ok(OnBus::Message { conv, seq, puts_out, expires, ts }) => {
            let frame = SharedFrame::encoded(payload);
            listeners.note(seq);
            let live = Arc::new(LiveMessage { conv, seq, puts_out, expires, ts, frame, from_bus: true });
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
                router.cells.that_brought(&message.subject).answer(reply, Bytes::from_static(b"1"));
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
        Ok(OnBus::Who(asked)) => answer(router, &message.subject, &asked, &listeners.all()),
        Ok(OnBus::End(asked, which)) => {
            let mut ended = listeners.all();
            ended.retain(|session| gather::end(session, &which));
            if !ended.is_empty() {
                answer(router, &message.subject, &asked, &ended);
            }
        }
        Err(error) => tracing::warn!(subject = %message.subject, error, "not a node's payload on a node's subject"),
    }
}
