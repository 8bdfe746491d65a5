//! What this node knows of a user's sessions.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};

use super::{Here, SessionFacts};
use crate::{
    model::ConvId,
    operators::{
        Parts,
        wire::{State, WhyAsk},
    },
    routing::{Look, Mail, SessionHandle},
    subject::Subject,
};

/// How long a session's task has: it answers at once, if it is not stuck.
const PATIENCE: Duration = Duration::from_millis(500);

pub(in crate::operators) async fn here(parts: &Parts, state: State, asked: &WhyAsk, peers: Vec<String>) -> Here {
    let WhyAsk { conv, user, .. } = asked;
    let subject = Subject::user(user);
    let sessions = parts.gateway.registry().sessions_of(&subject);
    let is_on = |subject: &Subject| parts.cells.of(subject).connected().is_some();
    Here {
        state,
        on_nats: is_on(&subject),
        room_on_nats: conv.as_room().is_none_or(|room| is_on(&Subject::room(&room))),
        sessions: join_all(sessions.iter().map(|session| look(session, conv))).await,
        peers,
    }
}

async fn look(session: &SessionHandle, conv: &ConvId) -> SessionFacts {
    let (tell, told) = oneshot::channel();
    session.mailbox.push(Mail::Look(Box::new(Look { conv: conv.clone(), tell })));
    let seen = timeout(PATIENCE, told).await;
    SessionFacts {
        session: session.identity.rank.session.clone(),
        device: session.identity.device.device.clone(),
        since: session.since,
        seen: seen.ok().and_then(Result::ok),
    }
}
