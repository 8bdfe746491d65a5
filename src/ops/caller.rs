//! Who asks, and what they may: every permission of every op is decided here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{Ops, unserved};
use crate::{
    model::{Audience, ConvId, UserId},
    protocol::{ErrorCode, Refused},
    routing::SessionHandle,
};

/// How often a read that takes long looks whether its session is still there.
const GLANCE: Duration = Duration::from_millis(250);

/// Who asks: a user through a session, or a service under its own name or as a user.
#[derive(Debug, Clone)]
pub struct Caller {
    user: UserId,
    door: Door,
}

#[derive(Debug, Clone)]
enum Door {
    Session(Arc<SessionHandle>),
    /// `own` when it speaks under its own name.
    Service {
        own: bool,
    },
}

/// Room for one request of a service, given back when it is dropped.
pub(super) struct Ticket(Option<Arc<Ops>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ops) = &self.0 {
            ops.services_under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Caller {
    /// The user of a session.
    pub fn session(session: Arc<SessionHandle>) -> Self {
        Self { user: session.identity.device.user.clone(), door: Door::Session(session) }
    }

    /// A service whom NATS permissions vouch for (R13), speaking as `from` where that is given.
    ///
    /// # Errors
    /// When the service may not speak as that user.
    pub fn service(ops: &Ops, service: UserId, from: Option<UserId>) -> Result<Self, Refused> {
        let own = from.as_ref().is_none_or(|from| *from == service);
        let user = match from {
            Some(from) if !ops.services.may_send_as(&service, &from) => {
                let text = format!("from: {service} may not send as {from} (services.{service}.may_send_as)");
                return Err(Refused::new(ErrorCode::Unauthorized, text));
            }
            Some(from) => from,
            None => service,
        };
        Ok(Self { user, door: Door::Service { own } })
    }

    /// The session it is, if it is one.
    pub(super) fn as_session(&self) -> Option<&Arc<SessionHandle>> {
        match &self.door {
            Door::Session(session) => Some(session),
            Door::Service { .. } => None,
        }
    }

    /// In whose name it acts.
    pub(super) fn name(&self) -> &UserId {
        &self.user
    }

    /// Whether that is the name of a service, which has no inbox.
    pub(super) fn is_service(&self) -> bool {
        matches!(self.door, Door::Service { own: true })
    }

    /// Room for one more request.
    pub(super) fn admit(&self, ops: &Arc<Ops>) -> Result<Ticket, Refused> {
        // A session bounds its own requests by reading no more frames.
        if matches!(self.door, Door::Session(_)) {
            return Ok(Ticket(None));
        }
        if ops.services_under_way.fetch_add(1, Ordering::AcqRel) >= ops.limits.services_under_way {
            ops.services_under_way.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::new(ErrorCode::Unavailable, "too many requests under way, try again"));
        }
        Ok(Ticket(Some(ops.clone())))
    }

    /// Does `work` as long as there is somebody to tell: the reads of a session that has ended are dropped, also those
    /// that wait for their turn.
    ///
    /// # Errors
    /// When the session has ended; nobody hears of it.
    pub(super) async fn while_there<T>(&self, work: impl Future<Output = T>) -> Result<T, Refused> {
        let Door::Session(session) = &self.door else { return Ok(work.await) };
        let gone = async {
            while !session.mailbox.is_closed() {
                sleep(GLANCE).await;
            }
        };
        tokio::select! {
            biased;
            () = gone => Err(Refused::new(ErrorCode::Unavailable, "the connection has ended")),
            done = work => Ok(done),
        }
    }

    /// Whether the caller belongs to the conversation.
    pub(super) fn belongs_to(&self, conv: &ConvId) -> Result<(), Refused> {
        belongs(&self.user, conv)
    }
}

/// Whether `user` belongs to the conversation.
pub(super) fn belongs(user: &UserId, conv: &ConvId) -> Result<(), Refused> {
    match Audience::of(conv) {
        Some(audience) if audience.contains(user) => Ok(()),
        Some(_) => Err(Refused::new(ErrorCode::NotMember, "conv: you are not part of this conversation")),
        None => Err(unserved("rooms")),
    }
}
