//! Every NATS subject that natter publishes or subscribes to, minted here and nowhere else (a test looks for
//! subject literals in the rest of the tree). Names are checked when they are made, so no user can put a wildcard
//! or a dot into a subject.

use std::fmt;

use compact_str::{CompactString, format_compact};

use crate::model::{RoomId, UserId};

/// The queue group in which nodes share the requests of services.
pub const QUEUE_GROUP: &str = "natter";

/// A subject, or a subscription's pattern of subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(CompactString);

/// What a service asks for, read from the subject it published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSubject {
    /// `natter.send.<service>.user.<user>`
    SendUser {
        /// Who sends: NATS permissions vouch for it (R13).
        service: UserId,
        /// To whom.
        user: UserId,
    },
    /// `natter.send.<service>.room.<room>`
    SendRoom {
        /// Who sends.
        service: UserId,
        /// To which room.
        room: RoomId,
    },
    /// `natter.signal.<service>.user.<user>`
    SignalUser {
        /// Who signals.
        service: UserId,
        /// To whom.
        user: UserId,
    },
}

impl Subject {
    /// A user's own subject: nodes publish to it, nodes with a session of the user subscribe to it.
    pub fn user(user: &UserId) -> Self {
        Self(format_compact!("natter.user.{user}"))
    }

    /// A room's subject.
    pub fn room(room: &RoomId) -> Self {
        Self(format_compact!("natter.room.{room}"))
    }

    /// What a service publishes to, to have a message stored and delivered.
    pub fn send_user(service: &UserId, user: &UserId) -> Self {
        Self(format_compact!("natter.send.{service}.user.{user}"))
    }

    /// All sends of all services, for the nodes' queue group.
    pub fn all_sends() -> Self {
        Self("natter.send.>".into())
    }

    /// All signals of all services.
    pub fn all_signals() -> Self {
        Self("natter.signal.>".into())
    }

    /// Events for services: `offline` …
    pub fn event(kind: &str) -> Self {
        Self(format_compact!("natter.event.{kind}"))
    }

    /// A node's own subjects: `natter.node.<node>.<tail>`.
    pub fn node(node: &str, tail: &str) -> Self {
        Self(format_compact!("natter.node.{node}.{tail}"))
    }

    /// What an operator's command for all nodes is published to.
    pub fn nodes() -> Self {
        Self("natter.nodes".into())
    }

    /// Where a request wants its answer: text from outside. `None` for natter's own subjects and the server's, or
    /// a service could have a node publish to a user's subject on its behalf (R13).
    pub fn reply(text: &str) -> Option<Self> {
        let ours = text == "natter" || text.starts_with("natter.") || text.starts_with('$');
        let whole = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '*' || c == '>');
        (whole && !ours).then(|| Self(text.into()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ServiceSubject {
    /// Reads a subject that a service published to; `None` when it is no such subject or a name in it is not
    /// in the alphabet.
    pub fn parse(subject: &str) -> Option<Self> {
        let mut tokens = subject.strip_prefix("natter.")?.split('.');
        let (verb, service, kind, name) = (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
        if tokens.next().is_some() {
            return None;
        }
        let service = UserId::new(service).ok()?;
        match (verb, kind) {
            ("send", "user") => Some(Self::SendUser { service, user: UserId::new(name).ok()? }),
            ("send", "room") => Some(Self::SendRoom { service, room: RoomId::new(name).ok()? }),
            ("signal", "user") => Some(Self::SignalUser { service, user: UserId::new(name).ok()? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_no_subject_of_ours() {
        assert!(Subject::reply("_INBOX_billing.x.1").is_some());
        for bad in ["natter.user.bob", "natter", "$JS.API.x", "", "a b", "a.*", "a.>", "a\r\nPUB x 0"] {
            assert_eq!(Subject::reply(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_minted_can_be_read() {
        let (billing, bob) = (UserId::new("billing").unwrap(), UserId::new("bob").unwrap());
        let subject = Subject::send_user(&billing, &bob);
        assert_eq!(subject.as_str(), "natter.send.billing.user.bob");
        assert_eq!(
            ServiceSubject::parse(subject.as_str()),
            Some(ServiceSubject::SendUser { service: billing, user: bob })
        );
        for bad in ["natter.send.billing.user", "natter.send.billing.user.bob.x", "natter.send.a*b.user.bob", "x"] {
            assert_eq!(ServiceSubject::parse(bad), None, "{bad}");
        }
    }
}
