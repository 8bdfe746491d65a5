//! Who asks, and what they may: every permission of every op is decided here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{Ops, fault, unserved};
use crate::{
    model::{Audience, ConvId, UserId},
    protocol::{Ask, ErrorCode, Op, Refused},
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
        /// Boxed: sessions, which have none, would be larger for it.
        name: Box<UserId>,
        own: bool,
    },
}

/// What a service does under its own name: writes to users, and what that needs. It has no inbox and belongs to no room.
fn is_of_services(op: Op) -> bool {
    is_sending(op) || matches!(op, Op::Edit | Op::Delete | Op::React | Op::Unreact | Op::History)
}

/// What `may_send_as` is enough for.
fn is_sending(op: Op) -> bool {
    matches!(op, Op::Send | Op::SendMany | Op::Signal)
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

    /// A service whom NATS permissions or its token vouch for (R13), which does `op` in the name of `from` where that is
    /// given.
    ///
    /// # Errors
    /// When the service may not do that in this name.
    pub fn service(ops: &Ops, service: UserId, from: Option<UserId>, op: Op) -> Result<Self, Refused> {
        let refused = |text: String| Err(Refused::new(ErrorCode::Unauthorized, text));
        match from.filter(|from| *from != service) {
            None if is_of_services(op) => {
                Ok(Self { user: service.clone(), door: Door::Service { name: service.into(), own: true } })
            }
            None => refused(format!(
                "from: a service does {} for a user only: name one of services.{service}.may_act_for",
                op.word()
            )),
            Some(from) if is_sending(op) && !ops.services.may_send_as(&service, &from) => {
                refused(format!("from: {service} may not send as {from} (services.{service}.may_send_as)"))
            }
            Some(from) if !is_sending(op) && !ops.services.may_act_for(&service, &from) => {
                refused(format!("from: {service} may not act for {from} (services.{service}.may_act_for)"))
            }
            Some(_) if op == Op::Mint && !ops.services.mints_tokens(&service) => {
                refused(format!("{service} may not have tokens made (services.{service}.mints_tokens)"))
            }
            Some(_) if op == Op::Erase && !ops.services.erases_users(&service) => {
                refused(format!("{service} may not erase users (services.{service}.erases_users)"))
            }
            Some(from) => Ok(Self { user: from, door: Door::Service { name: service.into(), own: false } }),
        }
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
        matches!(self.door, Door::Service { own: true, .. })
    }

    /// Room for one more request.
    pub(super) fn admit(&self, ops: &Arc<Ops>, ask: &Ask) -> Result<Ticket, Refused> {
        // A session bounds its own requests by its rate and by reading no more frames.
        let Door::Service { name, .. } = &self.door else { return Ok(Ticket(None)) };
        let cost = if let Ask::SendMany(many) = ask { many.users.len() as u64 } else { 1 };
        if let Err(wait) = ops.service_rates.take(name, ops.services.requests_per_sec(name), cost) {
            let text = format!("too many requests (services.{name}.requests_per_sec): wait, then send it again");
            return Err(Refused::new(ErrorCode::RateLimited, text).after(wait));
        }
        if ops.services_under_way.fetch_add(1, Ordering::AcqRel) >= ops.limits.services_under_way {
            ops.services_under_way.fetch_sub(1, Ordering::AcqRel);
            let text = "too many requests of services are under way, try again";
            return Err(Refused::new(ErrorCode::Unavailable, text).after(fault::soon()));
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
