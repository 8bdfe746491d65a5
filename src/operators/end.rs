//! Ends a user's sessions on this node.

use super::{
    Operators,
    wire::{DisconnectAsk, Disconnected, SessionOf},
};
use crate::{protocol::CloseReason, routing::Mail, subject::Subject};

/// The ways in which an operator may have a session closed: for good, or so that its client connects again.
pub const REASONS: [CloseReason; 3] = [CloseReason::Disconnected, CloseReason::Drain, CloseReason::Overloaded];

impl Operators {
    pub(super) fn end_sessions(&self, asked: &DisconnectAsk) -> Result<Disconnected, String> {
        let reason = reason(asked.code)?;
        let mut sessions = self.parts.gateway.registry().sessions_of(&Subject::user(&asked.user));
        sessions.retain(|session| asked.device.as_ref().is_none_or(|device| *device == session.identity.device.device));
        for session in &sessions {
            session.mailbox.push(Mail::Close(reason, None));
        }
        if !sessions.is_empty() {
            tracing::info!(user = %asked.user, sessions = sessions.len(), "an operator ended sessions");
        }
        let sessions = sessions.iter().map(|session| SessionOf {
            session: session.identity.rank.session.clone(),
            device: session.identity.device.device.clone(),
            since: session.since,
        });
        Ok(Disconnected { sessions: sessions.collect() })
    }
}

/// The reason of a close code that an operator may give.
///
/// # Errors
/// In words, with those that may be given.
pub fn reason(code: u16) -> Result<CloseReason, String> {
    REASONS.into_iter().find(|reason| reason.code() == code).ok_or_else(|| {
        let known = REASONS.map(|reason| format!("{} ({})", reason.code(), reason.label()));
        format!("code: must be one of {}", known.join(", "))
    })
}
