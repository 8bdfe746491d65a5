//! The sessions of one user on all nodes: asked for over the user's subject, which only nodes hear, and answered to the
//! node that asks. A node that does not answer in time is missing. Called by `ops`; the other side is in [`super::router`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    mailbox::Mail,
    registry::SessionHandle,
    router::{Inner, Router},
};
use crate::{
    bus::OnMessage,
    model::{SessionId, UserId},
    protocol::{
        CloseReason, Encoding,
        ask::{EndSession, LiveSession},
        server::{encode_end, encode_who},
    },
    subject::Subject,
};

/// How long the others have. Who answers is not known before, so a list always takes so long.
const LIST: Duration = Duration::from_millis(250);
/// The same where one answer ends it.
const ONE: Duration = Duration::from_secs(1);
/// Sessions that are taken at most: each node has no more than a few of one user.
const MOST: usize = 1_024;

impl Router {
    /// The user's live sessions, as far as nodes say so in time.
    pub async fn sessions_of(&self, user: &UserId) -> Vec<LiveSession> {
        let mut all = self.0.here(user, |_| true);
        all.extend(self.0.gather(user, encode_who, LIST, false).await);
        all
    }

    /// Ends sessions of a user, and returns those of which it is known that they end.
    pub async fn end_sessions(&self, user: &UserId, which: &EndSession) -> Vec<SessionId> {
        let mut ended = self.0.registry.sessions_of(&Subject::user(user));
        ended.retain(|session| end(session, which));
        let mut ended: Vec<_> = ended.iter().map(|session| session.identity.rank.session.clone()).collect();
        let is_one = matches!(which, EndSession::Session(_));
        if !is_one || ended.is_empty() {
            let patience = if is_one { ONE } else { LIST };
            let others = self.0.gather(user, |reply| encode_end(which, reply), patience, is_one).await;
            ended.extend(others.into_iter().map(|session| session.session));
        }
        ended
    }
}

/// Closes a session if it is meant.
pub(super) fn end(session: &SessionHandle, which: &EndSession) -> bool {
    let identity = &session.identity;
    let meant = which.means(&identity.rank.session, &identity.device.device);
    if meant {
        session.mailbox.push(Mail::Close(CloseReason::Disconnected, None));
    }
    meant
}

impl Inner {
    fn here(&self, user: &UserId, which: impl Fn(&SessionHandle) -> bool) -> Vec<LiveSession> {
        let sessions = self.registry.sessions_of(&Subject::user(user));
        sessions.iter().filter(|session| which(session)).map(|session| self.seen(session)).collect()
    }

    /// A session as others are told of it.
    pub(super) fn seen(&self, session: &SessionHandle) -> LiveSession {
        let identity = &session.identity;
        LiveSession {
            session: identity.rank.session.clone(),
            device: identity.device.device.clone(),
            node: self.node.clone(),
            since: session.since,
        }
    }

    async fn gather(
        &self,
        user: &UserId,
        question: impl FnOnce(&str) -> Bytes,
        patience: Duration,
        is_one: bool,
    ) -> Vec<LiveSession> {
        let reply = Subject::gathered(&self.node, rand::random());
        let found = Arc::new((Mutex::new(Vec::new()), Notify::new()));
        let heard = found.clone();
        let on_message: OnMessage = Arc::new(move |message| {
            let Ok(sessions) = Encoding::MsgPack.decode::<Vec<LiveSession>>(&message.payload) else { return };
            let mut all = heard.0.lock();
            let room = MOST.saturating_sub(all.len());
            all.extend(sessions.into_iter().take(room));
            heard.1.notify_one();
        });
        // Asked and answered where the user's sessions listen.
        let subject = Subject::user(user);
        let bus = self.cells.of(&subject);
        let subscription = bus.subscribe(&reply, on_message);
        if bus.publish(&subject, question(reply.as_str())) {
            let until = Instant::now() + patience;
            while timeout_at(until, found.1.notified()).await.is_ok() && !is_one {}
        }
        drop(subscription);
        std::mem::take(&mut *found.0.lock())
    }
}
