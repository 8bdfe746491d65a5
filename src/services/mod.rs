//! The way in for services: requests over NATS become asks, and are answered when they are done.
//!
//! Built by the node; nodes share the requests as one queue group. Who the service is stands in the subject, and
//! NATS permissions vouch for it (R13). The HTTP API reads and answers its requests with the same code.

mod doors;
pub mod queue;
pub mod reply;
mod request;

use std::{sync::Arc, time::Instant};

pub use self::{
    doors::{Door, Doors},
    request::Request,
};
use crate::{
    bus::{Bus, BusMessage, Subscription},
    metrics::Metrics,
    model::Recipient,
    ops::{Caller, Ops},
    protocol::{Ask, Encoding, ErrorCode, Op, Outcome, Refused, SHORT_TEXT, ask::Refusal, takes::Beside},
    subject::{QUEUE_GROUP, ServiceSubject},
};

/// What the door needs.
#[derive(Clone)]
pub struct Services {
    /// Where requests come from and answers go.
    pub bus: Arc<dyn Bus>,
    /// What carries them out.
    pub ops: Arc<Ops>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Counts by the kind of request.
    pub doors: Arc<Doors>,
}

impl Services {
    /// Subscribes to what services send; ends when the subscriptions are dropped.
    pub fn listen(&self) -> [Subscription; 3] {
        Door::ALL.map(|door| {
            let me = self.clone();
            self.bus.queue_subscribe(
                &door.subject(),
                QUEUE_GROUP,
                Arc::new(move |message| me.on_message(door, message)),
            )
        })
    }

    fn on_message(&self, door: Door, message: BusMessage) {
        let (encoding, began) = (Encoding::sniff(&message.payload), Instant::now());
        let me = self.clone();
        let read = read(&self.ops, encoding, &message.subject, &message.payload, None);
        let done = move |outcome: Outcome| {
            me.doors.count(door, outcome.is_err(), began.elapsed());
            me.answer(encoding, &message, outcome);
        };
        match read {
            Ok((caller, ask)) => self.ops.perform(&caller, ask, done),
            Err(refused) => done(Err(refused)),
        }
    }

    /// Answers in the request's own encoding; a plain publish gets no answer.
    fn answer(&self, encoding: Encoding, request: &BusMessage, outcome: Outcome) {
        reply::count(&self.metrics, outcome.as_ref().err());
        let Some(to) = &request.reply else {
            if let Err(Refused { code, message, .. }) = outcome {
                let (code, subject) = (code.word(), &request.subject);
                tracing::warn!(code, message, %subject, "a service's message was refused, and it did not ask to know");
            }
            return;
        };
        let reply = match outcome {
            Ok(answer) => reply::answer(encoding, &answer, &self.metrics),
            Err(refused) => reply::refusal(encoding, &Refusal::from(refused)),
        };
        let service = ServiceSubject::service_of(&request.subject).unwrap_or_default();
        self.bus.reply(service, to, reply);
    }
}

/// The op of this word, if it is one that services ask.
///
/// # Errors
/// `unknown_op`.
pub fn op_named(word: &str) -> Result<Op, Refused> {
    let op = Op::from_word(word).filter(|op| op.takes().is_some());
    op.ok_or_else(|| {
        let shown: String = word.chars().take(SHORT_TEXT).collect();
        Refused::new(ErrorCode::UnknownOp, format!("op: services have no op {shown:?}"))
    })
}

/// Reads what a service published to a subject; `cid` counts where it names none.
fn read(
    ops: &Ops,
    encoding: Encoding,
    subject: &str,
    payload: &[u8],
    cid: Option<&str>,
) -> Result<(Caller, Ask), Refused> {
    let (service, op, to) = match ServiceSubject::parse(subject) {
        Some(ServiceSubject::SendUser { service, user }) => (service, Op::Send, Some(Recipient::User(user))),
        Some(ServiceSubject::SendRoom { service, room }) => (service, Op::Send, Some(Recipient::Room(room))),
        Some(ServiceSubject::SignalUser { service, user }) => (service, Op::Signal, Some(Recipient::User(user))),
        Some(ServiceSubject::Do { service, op }) => (service, op_named(&op)?, None),
        None => {
            let text = format!("{subject:.200}: has not the right form, or a name in it is not in the alphabet");
            return Err(Refused::new(ErrorCode::BadName, text));
        }
    };
    let to = to.map(|to| to.to_string());
    let beside = Beside { to: to.as_deref(), cid: None };
    Request { service, op, encoding, payload, beside, cid }.read(ops)
}
