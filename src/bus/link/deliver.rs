//! The way in: what a message means, and who is called for it. Called by the connection's task for each message, in their
//! order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::{
    ops::Msg,
    state::{ANSWERS, STATUSES, Shared},
};
use crate::bus::BusMessage;

impl Shared {
    /// A message came.
    pub(super) fn on_msg(&self, msg: &Msg<'_>) {
        match msg.sid {
            STATUSES => self.on_status(msg),
            ANSWERS => {
                if let Ok(subject) = std::str::from_utf8(msg.subject) {
                    self.requests.on_answer(subject, msg.is_no_responders(), msg.payload);
                }
            }
            sid => {
                // A subscription that ended: the server has not processed its end yet.
                let Some(on_message) = self.listener(sid) else { return };
                self.metrics.nats_received.inc();
                let message = BusMessage {
                    subject: text(msg.subject),
                    reply: msg.reply.map(text),
                    payload: Bytes::copy_from_slice(msg.payload),
                };
                guarded(|| on_message(message));
            }
        }
    }

    /// Only the server's own word counts: anything else on that subject is from a third party.
    fn on_status(&self, msg: &Msg<'_>) {
        if !msg.is_no_responders() {
            return;
        }
        self.metrics.nats_no_responders.inc();
        let subject = std::str::from_utf8(msg.subject).unwrap_or_default();
        let tag = subject.strip_prefix(self.statuses.as_str()).and_then(|tag| tag.strip_prefix('.'));
        if let (Some(call), Some(tag)) = (self.no_responders.get(), tag) {
            guarded(|| call(tag));
        }
    }

    /// The server reports an error on the connection.
    pub(super) fn on_error(&self, text: &[u8]) {
        self.metrics.nats_errors.inc();
        let error = String::from_utf8_lossy(text);
        if !self.refusal.on_server_error(&error) {
            tracing::warn!(%error, "the NATS server reported an error");
        }
    }
}

/// Anybody may publish what is no UTF-8 to a subject that they may publish to. It is no name of natter's in any case.
fn text(subject: &[u8]) -> Box<str> {
    String::from_utf8_lossy(subject).into()
}

/// A panic costs the one message, and not the connection of everybody. The panic itself is in the log.
fn guarded(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a message from NATS was lost to a panic");
    }
}
