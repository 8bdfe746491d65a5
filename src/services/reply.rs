//! What a service is told, in the encoding of its request. Called by [`super`] and by the HTTP API.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    metrics::{Metrics, ServiceOutcome},
    protocol::{Answer, Encoding, ErrorCode, Refused, ask::Refusal, unwritable::HoldsMessages as _},
};

#[derive(Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    /// There is nothing to say but that it was done.
    Done {},
    Answer(&'a Answer),
    Refused {
        error: &'a Refusal,
    },
}

/// A refusal.
pub(super) fn refusal(encoding: Encoding, error: &Refusal) -> Bytes {
    encoding.encode(&Reply::Refused { error })
}

/// An answer; if need be without the bodies that were damaged in the store and cannot be written (R14).
pub fn answer(encoding: Encoding, answer: &Answer, metrics: &Metrics) -> Bytes {
    let reply = if matches!(answer, Answer::Done) { Reply::Done {} } else { Reply::Answer(answer) };
    let error = match encoding.try_encode(&reply) {
        Ok(bytes) => return bytes,
        Err(error) => error,
    };
    let (answer, left_out) = answer.without_unwritable(encoding);
    metrics.unwritable_bodies.inc_by(left_out);
    tracing::error!(error, left_out, "an answer holds bodies that cannot be written: they are left out");
    encoding.encode(&Reply::Answer(&answer))
}

/// Counts a request that came to its end, refused or not.
pub fn count(metrics: &Metrics, refused: Option<&Refused>) {
    let label = match refused.map(|refused| refused.code) {
        None => ServiceOutcome::Ok,
        Some(ErrorCode::Unavailable) => ServiceOutcome::Unavailable,
        Some(ErrorCode::Unauthorized) => ServiceOutcome::Forbidden,
        Some(_) => ServiceOutcome::Refused,
    };
    metrics.service_requests.of(label).inc();
}
