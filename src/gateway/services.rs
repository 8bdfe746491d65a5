//! The way in for services: requests over NATS become appends, and are answered when they are durable.
//!
//! Built by the node; nodes share the requests as one queue group. Who the service is stands in the subject, and
//! NATS permissions vouch for it (R13).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{Gateway, requests::code_of};
use crate::{
    bus::{BusMessage, Subscription},
    config::may_send_as,
    metrics::ServiceOutcome,
    model::{Cid, ConvId, Millis, NewMessage, Seq, UserId, now_millis},
    protocol::{Body, Encoding, ErrorCode, ServerFrame, server::Signal},
    store::{Appended, StoreResult},
    subject::{QUEUE_GROUP, ServiceSubject, Subject},
};

/// Requests of services under way on a node; more are refused with `unavailable`, retry.
const MOST: usize = 4096;

#[derive(Deserialize)]
struct SendRequest {
    cid: String,
    body: Body,
    from: Option<String>,
}

/// [`SendRequest`] with the body passed over, whatever it is.
#[derive(Deserialize)]
#[allow(dead_code, reason = "read only to see whether it can be read")]
struct Envelope {
    cid: String,
    body: serde::de::IgnoredAny,
    from: Option<String>,
}

#[derive(Deserialize)]
struct SignalRequest {
    #[serde(rename = "type")]
    kind: String,
    body: Option<Body>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    Stored { conv: &'a ConvId, seq: Seq, ts: Millis },
    Refused { error: Refusal },
}

#[derive(Serialize)]
struct Refusal {
    code: ErrorCode,
    message: String,
    retry: bool,
}

type Refused = (ErrorCode, String);

/// Subscribes to what services send; ends when the subscriptions are dropped.
pub fn listen(gateway: &Arc<Gateway>) -> [Subscription; 2] {
    let under_way = Arc::new(AtomicUsize::new(0));
    let sender = gateway.clone();
    let signaller = gateway.clone();
    let on_send = Arc::new(move |message| on_send(&sender, &under_way, message));
    let on_signal = Arc::new(move |message| on_signal(&signaller, &message));
    [
        gateway.bus.queue_subscribe(&Subject::all_sends(), QUEUE_GROUP, on_send),
        gateway.bus.queue_subscribe(&Subject::all_signals(), QUEUE_GROUP, on_signal),
    ]
}

fn on_send(gateway: &Arc<Gateway>, under_way: &Arc<AtomicUsize>, message: BusMessage) {
    let encoding = Encoding::sniff(&message.payload);
    let answerer = Answerer { gateway: gateway.clone(), encoding, to: message.reply };
    let (conv, new) = match read_send(gateway, encoding, &message.subject, &message.payload) {
        Ok(read) => read,
        Err((outcome, refused)) => {
            gateway.metrics.service_requests.of(outcome).inc();
            return answerer.refuse(refused);
        }
    };
    if under_way.fetch_add(1, Ordering::AcqRel) >= MOST {
        under_way.fetch_sub(1, Ordering::AcqRel);
        gateway.metrics.service_requests.of(ServiceOutcome::Unavailable).inc();
        return answerer.refuse((ErrorCode::Unavailable, "too many requests under way, try again".into()));
    }
    let (under_way, place) = (under_way.clone(), conv.clone());
    let answer = move |result: &StoreResult<Appended>| {
        under_way.fetch_sub(1, Ordering::AcqRel);
        answerer.answer(&place, result);
    };
    gateway.appender.submit(conv, new, Box::new(answer));
}

fn read_send(
    gateway: &Gateway,
    encoding: Encoding,
    subject: &str,
    payload: &[u8],
) -> Result<(ConvId, NewMessage), (ServiceOutcome, Refused)> {
    let refused = |code, text: String| (ServiceOutcome::Refused, (code, text));
    let (service, user) = match ServiceSubject::parse(subject) {
        Some(ServiceSubject::SendUser { service, user }) => (service, user),
        Some(ServiceSubject::SendRoom { .. }) => {
            return Err(refused(ErrorCode::Unsupported, "rooms are not served by this version".into()));
        }
        _ => return Err(refused(ErrorCode::BadName, format!("{subject}: a name in it is not in the alphabet"))),
    };
    let request: SendRequest = encoding.decode(payload).map_err(|text| {
        // Readable but for its body: then that is at fault, and is called what a client's would be.
        let code = if encoding.decode::<Envelope>(payload).is_ok() { ErrorCode::BadBody } else { ErrorCode::BadFrame };
        refused(code, text)
    })?;
    let cid = Cid::new(&request.cid).map_err(|error| refused(ErrorCode::BadName, format!("cid: {error}")))?;
    if !request.body.fits(gateway.rules.body_bytes) {
        let text = format!("body: over the limit of {} bytes", gateway.rules.body_bytes);
        return Err(refused(ErrorCode::TooLarge, text));
    }
    let sender = match request.from {
        None => service,
        Some(from) => speak_as(gateway, &service, &from)?,
    };
    let conv = ConvId::direct(&sender, &user);
    Ok((conv, NewMessage { sender, cid, ts: now_millis(), body: request.body }))
}

fn speak_as(gateway: &Gateway, service: &UserId, from: &str) -> Result<UserId, (ServiceOutcome, Refused)> {
    let from =
        UserId::new(from).map_err(|error| (ServiceOutcome::Refused, (ErrorCode::BadName, format!("from: {error}"))))?;
    if may_send_as(&gateway.settings.services, service, &from) {
        return Ok(from);
    }
    let text = format!("from: {service} may not send as {from} (services.{service}.may_send_as)");
    Err((ServiceOutcome::Forbidden, (ErrorCode::Unauthorized, text)))
}

fn on_signal(gateway: &Gateway, message: &BusMessage) {
    let Some(ServiceSubject::SignalUser { service, user }) = ServiceSubject::parse(&message.subject) else { return };
    let encoding = Encoding::sniff(&message.payload);
    match encoding.decode::<SignalRequest>(&message.payload) {
        Ok(SignalRequest { kind, body }) if body.as_ref().is_none_or(|body| body.fits(gateway.rules.body_bytes)) => {
            let conv = Some(ConvId::direct(&service, &user));
            gateway.router.pass(&user, &ServerFrame::Signal(Signal { conv, from: service, kind, body }));
        }
        Ok(_) => tracing::warn!(%service, "a signal is over the body limit: dropped"),
        Err(error) => tracing::warn!(%service, error, "a signal could not be read: dropped"),
    }
}

/// Answers one request in its own encoding; a plain publish gets no answer.
struct Answerer {
    gateway: Arc<Gateway>,
    encoding: Encoding,
    to: Option<Box<str>>,
}

impl Answerer {
    fn answer(&self, conv: &ConvId, result: &StoreResult<Appended>) {
        let outcome = match result {
            Ok(_) => ServiceOutcome::Ok,
            Err(error) if code_of(error) == ErrorCode::Unavailable => ServiceOutcome::Unavailable,
            Err(_) => ServiceOutcome::Refused,
        };
        self.gateway.metrics.service_requests.of(outcome).inc();
        match result {
            Ok(appended) => self.send(&Reply::Stored { conv, seq: appended.seq, ts: appended.ts }),
            Err(error) => self.refuse((code_of(error), error.to_string())),
        }
    }

    fn refuse(&self, (code, message): Refused) {
        if self.to.is_none() {
            tracing::warn!(code = code.word(), message, "a service's message was refused, and it did not ask to know");
        }
        self.send(&Reply::Refused { error: Refusal { code, message, retry: code.retry() } });
    }

    fn send(&self, reply: &Reply<'_>) {
        if let Some(to) = &self.to {
            self.gateway.bus.reply(to, self.encoding.encode(reply));
        }
    }
}
