//! Answers with bodies that were stored and cannot be written in a client's encoding: they go out without those. The
//! check on the way in keeps such bodies out of the store (R14), but what lies on a disk may have been damaged there.
//!
//! Called by the pump, for every frame that is no message of a log.

use bytes::Bytes;

use crate::{
    metrics::Metrics,
    protocol::{Encoding, Message, ServerFrame},
};

/// The frame in the client's encoding, if need be without what cannot be written; nothing where that leaves nothing.
pub(super) fn encode(frame: &ServerFrame, encoding: Encoding, metrics: &Metrics) -> Option<Bytes> {
    let error = match encoding.try_encode(frame) {
        Ok(bytes) => return Some(bytes),
        Err(error) => error,
    };
    let mut left_out = 0;
    let mut is_writable = |message: &Message| {
        let done = encoding.try_encode(&message.body).is_ok();
        left_out += u64::from(!done);
        done
    };
    let mut frame = frame.clone();
    match &mut frame {
        ServerFrame::History(page) => page.messages.retain(&mut is_writable),
        ServerFrame::Conversations(page) => {
            for item in &mut page.items {
                item.last = item.last.take().filter(&mut is_writable);
            }
        }
        _ => {}
    }
    metrics.unwritable_bodies.inc_by(left_out);
    tracing::error!(error, left_out, "an answer holds bodies that cannot be written: they are left out");
    encoding.try_encode(&frame).ok()
}
