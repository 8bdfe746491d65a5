//! Where stored messages go: to the sessions on this node, and over the bus to the others. Also what arrives over
//! the bus, and what nobody heard.
//!
//! Called by the appender (a batch was stored), by bus subscriptions and by the pump (receipts, signals).

use std::sync::Arc;

use super::{
    live::{Live, Shared},
    mailbox::Mail,
    recent::Recent,
    registry::{LocalUser, Registry},
};
use crate::{
    bus::{Bus, BusMessage, OnMessage},
    metrics::Metrics,
    model::{ConvId, Parties, Seq, UserId},
    protocol::{
        Encoding, Message, ServerFrame,
        server::{Announcement, OnBus, encode_head},
    },
    store::{Appended, NewMessage},
    subject::Subject,
};

/// The router of one node.
#[derive(Clone)]
pub struct Router {
    bus: Arc<dyn Bus>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    recent: Arc<Recent>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Router({:?})", self.registry)
    }
}

#[derive(serde::Serialize)]
struct OfflineEvent<'a> {
    user: &'a UserId,
    conv: &'a ConvId,
    seq: Seq,
}

impl Router {
    /// A router; takes over what the bus tells of publishes that nobody heard.
    pub fn new(bus: Arc<dyn Bus>, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        let router = Self { bus, registry, metrics, recent: Arc::default() };
        let told = router.clone();
        // The bus lives as long as the node: the cycle is cut when the process ends.
        router.bus.on_no_responders(Arc::new(move |tag| told.on_no_responders(tag)));
        router
    }

    /// A batch of a conversation was stored and answered: publish it, retries too (R3).
    pub fn on_appended(&self, conv: &ConvId, batch: &[(NewMessage, Appended)]) {
        let Parties::Direct(a, b) = conv.parties() else { return };
        let highest = batch.iter().map(|(_, appended)| appended.seq).max().unwrap_or(0);
        self.recent.note(conv, highest, self.bus.connected().is_some());
        for (message, appended) in batch {
            if appended.fresh {
                self.metrics.appended.inc();
            } else {
                self.metrics.append_retries.inc();
            }
            let frame = ServerFrame::Message(Message {
                conv: conv.clone(),
                seq: appended.seq,
                from: message.sender.clone(),
                ts: appended.ts,
                cid: Some(message.cid.clone()),
                body: crate::protocol::Body::from_stored(message.body.clone()),
            });
            let frame = Shared::of(&frame);
            let payload = frame.msgpack().clone();
            let live = Arc::new(Live { conv: conv.clone(), seq: appended.seq, frame, from_bus: false });
            let recipient = if a == message.sender { &b } else { &a };
            self.registry.deliver(recipient, |_| Some(Mail::Live(live.clone())));
            if *recipient == message.sender {
                self.bus.publish(&Subject::user(recipient), payload);
                continue;
            }
            let tag = compact_str::format_compact!("{recipient}.{conv}.{}", appended.seq);
            self.bus.publish_tagged(&Subject::user(recipient), payload.clone(), &tag);
            // The sender's own devices, the sending one included, get it in its place in the order (R6).
            self.registry.deliver(&message.sender, |_| Some(Mail::Live(live.clone())));
            self.bus.publish(&Subject::user(&message.sender), payload);
        }
    }

    /// The connection was lost and is back: tells again how far the conversations are that were published into it
    /// just before or not at all. The nodes that were not cut off would otherwise hear of it at their slow sweep.
    pub fn tell_again(&self) {
        for (conv, seq) in self.recent.take() {
            let Parties::Direct(a, b) = conv.parties() else { continue };
            let payload = encode_head(&conv, seq);
            self.bus.publish(&Subject::user(&a), payload.clone());
            if a != b {
                self.bus.publish(&Subject::user(&b), payload);
            }
        }
    }

    /// What a user's subscription does with what arrives.
    pub fn inbound(&self, user: Arc<LocalUser>) -> OnMessage {
        // Not the router: the registry in it holds this very callback.
        Arc::new(move |message| on_inbound(&user, message))
    }

    /// Sends a receipt or a signal to a user's sessions everywhere.
    pub fn pass(&self, user: &UserId, frame: &ServerFrame) {
        let shared = Arc::new(Shared::of(frame));
        self.registry.deliver(user, |_| Some(Mail::Passing(shared.clone())));
        self.bus.publish(&Subject::user(user), shared.msgpack().clone());
    }

    /// Tells a user's sessions everywhere that one of a device exists (R11).
    pub fn announce(&self, user: &UserId, announcement: Announcement) {
        self.bus.publish(&Subject::user(user), announcement.encode());
        let shared = Arc::new(announcement);
        self.registry.deliver(user, |session| {
            (session.identity.rank.session != shared.session).then(|| Mail::Announcement(shared.clone()))
        });
    }

    /// Tells push services that a message reaches no device of `user` now.
    pub fn offline(&self, user: &UserId, conv: &ConvId, seq: Seq) {
        self.metrics.offline_events.inc();
        let payload = Encoding::Json.encode(&OfflineEvent { user, conv, seq });
        self.bus.publish(&Subject::event("offline"), payload);
    }

    fn on_no_responders(&self, tag: &str) {
        let mut parts = tag.splitn(3, '.');
        let user = parts.next().and_then(|text| UserId::new(text).ok());
        let conv = parts.next().and_then(|text| ConvId::new(text).ok());
        let seq = parts.next().and_then(|text| text.parse().ok());
        let (Some(user), Some(conv), Some(seq)) = (user, conv, seq) else {
            return tracing::warn!(tag, "\"no responders\" came back with a malformed tag");
        };
        // A node does not hear itself, so silence elsewhere says nothing of the sessions here.
        if !self.registry.has(&user) {
            self.offline(&user, &conv, seq);
        }
    }
}

fn on_inbound(user: &LocalUser, message: BusMessage) {
    let payload = message.payload;
    match OnBus::decode(&payload) {
        Ok(OnBus::Message { conv, seq }) => {
            let live = Arc::new(Live { conv, seq, frame: Shared::encoded(payload), from_bus: true });
            user.each(|_| Some(Mail::Live(live.clone())));
        }
        Ok(OnBus::Head { conv, seq }) => user.each(|_| Some(Mail::Heard(conv.clone(), seq))),
        Ok(OnBus::Passing) => {
            let shared = Arc::new(Shared::encoded(payload));
            user.each(|_| Some(Mail::Passing(shared.clone())));
        }
        Ok(OnBus::Session(announcement)) => {
            let shared = Arc::new(announcement);
            user.each(|_| Some(Mail::Announcement(shared.clone())));
        }
        Err(error) => tracing::warn!(subject = %message.subject, error, "not a node's payload on a user's subject"),
    }
}
