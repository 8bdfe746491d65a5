//! Answers with bodies that were stored and cannot be written in a client's encoding: they go out without those (R14).
//!
//! Called by the pump, for every frame that is no message of a log.

use bytes::Bytes;

use crate::{
    metrics::Metrics,
    protocol::{Encoding, ServerFrame, unwritable::HoldsMessages as _},
};

/// The frame in the client's encoding, if need be without what cannot be written; nothing where that leaves nothing.
pub(super) fn encode(frame: &ServerFrame, encoding: Encoding, metrics: &Metrics) -> Option<Bytes> {
    let error = match encoding.try_encode(frame) {
        Ok(bytes) => return Some(bytes),
        Err(error) => error,
    };
    let (frame, left_out) = frame.without_unwritable(encoding);
    metrics.unwritable_bodies.inc_by(left_out);
    tracing::error!(error, left_out, "an answer holds bodies that cannot be written: they are left out");
    encoding.try_encode(&frame).ok()
}
