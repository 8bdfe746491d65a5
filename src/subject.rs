//! Every NATS subject that natter publishes or subscribes to, minted here and nowhere else (a test looks for
//! subject literals in the rest of the tree). Names are checked when they are made, so no user can put a wildcard
//! or a dot into a subject.

use std::fmt;

use compact_str::{CompactString, format_compact};

use crate::model::{RoomId, UserId};

/// The queue group in which nodes share the requests of services.
pub const QUEUE_GROUP: &str = "natter";

/// The account of operators: nodes answer it below its inbox, [`OPERATOR_INBOX`], and nowhere else.
pub const OPERATOR: &str = "operator";
/// The inbox prefix that operators' clients set.
pub const OPERATOR_INBOX: &str = "_INBOX_operator";
/// How many parts the queue of services has. Written into the stream's configuration, and into what it holds.
pub const QUEUE_PARTS: u16 = 16;

/// A subject, or a subscription's pattern of subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(CompactString);

/// What a service asks for, read from the subject it published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSubject {
    /// `natter.send.<service>.user.<user>`, or `queue` instead of `send`
    SendUser {
        /// Who sends: NATS permissions vouch for it (R13).
        service: UserId,
        /// To whom.
        user: UserId,
    },
    /// `natter.send.<service>.room.<room>`, or `queue` instead of `send`
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

    /// What services publish to the stream of the durable way in, all of them.
    pub fn all_queues() -> Self {
        Self("natter.queue.>".into())
    }

    /// What a service publishes to, to have a message kept and then stored and delivered.
    pub fn queue_user(service: &UserId, user: &UserId) -> Self {
        Self(format_compact!("natter.queue.{service}.user.{user}"))
    }

    /// How the stream renames what services publish, so that each subject is in one part: from, to.
    pub fn queue_parts() -> [Self; 2] {
        let whole = "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}";
        let to = format_compact!("natter.queued.{{{{partition({QUEUE_PARTS},1,2,3)}}}}.{whole}");
        [Self("natter.queue.*.*.*".into()), Self(to)]
    }

    /// What one part of the stream holds; the last, [`QUEUE_PARTS`] itself, what has no form that could be right. Not
    /// [`Subject::all_queues`] for that one: servers from 2.12 on take it for a consumer of everything, whose interest keeps
    /// what all others have acknowledged.
    pub fn queue_part(part: u16) -> Vec<Self> {
        if part < QUEUE_PARTS {
            return vec![Self(format_compact!("natter.queued.{part}.>"))];
        }
        ["natter.queue.*", "natter.queue.*.*", "natter.queue.*.*.*.>"].map(|odd| Self(odd.into())).to_vec()
    }

    /// What a service published to, from the name under which the stream keeps it.
    pub fn unqueued(kept: &str) -> Self {
        let tail = kept.strip_prefix("natter.queued.").and_then(|rest| rest.split_once('.'));
        Self(tail.map_or_else(|| kept.into(), |(_, tail)| format_compact!("natter.queue.{tail}")))
    }

    /// Where a consumer of a stream is asked for its next messages.
    pub fn queue_next(stream: &str, consumer: &str) -> Self {
        Self(format_compact!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"))
    }

    /// Where a node says that it takes from the queue.
    pub fn queue_node(node: &str) -> Self {
        Self::node(node, "queue")
    }

    /// Where all nodes say so.
    pub fn all_queue_nodes() -> Self {
        Self::node("*", "queue")
    }

    /// Which node said so on a subject.
    pub fn queue_node_of(subject: &str) -> Option<&str> {
        subject.strip_prefix("natter.node.")?.strip_suffix(".queue")
    }

    /// All messages of the durable way in that were given up.
    pub fn all_dead() -> Self {
        Self("natter.dead.>".into())
    }

    /// Where a message is kept that was given up, by what the service published it to.
    pub fn dead(queue: &str) -> Self {
        Self(format_compact!("natter.dead.{}", queue.strip_prefix("natter.queue.").unwrap_or(queue)))
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

    /// What an operator asks of one node: `status`, `drain` …; `*`: everything.
    pub fn command(node: &str, what: &str) -> Self {
        Self(format_compact!("natter.node.{node}.cmd.{what}"))
    }

    /// What an operator asks of all nodes.
    pub fn nodes(what: &str) -> Self {
        Self(format_compact!("natter.nodes.{what}"))
    }

    /// The last word of a command's subject: what is asked.
    pub fn command_of(subject: &str) -> Option<&str> {
        let own = subject.strip_prefix("natter.node.").and_then(|own| own.split_once(".cmd.")).map(|(_, what)| what);
        own.or_else(|| subject.strip_prefix("natter.nodes."))
    }

    /// Where a node tells the operator who chose this token what happens, by and by; `*` as the node: where all do.
    pub fn told(node: &str, token: &str) -> Self {
        Self(format_compact!("natter.node.{node}.told.{token}"))
    }

    /// The NATS services convention (ADR-32): what `nats micro` asks of every service, of every natter, and of this node.
    pub fn micro(node: &str) -> [Self; 3] {
        ["$SRV.*".into(), "$SRV.*.natter".into(), format_compact!("$SRV.*.natter.{node}")].map(Self)
    }

    /// Which verb of that convention was asked: `PING`, `INFO`, `STATS`.
    pub fn micro_verb(subject: &str) -> Option<&str> {
        subject.strip_prefix("$SRV.")?.split('.').next()
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

    /// Below an operator's inbox: where the answers of several nodes to one question come.
    pub fn operator_inbox(number: u64) -> Self {
        Self(format_compact!("{OPERATOR_INBOX}.{number:016x}"))
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
            ("send" | "queue", "user", Some(name)) => Some(Self::SendUser { service, user: UserId::new(name).ok()? }),
            ("send" | "queue", "room", Some(name)) => Some(Self::SendRoom { service, room: RoomId::new(name).ok()? }),
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
    fn what_operators_ask_is_read_from_the_subject() {
        assert_eq!(Subject::command_of(Subject::command("n1", "drain").as_str()), Some("drain"));
        assert_eq!(Subject::command_of(Subject::nodes("status").as_str()), Some("status"));
        assert_eq!(Subject::command_of("natter.node.n1.here"), None);
        let verbs = ["$SRV.PING", "$SRV.INFO.natter", "$SRV.STATS.natter.n1"].map(Subject::micro_verb);
        assert_eq!(verbs, ["PING", "INFO", "STATS"].map(Some));
        let inbox = Subject::operator_inbox(17);
        assert_eq!(Subject::reply(OPERATOR, inbox.as_str()), Some(inbox));
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
        let (billing, bob) = (UserId::new("billing").unwrap(), UserId::new("bob").unwrap());
        let queued = Subject::unqueued("natter.queued.12.billing.user.bob");
        assert_eq!(queued, Subject::queue_user(&billing, &bob));
        assert_eq!(
            ServiceSubject::parse(queued.as_str()),
            Some(ServiceSubject::SendUser { service: billing, user: bob })
        );
        assert_eq!(Subject::unqueued("natter.queue.billing.x").as_str(), "natter.queue.billing.x");
        assert_eq!(Subject::dead("natter.queue.billing.user.bob").as_str(), "natter.dead.billing.user.bob");
        let asks = ServiceSubject::Do { service: UserId::new("billing").unwrap(), op: "history".into() };
        assert_eq!(ServiceSubject::parse("natter.do.billing.history"), Some(asks));
        for bad in [
            "natter.do.billing",
            "natter.do.billing.history.x",
            "natter.send.billing.user",
            "natter.queue.billing.user",
            "natter.queued.3.billing.user.bob",
            "natter.send.billing.user.bob.x",
            "natter.send.a*b.user.bob",
            "x",
        ] {
            assert_eq!(ServiceSubject::parse(bad), None, "{bad}");
        }
    }
}
