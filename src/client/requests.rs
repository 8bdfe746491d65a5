//! Everything that waits for an answer: sent again, in the original order, after a reconnect and after an error that
//! allows it. No I/O. Called by the driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Duration, Instant},
};

use super::{ConnectError, RequestError};
use crate::{
    backoff::Backoff,
    model::{
        Cid, ConvId, Millis, Reacting, Recipient, RoomId, Seq, SessionId, UserId,
        room::{Change, Topic},
    },
    protocol::{
        Body, HistoryFrom, Message, ServerFrame,
        ask::{self, Conversation, EndSession, Say, SessionsPage},
        client::{Changing, Outgoing, Referring},
    },
};

const RETRY_FIRST: Duration = Duration::from_millis(100);
/// A node that says "at once" is not taken at its word, so that two that differ do not spin.
const RETRY_AT_LEAST: Duration = Duration::from_millis(5);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentInfo {
    /// Its conversation.
    pub conv: ConvId,
    /// Its seq there.
    pub seq: Seq,
    /// The time stored with it.
    pub ts: Millis,
}

/// A page of a conversation's log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HistoryPage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Whether there is more in the requested direction.
    pub more: bool,
    /// Where the next page starts, if there is one: give it as before or after.
    pub next: Option<Seq>,
}

/// A page of the list of conversations.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConversationsPage {
    /// Most recent first.
    pub items: Vec<Conversation>,
    /// Pass it as `after` to get the next page.
    pub next: Option<String>,
}

/// What to ask.
#[derive(Debug)]
pub(super) enum Call {
    Send { to: Recipient, cid: Cid, body: Body, options: ask::SendOptions },
    About(ask::About),
    History { conv: ConvId, from: HistoryFrom, limit: usize, raw: bool },
    Conversations { after: Option<String>, limit: usize },
    Sessions,
    EndSession(EndSession),
    ChangeRoom(ask::ChangeRoom),
    Room { room: RoomId },
    Rooms { after: Option<RoomId>, limit: usize },
    Members { room: RoomId, after: Option<UserId>, limit: usize },
    Presence { users: Vec<UserId>, watch: Option<bool> },
    Block { user: UserId, on: bool },
    Blocks { after: Option<UserId>, limit: usize },
    Readers(ask::Readers),
    Token { token: String },
    Ping,
}

/// What the node answered.
#[derive(Debug)]
pub(super) enum Reply {
    Sent(SentInfo),
    History(HistoryPage),
    Conversations(ConversationsPage),
    Sessions(SessionsPage),
    Ended(Vec<SessionId>),
    Changed(ask::RoomChanged),
    Room(Box<ask::RoomView>),
    Rooms(ask::RoomsPage),
    Members(ask::MembersPage),
    Presences(ask::Presences),
    Blocking,
    Blocks(ask::BlocksPage),
    Readers(ask::ReadersPage),
    Token(Millis),
    Pong,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) ask: Call,
    pub(super) reply: oneshot::Sender<Result<Reply, RequestError>>,
    /// Keeps the next caller waiting while too many requests are unanswered.
    #[allow(dead_code, reason = "given back when the request is dropped")]
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Waiting {
    request: PendingCall,
    backoff: Backoff,
    /// Written to some connection: it may have been carried out.
    started: bool,
}

/// All requests without an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// To be written now.
    ready: VecDeque<u64>,
    /// To be written later: refused for a while.
    held: BTreeSet<(Instant, u64)>,
}

impl Requests {
    /// Takes a request in.
    pub(super) fn add(&mut self, request: PendingCall) {
        self.last += 1;
        let id = self.last;
        // What follows a held message to the same recipient waits with it, or it would overtake it.
        let behind = self.held.iter().copied().filter(|(_, other)| self.same_recipient(*other, &request)).max();
        match behind {
            Some((until, _)) => {
                self.held.insert((until, id));
            }
            None => self.ready.push_back(id),
        }
        self.waiting.insert(id, Waiting { request, backoff: Backoff::new(RETRY_FIRST, RETRY_MOST), started: false });
    }

    fn same_recipient(&self, id: u64, request: &PendingCall) -> bool {
        matches!(&request.ask, Call::Send { to, .. } if self.is_send_to(id, to))
    }

    fn is_send_to(&self, id: u64, to: &Recipient) -> bool {
        let waiting = self.waiting.get(&id);
        waiting.is_some_and(|other| matches!(&other.request.ask, Call::Send { to: other, .. } if other == to))
    }

    /// A new connection: everything is sent again, in order.
    pub(super) fn on_connected(&mut self) {
        // A token that the client itself renewed: the new connection began with another one.
        self.waiting.retain(|_, waiting| {
            !(matches!(waiting.request.ask, Call::Token { .. }) && waiting.request.reply.is_closed())
        });
        self.held.clear();
        self.ready = self.waiting.keys().copied().collect();
    }

    /// Writes the next request that is due with `write`; `None` when there is none.
    pub(super) fn write_next<T>(&mut self, now: Instant, write: impl FnOnce(&Outgoing<'_>) -> T) -> Option<T> {
        while let Some((until, id)) = self.held.first().copied().filter(|(until, _)| *until <= now) {
            self.held.remove(&(until, id));
            self.ready.push_back(id);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&id) else { continue };
            if !waiting.started && waiting.request.reply.is_closed() {
                // Its caller went away before it was sent: then it never is.
                self.waiting.remove(&id);
                continue;
            }
            waiting.started = true;
            return Some(waiting.request.ask.outgoing(id, write));
        }
        None
    }

    /// When the next held request is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.first().map(|(until, _)| *until)
    }

    /// Takes an answer; gives the frame back when nothing here waits for it.
    pub(super) fn on_frame(&mut self, frame: ServerFrame, now: Instant) -> Option<ServerFrame> {
        let waited_for = frame.reference().filter(|id| self.waiting.contains_key(id));
        let Some(id) = waited_for else { return Some(frame) };
        let answer = match frame {
            ServerFrame::Sent(ask::Sent { conv, seq, ts, .. }) => Ok(Reply::Sent(SentInfo { conv, seq, ts })),
            ServerFrame::History(ask::HistoryPage { messages, more, next, .. }) => {
                Ok(Reply::History(HistoryPage { messages, more, next }))
            }
            ServerFrame::Conversations(ask::ConversationsPage { items, next, .. }) => {
                Ok(Reply::Conversations(ConversationsPage { items, next }))
            }
            ServerFrame::Sessions(page) => Ok(Reply::Sessions(SessionsPage { reference: None, ..page })),
            ServerFrame::Ended(ask::Ended { sessions, .. }) => Ok(Reply::Ended(sessions)),
            ServerFrame::Changed(changed) => Ok(Reply::Changed(changed)),
            ServerFrame::Room(ask::RoomShown { view, .. }) => Ok(Reply::Room(Box::new(view))),
            ServerFrame::Rooms(page) => Ok(Reply::Rooms(ask::RoomsPage { reference: None, ..page })),
            ServerFrame::Members(page) => Ok(Reply::Members(ask::MembersPage { reference: None, ..page })),
            ServerFrame::Presences(found) => Ok(Reply::Presences(ask::Presences { reference: None, ..found })),
            ServerFrame::Blocking(_) => Ok(Reply::Blocking),
            ServerFrame::Blocks(page) => Ok(Reply::Blocks(ask::BlocksPage { reference: None, ..page })),
            ServerFrame::Readers(page) => Ok(Reply::Readers(ask::ReadersPage { reference: None, ..page })),
            ServerFrame::TokenOk { exp, .. } => Ok(Reply::Token(exp)),
            ServerFrame::Pong { .. } => Ok(Reply::Pong),
            ServerFrame::Error { retry: true, retry_after_ms, .. } => {
                self.hold(id, now, retry_after_ms.map(Duration::from_millis));
                return None;
            }
            ServerFrame::Error { code, message, .. } => Err(RequestError::Refused { code, message }),
            other => return Some(other),
        };
        self.answer(id, answer);
        None
    }

    /// Writes a request again later: when the node says, or after a growing wait. Later messages to the same recipient
    /// wait with it and come after it; those that were written already are refused as well or are stored, and then
    /// the repeat changes nothing.
    fn hold(&mut self, id: u64, now: Instant, wait: Option<Duration>) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        let until = now + wait.map_or_else(|| waiting.backoff.next(), |wait| wait.max(RETRY_AT_LEAST));
        let Call::Send { to, .. } = &waiting.request.ask else {
            self.held.insert((until, id));
            return;
        };
        let to = to.clone();
        // Never before what it follows: the times that their refusals tell differ by moments.
        let before = self.held.iter().filter(|(_, other)| *other < id && self.is_send_to(*other, &to));
        let until = before.map(|(other, _)| *other).fold(until, Instant::max);
        let follows = |(other, waiting): (&u64, &Waiting)| match &waiting.request.ask {
            Call::Send { to: other_to, .. } if *other_to == to => Some(*other),
            _ => None,
        };
        let all: BTreeSet<u64> = self.waiting.range(id..).filter_map(follows).collect();
        self.ready.retain(|other| !all.contains(other));
        self.held.retain(|(_, other)| !all.contains(other));
        self.held.extend(all.into_iter().map(|other| (until, other)));
    }

    /// A message of the user's own is stored, whatever became of the answer: it may be one that waits here.
    pub(super) fn on_own(&mut self, message: &Message, user: &UserId) {
        let Some(cid) = &message.cid else { return };
        let is_it = |ask: &Call| match ask {
            Call::Send { to, cid: other, .. } => other == cid && ConvId::between(user, to) == message.conv,
            Call::About(about) => about.cid == *cid && about.conv == message.conv,
            _ => false,
        };
        let found = self.waiting.iter().find(|(_, waiting)| is_it(&waiting.request.ask)).map(|(id, _)| *id);
        if let Some(id) = found {
            let (conv, seq, ts) = (message.conv.clone(), message.seq, message.ts);
            self.answer(id, Ok(Reply::Sent(SentInfo { conv, seq, ts })));
        }
    }

    fn answer(&mut self, id: u64, answer: Result<Reply, RequestError>) {
        if let Some(waiting) = self.waiting.remove(&id) {
            // The caller may be gone; then nobody needs the answer.
            let _ = waiting.request.reply.send(answer);
        }
    }

    /// The client is closed for good: everyone who waits is told.
    pub(super) fn fail_all(&mut self, error: &ConnectError) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.request.reply.send(Err(RequestError::Closed(error.clone())));
        }
        self.ready.clear();
        self.held.clear();
    }
}

impl Call {
    fn outgoing<T>(&self, id: u64, write: impl FnOnce(&Outgoing<'_>) -> T) -> T {
        let reference = Some(id);
        match self {
            Self::Send { to, cid, body, options } => {
                let ask::SendOptions { reply_to, mentions, expires } = options;
                let (to, cid, reply_to, expires) = (&to.to_string(), cid.as_str(), *reply_to, *expires);
                write(&Outgoing::Send { reference, to, cid, body, reply_to, mentions, expires })
            }
            Self::About(about) => write_about(reference, about, write),
            Self::History { conv, from, limit, raw } => {
                let (before, after, around) = match *from {
                    HistoryFrom::Before(seq) => (Some(seq), None, None),
                    HistoryFrom::After(seq) => (None, Some(seq), None),
                    HistoryFrom::Around(seq) => (None, None, Some(seq)),
                };
                let (conv, limit, raw) = (conv.as_str(), *limit, *raw);
                write(&Outgoing::History { reference, conv, before, after, around, limit, raw })
            }
            Self::Conversations { after, limit } => {
                write(&Outgoing::Conversations { reference, after: after.as_deref(), limit: *limit })
            }
            Self::Sessions => write(&Outgoing::Sessions { reference }),
            Self::EndSession(EndSession::Session(session)) => {
                write(&Outgoing::EndSession { reference, session: Some(session.as_str()), device: None })
            }
            Self::EndSession(EndSession::Device(device)) => {
                write(&Outgoing::EndSession { reference, session: None, device: Some(device.as_str()) })
            }
            Self::ChangeRoom(change) => write_change(reference, change, write),
            Self::Room { room } => write(&Outgoing::Room { reference, room: room.as_str() }),
            Self::Rooms { after, limit } => {
                write(&Outgoing::Rooms { reference, after: after.as_ref().map(RoomId::as_str), limit: *limit })
            }
            Self::Members { room, after, limit } => {
                let after = after.as_ref().map(UserId::as_str);
                write(&Outgoing::Members { reference, room: room.as_str(), after, limit: *limit })
            }
            Self::Presence { users, watch } => {
                let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
                write(&Outgoing::Presence { reference, users: &users, watch: *watch })
            }
            Self::Block { user, on: true } => write(&Outgoing::Block { reference, user: user.as_str() }),
            Self::Block { user, on: false } => write(&Outgoing::Unblock { reference, user: user.as_str() }),
            Self::Blocks { after, limit } => {
                write(&Outgoing::Blocks { reference, after: after.as_ref().map(UserId::as_str), limit: *limit })
            }
            Self::Readers(ask::Readers { room, seq, after, limit }) => {
                let after = after.as_ref().map(UserId::as_str);
                write(&Outgoing::Readers { reference, room: room.as_str(), seq: *seq, after, limit: *limit })
            }
            Self::Token { token } => write(&Outgoing::Token { reference, token }),
            Self::Ping => write(&Outgoing::Ping { reference }),
        }
    }
}

fn write_about<T>(reference: Option<u64>, ask: &ask::About, write: impl FnOnce(&Outgoing<'_>) -> T) -> T {
    let ask::About { conv, re, cid, what } = ask;
    let about = Referring { reference, conv: conv.as_str(), re: *re, cid: cid.as_str() };
    match what {
        Say::Edit(body) => write(&Outgoing::Edit { about, body }),
        Say::Delete => write(&Outgoing::Delete(about)),
        Say::React(Reacting { reaction, set: true }) => write(&Outgoing::React { about, reaction: reaction.as_str() }),
        Say::React(Reacting { reaction, set: false }) => {
            write(&Outgoing::Unreact { about, reaction: reaction.as_str() })
        }
    }
}

fn write_change<T>(reference: Option<u64>, ask: &ask::ChangeRoom, write: impl FnOnce(&Outgoing<'_>) -> T) -> T {
    let change =
        Changing { reference, room: ask.room.as_ref().map(RoomId::as_str), cid: ask.cid.as_ref().map(Cid::as_str) };
    match &ask.change {
        Change::Created { topic, public, history, lifetime } => {
            let topic = topic.as_ref().map(Topic::as_str);
            write(&Outgoing::Create { change, topic, public: *public, history: *history, lifetime: *lifetime })
        }
        Change::Joined => write(&Outgoing::Join(change)),
        Change::Left => write(&Outgoing::Leave(change)),
        Change::Invited { user } => write(&Outgoing::Invite { change, user: user.as_str() }),
        Change::Kicked { user } => write(&Outgoing::Kick { change, user: user.as_str() }),
        Change::Role { user, role } => write(&Outgoing::Role { change, user: user.as_str(), role: *role }),
        Change::Topic { topic } => write(&Outgoing::Topic { change, topic: topic.as_ref().map(Topic::as_str) }),
        Change::Lifetime { lifetime } => write(&Outgoing::Lifetime { change, lifetime: *lifetime }),
    }
}
