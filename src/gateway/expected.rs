//! An answer that a session waits for, and that must come whatever becomes of the task that is to bring it.
//!
//! Used by the pump for everything that it has `ops` do.

use std::sync::Arc;

use crate::{
    protocol::CloseReason,
    routing::{Mail, SessionHandle},
};

/// Closes the session when it is dropped without an answer: the task panicked, and the session would wait for ever.
pub(super) struct Expected(Option<Arc<SessionHandle>>);

impl Expected {
    /// An answer for this session.
    pub(super) fn by(session: &Arc<SessionHandle>) -> Self {
        Self(Some(session.clone()))
    }

    /// It came.
    pub(super) fn answer(mut self, mail: Mail) {
        if let Some(session) = self.0.take() {
            session.mailbox.push(mail);
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.mailbox.push(Mail::Close(CloseReason::Internal, None));
        }
    }
}
