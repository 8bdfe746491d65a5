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
    /// `natter.do.<service>.<op>`
    Do {
        /// Who asks.
        service: UserId,
        /// The word of an op, or of none.
        op: String,
    },
}

impl Subject {
    /// Where feeds are, for descriptions: [`Subject::feed`] of any service.
    pub const FEED_ADDRESS: &'static str = "natter.feed.{service}";
    /// Where services are asked, for descriptions: [`Subject::hook_send`] of any service.
    pub const HOOK_ADDRESS: &'static str = "natter.hook.{service}.send";

    /// A user's own subject: nodes publish to it, nodes with a session of the user subscribe to it.
    pub fn user(user: &UserId) -> Self {
        Self(format_compact!("natter.user.{user}"))
    }

    /// A room's subject.
    pub fn room(room: &RoomId) -> Self {
        Self(format_compact!("natter.room.{room}"))
    }

    /// Whether it is a room's subject.
    pub fn is_room(&self) -> bool {
        self.0.starts_with("natter.room.")
    }

    /// The user or the room whose own subject this is; none where nodes and services share it.
    pub fn owner_in(subject: &str) -> Option<&str> {
        let own = subject.strip_prefix("natter.")?;
        ["user.", "room.", "presence."].into_iter().find_map(|kind| own.strip_prefix(kind))
    }

    /// Where nodes tell that a user's first session on them began, or the last one ended; those whose sessions watch the
    /// user listen.
    pub fn presence(user: &UserId) -> Self {
        Self(format_compact!("natter.presence.{user}"))
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

    /// All other requests of all services.
    pub fn all_dos() -> Self {
        Self("natter.do.>".into())
    }

    /// Events for services: `offline` …
    pub fn event(kind: &str) -> Self {
        Self(format_compact!("natter.event.{kind}"))
    }

    /// Every stored message, for a service that has a feed and for nobody else.
    pub fn feed(service: &UserId) -> Self {
        Self(format_compact!("natter.feed.{service}"))
    }

    /// Where a service is asked about messages before they are stored.
    pub fn hook_send(service: &UserId) -> Self {
        Self(format_compact!("natter.hook.{service}.send"))
    }

    /// A node's own subjects: `natter.node.<node>.<tail>`.
    pub fn node(node: &str, tail: &str) -> Self {
        Self(format_compact!("natter.node.{node}.{tail}"))
    }

    /// Where the home of a slot takes appends; nodes share it as one queue group, so that where two serve it for a
    /// moment one is asked. `doctor` tries it with a slot that does not exist.
    pub fn log(slot: u16) -> Self {
        Self(format_compact!("natter.log.{slot}"))
    }

    /// Where all nodes announce themselves.
    pub fn all_here() -> Self {
        Self::node("*", "here")
    }

    /// Where a node tells which groups of users are watched on it; `*`: where all do.
    pub fn watched(node: &str) -> Self {
        Self::node(node, "watched")
    }

    /// Which node told that on a subject.
    pub fn watched_of(subject: &str) -> Option<UserId> {
        UserId::new(subject.strip_prefix("natter.node.")?.strip_suffix(".watched")?).ok()
    }

    /// Which node announced itself on a subject.
    pub fn here_of(subject: &str) -> Option<UserId> {
        UserId::new(subject.strip_prefix("natter.node.")?.strip_suffix(".here")?).ok()
    }

    /// Where a node gets the answer to its request of this number.
    pub fn answer(node: &str, number: u64) -> Self {
        Self(format_compact!("natter.node.{node}.answer.{number}"))
    }

    /// The reply subject of a node's request: text from outside, and nothing but what [`Subject::answer`] makes.
    pub fn answer_to(text: &str) -> Option<Self> {
        let (node, number) = text.strip_prefix("natter.node.")?.split_once(".answer.")?;
        let own = Self::answer(UserId::new(node).ok()?.as_str(), number.parse().ok()?);
        (own.as_str() == text).then_some(own)
    }

    /// Where a node gathers the answers of several to its question of this number.
    pub fn gathered(node: &str, number: u64) -> Self {
        Self(format_compact!("natter.node.{node}.gathered.{number}"))
    }

    /// The same from outside: nothing but what [`Subject::gathered`] makes.
    pub fn gathered_by(text: &str) -> Option<Self> {
        let (node, number) = text.strip_prefix("natter.node.")?.split_once(".gathered.")?;
        let own = Self::gathered(UserId::new(node).ok()?.as_str(), number.parse().ok()?);
        (own.as_str() == text).then_some(own)
    }

    /// What an operator's command for all nodes is published to.
    pub fn nodes() -> Self {
        Self("natter.nodes".into())
    }

    /// Where `service` wants the answer to its request: text from outside. Only below its own inbox,
    /// `_INBOX_<service>.`: elsewhere a node would publish on its behalf what the service itself may not, to a user's
    /// subject or to another service (R13).
    pub fn reply(service: &str, text: &str) -> Option<Self> {
        UserId::new(service).ok()?;
        let own = text.strip_prefix("_INBOX_")?.strip_prefix(service)?.strip_prefix('.')?;
        let whole = !own.is_empty() && !own.contains(|c: char| c.is_whitespace() || c == '*' || c == '>');
        whole.then(|| Self(text.into()))
    }

    /// Below a node's own inbox; the prefix is the operator's. `None` where it is no subject.
    pub fn inbox(prefix: &str, tail: &str) -> Option<Self> {
        let whole = !prefix.is_empty() && !prefix.contains(|c: char| c.is_whitespace() || c == '*' || c == '>');
        whole.then(|| Self(format_compact!("{prefix}.{tail}")))
    }

    /// Whether a text is a subject of natter: what every node must be permitted.
    pub fn is_ours(text: &str) -> bool {
        text.starts_with("natter.")
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
    /// Which service published to a subject, also where the rest of it is not in the alphabet.
    pub fn service_of(subject: &str) -> Option<&str> {
        subject.strip_prefix("natter.")?.split('.').nth(1)
    }

    /// Reads a subject that a service published to; `None` when it is no such subject or a name in it is not
    /// in the alphabet.
    pub fn parse(subject: &str) -> Option<Self> {
        let mut tokens = subject.strip_prefix("natter.")?.split('.');
        let (verb, service, kind, name) = (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next());
        if tokens.next().is_some() {
            return None;
        }
        let service = UserId::new(service).ok()?;
        match (verb, kind, name) {
            ("send", "user", Some(name)) => Some(Self::SendUser { service, user: UserId::new(name).ok()? }),
            ("send", "room", Some(name)) => Some(Self::SendRoom { service, room: RoomId::new(name).ok()? }),
            ("signal", "user", Some(name)) => Some(Self::SignalUser { service, user: UserId::new(name).ok()? }),
            ("do", op, None) => Some(Self::Do { service, op: op.to_owned() }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_answer_goes_to_its_own_inbox_only() {
        assert!(Subject::reply("billing", "_INBOX_billing.x.1").is_some());
        for bad in ["natter.user.bob", "$JS.API.x", "", "_INBOX.x", "_INBOX_shop.x", "_INBOX_billing2.x"] {
            assert_eq!(Subject::reply("billing", bad), None, "{bad:?}");
        }
        for bad in ["", "*", "a.>", "a b", "a\r\nPUB x 0"] {
            let bad = format!("_INBOX_billing.{bad}");
            assert_eq!(Subject::reply("billing", &bad), None, "{bad:?}");
        }
        assert_eq!(Subject::reply("", "_INBOX_.x"), None);
        assert_eq!(ServiceSubject::service_of("natter.send.billing.user.b$b"), Some("billing"));
    }

    #[test]
    fn a_nodes_answer_goes_to_a_nodes_inbox_only() {
        let own = Subject::answer("n1", 17);
        assert_eq!(Subject::answer_to(own.as_str()), Some(own));
        for bad in
            ["user.bob", "node.n1.cmd", "node.n1.answer", "node.n1.answer.", "node.n1.answer.+1", "node.n1.answer.01"]
                .into_iter()
                .chain([
                    "node.n1.answer.>",
                    "node.*.answer.1",
                    "node.n.1.answer.1",
                    "node.n1.answer.1.x",
                    "node.n1.answer.1 2",
                ])
        {
            assert_eq!(Subject::answer_to(&format!("natter.{bad}")), None, "{bad:?}");
        }
        assert_eq!(Subject::answer_to("_INBOX_billing.answer.1"), None);
        let gathered = Subject::gathered("n1", 17);
        assert_eq!(Subject::gathered_by(gathered.as_str()), Some(gathered));
        for bad in
            ["natter.user.bob", "natter.node.n1.gathered.>", "natter.node.n1.answer.1", "natter.node.*.gathered.1"]
        {
            assert_eq!(Subject::gathered_by(bad), None, "{bad:?}");
        }
        assert_eq!(Subject::here_of(Subject::node("n1", "here").as_str()), UserId::new("n1").ok());
        assert_eq!(Subject::here_of(Subject::node("a.b", "here").as_str()), None);
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
        let asks = ServiceSubject::Do { service: UserId::new("billing").unwrap(), op: "history".into() };
        assert_eq!(ServiceSubject::parse("natter.do.billing.history"), Some(asks));
        for bad in [
            "natter.do.billing",
            "natter.do.billing.history.x",
            "natter.send.billing.user",
            "natter.send.billing.user.bob.x",
            "natter.send.a*b.user.bob",
            "x",
        ] {
            assert_eq!(ServiceSubject::parse(bad), None, "{bad}");
        }
    }
}
