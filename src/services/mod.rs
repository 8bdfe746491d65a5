//! The way in for services: requests over NATS become asks, and are answered when they are done.
//!
//! Built by the node; nodes share the requests as one queue group. Who the service is stands in the subject, and
//! NATS permissions vouch for it (R13).

mod request;

use std::sync::Arc;

use serde::Serialize;

use self::request::Form;

use crate::{
    bus::{Bus, BusMessage, Subscription},
    metrics::{Metrics, ServiceOutcome},
    model::{Cid, Recipient, UserId},
    ops::{Caller, Ops},
    protocol::{Answer, Ask, Encoding, ErrorCode, Outcome, Refused, ask, ask::signal_type},
    subject::{QUEUE_GROUP, ServiceSubject, Subject},
};

#[derive(Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    /// There is nothing to say but that it was done.
    Done {},
    Answer(&'a Answer),
    Refused {
        error: ErrorReply<'a>,
    },
}

#[derive(Serialize)]
struct ErrorReply<'a> {
    code: ErrorCode,
    message: &'a str,
    retry: bool,
}

/// What the door needs.
#[derive(Clone)]
pub struct Services {
    /// Where requests come from and answers go.
    pub bus: Arc<dyn Bus>,
    /// What carries them out.
    pub ops: Arc<Ops>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Turns a service's payload into who asks what.
type ReadRequest = fn(&Ops, &BusMessage) -> Result<(Caller, Ask), Refused>;

impl Services {
    /// Subscribes to what services send; ends when the subscriptions are dropped.
    pub fn listen(&self) -> [Subscription; 2] {
        let (sends, signals) = (self.clone(), self.clone());
        [
            self.bus.queue_subscribe(
                &Subject::all_sends(),
                QUEUE_GROUP,
                Arc::new(move |message| sends.on_message(message, read_send)),
            ),
            self.bus.queue_subscribe(
                &Subject::all_signals(),
                QUEUE_GROUP,
                Arc::new(move |message| signals.on_message(message, read_signal)),
            ),
        ]
    }

    fn on_message(&self, message: BusMessage, read: ReadRequest) {
        let encoding = Encoding::sniff(&message.payload);
        let door = self.clone();
        let read = read(&self.ops, &message);
        let done = move |outcome: Outcome| door.answer(encoding, &message, &outcome);
        match read {
            Ok((caller, ask)) => self.ops.perform(&caller, ask, done),
            Err(refused) => done(Err(refused)),
        }
    }

    /// Answers in the request's own encoding; a plain publish gets no answer.
    fn answer(&self, encoding: Encoding, request: &BusMessage, outcome: &Outcome) {
        self.metrics.service_requests.of(label(outcome)).inc();
        let reply = match outcome {
            Ok(Answer::Done) => Reply::Done {},
            Ok(answer) => Reply::Answer(answer),
            Err(Refused { code, message, .. }) => {
                if request.reply.is_none() {
                    let (code, subject) = (code.word(), &request.subject);
                    tracing::warn!(code, message, %subject, "a service's message was refused, and it did not ask to know");
                }
                Reply::Refused { error: ErrorReply { code: *code, message, retry: code.retry() } }
            }
        };
        if let Some(to) = &request.reply {
            let service = ServiceSubject::service_of(&request.subject).unwrap_or_default();
            self.bus.reply(service, to, encoding.encode(&reply));
        }
    }
}

fn label(outcome: &Outcome) -> ServiceOutcome {
    match outcome {
        Ok(_) => ServiceOutcome::Ok,
        Err(refused) => match refused.code {
            ErrorCode::Unavailable => ServiceOutcome::Unavailable,
            ErrorCode::Unauthorized => ServiceOutcome::Forbidden,
            _ => ServiceOutcome::Refused,
        },
    }
}

fn bad_subject(subject: &str) -> Refused {
    Refused::new(ErrorCode::BadName, format!("{subject}: a name in it is not in the alphabet"))
}

fn read_send(ops: &Ops, message: &BusMessage) -> Result<(Caller, Ask), Refused> {
    let (service, to) = match ServiceSubject::parse(&message.subject) {
        Some(ServiceSubject::SendUser { service, user }) => (service, Recipient::User(user)),
        Some(ServiceSubject::SendRoom { service, room }) => (service, Recipient::Room(room)),
        _ => return Err(bad_subject(&message.subject)),
    };
    let fields = Form::Send.read(Encoding::sniff(&message.payload), &message.payload)?;
    let missing = |field: &str| Refused::new(ErrorCode::BadFrame, format!("{field}: missing"));
    let bad_name = |field: &str, error| Refused::new(ErrorCode::BadName, format!("{field}: {error}"));
    let cid = fields.cid.ok_or_else(|| missing("cid"))?;
    let body = fields.body.ok_or_else(|| missing("body"))?;
    let cid = Cid::new(&cid).map_err(|error| bad_name("cid", error))?;
    let from = fields.from.map(|from| UserId::new(&from)).transpose().map_err(|error| bad_name("from", error))?;
    let caller = Caller::service(ops, service, from)?;
    Ok((caller, Ask::Send(ask::Send { to, cid, body, handed: 0, options: ask::SendOptions::default() })))
}

fn read_signal(ops: &Ops, message: &BusMessage) -> Result<(Caller, Ask), Refused> {
    let Some(ServiceSubject::SignalUser { service, user }) = ServiceSubject::parse(&message.subject) else {
        return Err(bad_subject(&message.subject));
    };
    let fields = Form::Signal.read(Encoding::sniff(&message.payload), &message.payload)?;
    let signal = ask::Signal { to: Recipient::User(user), kind: signal_type(fields.kind)?, body: fields.body };
    Ok((Caller::service(ops, service, None)?, Ask::Signal(signal)))
}
