//! Who is online (R23). NATS interest says it: a probe on the user's subject that nobody answers is offline. This module
//! looks, tells the other nodes of users who come and go here, tells the sessions here of users whom they watch, and notes
//! when users were last seen.
//!
//! The registry of sessions calls it when a user's first session begins and the last one ends ([`Comings`]); `ops` asks it;
//! the node runs it ([`Presence::run`]). One task per node and no timer per user or watch: `changes` and `watches` are
//! queues.

mod changes;
mod events;
mod interest;
mod probes;
mod run;
mod seen;
mod watches;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub(crate) use self::run::ENDING;
use self::{
    changes::Changes,
    interest::{Interest, group},
    watches::{NotWatched, Room, State, Told, Watches},
};
use crate::{
    blocks::Blocks,
    bus::{OnMessage, Subscription, cells::Cells},
    metrics::Metrics,
    model::{UserId, now_millis},
    overload::Overload,
    protocol::{
        ErrorCode, Refused, ServerFrame, SharedFrame,
        ask::Seen,
        people::{decode_coming, decode_watched, encode_watched},
    },
    routing::{Clock, Comings, Mail, Registry, Router, SessionHandle},
    session::Tick,
    store::People,
    subject::Subject,
};

/// Looks that are under way at once.
const LOOKS: usize = 256;

/// How often it is looked at what, and how much of it there may be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A user who came or went is told of after so long without another change, in milliseconds.
    pub quiet: Tick,
    /// Between two looks at a watched user.
    pub probe: Tick,
    /// Looks per second at most.
    pub probes_per_sec: u32,
    /// Between two notes of when a user was seen.
    pub last_seen: Tick,
    /// Users whom one session may watch.
    pub per_session: usize,
    /// Users who may be watched on the node.
    pub users: usize,
}

/// What it is built from.
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// The sessions here.
    pub registry: Arc<Registry>,
    /// The sessions elsewhere.
    pub router: Router,
    /// The way to other nodes.
    pub cells: Cells,
    /// Where it is kept when users were seen.
    pub people: Arc<dyn People>,
    /// Who is told nothing of whom.
    pub blocks: Blocks,
    /// What may run.
    pub overload: Overload,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The sessions' clock.
    pub clock: Clock,
    /// How often, and how much.
    pub settings: Settings,
}

/// The presence of one node. Cheap to clone.
#[derive(Clone)]
pub struct Presence(Arc<Inner>);

struct Inner {
    node: String,
    registry: Arc<Registry>,
    router: Router,
    cells: Cells,
    people: Arc<dyn People>,
    blocks: Blocks,
    overload: Overload,
    metrics: Arc<Metrics>,
    clock: Clock,
    settings: Settings,
    changes: Mutex<Changes>,
    watches: Mutex<Watches>,
    interest: Mutex<Interest>,
    looks: Semaphore,
    wake: Notify,
    /// Held for its drop.
    hears: OnceLock<Subscription>,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presence({} users are watched)", self.0.watches.lock().len())
    }
}

/// Passes what the registry tells to a presence that may be gone: the registry is its part.
struct Ear(std::sync::Weak<Inner>);

impl Comings for Ear {
    fn came(&self, user: &UserId) {
        self.note(user, false);
    }

    fn went(&self, user: &UserId) {
        self.note(user, true);
    }

    fn ended(&self, session: &SessionHandle) {
        let Some(inner) = self.0.upgrade() else { return };
        let gone = inner.watches.lock().remove_all(session);
        inner.metrics.watched_users.dec_by(i64::try_from(gone.len()).unwrap_or(0));
        // Unsubscribes outside of the lock.
        drop(gone);
    }
}

impl Ear {
    fn note(&self, user: &UserId, was_here: bool) {
        let Some(inner) = self.0.upgrade() else { return };
        let due = inner.clock.now() + inner.settings.quiet;
        let mut changes = inner.changes.lock();
        let was_idle = changes.next().is_none();
        changes.note(user, was_here, now_millis(), due);
        drop(changes);
        if was_idle {
            inner.wake.notify_one();
        }
    }
}

impl Presence {
    /// Puts the parts together, and hears of the registry's sessions from now on.
    pub fn new(parts: Parts) -> Self {
        let Parts { node, registry, router, cells, people, blocks, overload, metrics, clock, settings } = parts;
        let inner = Arc::new(Inner {
            node,
            registry,
            router,
            cells,
            people,
            blocks,
            overload,
            metrics,
            clock,
            settings,
            changes: Mutex::default(),
            watches: Mutex::default(),
            interest: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            wake: Notify::new(),
            hears: OnceLock::new(),
        });
        let hears = inner.cells.first().subscribe(&Subject::watched("*"), inner.on_watched());
        // Just made: nothing was set before.
        let _ = inner.hears.set(hears);
        inner.registry.tell_comings(Box::new(Ear(Arc::downgrade(&inner))));
        Self(inner)
    }

    /// Has a session watch these users.
    ///
    /// # Errors
    /// When there are too many; those before the first one too many are watched all the same.
    pub fn watch(&self, session: &Arc<SessionHandle>, users: &[UserId]) -> Result<(), Refused> {
        let inner = &self.0;
        let room = Room { per_session: inner.settings.per_session, users: inner.settings.users };
        for user in users {
            let due = inner.clock.now() + inner.settings.probe;
            let mut watches = inner.watches.lock();
            let before = watches.len();
            let subject = Subject::presence(user);
            let subscribe = || inner.cells.of(&subject).subscribe(&subject, inner.on_presence(user));
            let added = watches.add(session, user, due, room, subscribe);
            let grown = watches.len() - before;
            drop(watches);
            inner.metrics.watched_users.inc_by(i64::try_from(grown).unwrap_or(0));
            if grown > 0 {
                inner.cells.first().publish(&Subject::watched(&inner.node), encode_watched(false, &[group(user)]));
            }
            added.map_err(|why| refused(why, room))?;
        }
        inner.wake.notify_one();
        Ok(())
    }

    /// A session watches these no more.
    pub fn unwatch(&self, session: &SessionHandle, users: &[UserId]) {
        for user in users {
            self.0.unwatch(session, user);
        }
    }

    /// [`part`](Self::part) for the router, which this holds: so that does not hold this.
    pub fn parting(&self) -> impl Fn(&UserId, &UserId) + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.0);
        move |user, other| {
            if let Some(inner) = inner.upgrade() {
                Self(inner).part(user, other);
            }
        }
    }

    /// One of the two has blocked the other, or unblocked, some time ago: if a block parts them now, neither is told of the other
    /// any more until they ask again. Whoever asked after an unblock was asking for what comes, so a notice of it ends nothing.
    pub fn part(&self, user: &UserId, other: &UserId) {
        let watched = |of: &UserId, by: &UserId| !self.0.watches.lock().sessions(of, by).is_empty();
        if !watched(user, other) && !watched(other, user) {
            return;
        }
        let (inner, one, two) = (self.0.clone(), user.clone(), other.clone());
        self.0.blocks.stand(user, other, move |stand| {
            // A store that does not answer lets nothing pass.
            if stand.is_ok_and(|stand| !stand.is_apart()) {
                return;
            }
            for (watched, by) in [(&one, &two), (&two, &one)] {
                inner.end_watches(watched, by);
            }
        });
    }

    /// Whether these users are there, in their order. What is known of those who are watched is not looked up again.
    pub async fn ask(&self, asker: Option<&SessionHandle>, users: &[UserId]) -> Vec<Seen> {
        self.0.clone().ask(asker, users).await
    }
}

impl Inner {
    fn end_watches(&self, watched: &UserId, by: &UserId) {
        let sessions = self.watches.lock().sessions(watched, by);
        for session in sessions {
            self.unwatch(&session, watched);
            let gone = Seen { user: watched.clone(), online: None, last_seen: None };
            session.mailbox.push(Mail::Passing(Arc::new(SharedFrame::of(&ServerFrame::Presence(gone)))));
        }
    }

    fn on_presence(self: &Arc<Self>, user: &UserId) -> OnMessage {
        // Weak: the subscription is in the table, which this owns.
        let (inner, user) = (Arc::downgrade(self), user.clone());
        Arc::new(move |message| {
            let Some(inner) = inner.upgrade() else { return };
            match decode_coming(&message.payload) {
                Ok(came) => inner.on_coming(&user, came),
                Err(error) => {
                    tracing::warn!(subject = %message.subject, error, "not a node's payload on a node's subject")
                }
            }
        })
    }

    fn on_watched(self: &Arc<Self>) -> OnMessage {
        let inner = Arc::downgrade(self);
        Arc::new(move |message| {
            let (Some(inner), Some(node)) = (inner.upgrade(), Subject::watched_of(&message.subject)) else { return };
            match decode_watched(&message.payload) {
                Ok((all, groups)) => {
                    let (now, round) = (inner.clock.now(), inner.settings.probe);
                    inner.interest.lock().on_told(node.as_str(), all, &groups, now, round);
                }
                Err(error) => {
                    tracing::warn!(subject = %message.subject, error, "not a node's payload on a node's subject")
                }
            }
        })
    }

    /// Tells the other nodes which groups of users are watched here. Where there are none and were none, nothing.
    fn tell_watched(&self, told: &mut bool) {
        self.interest.lock().on_connection(self.cells.first().connected(), self.clock.now(), self.settings.probe);
        let mut groups = self.watches.lock().groups();
        if groups.is_empty() && !*told {
            return;
        }
        *told = !groups.is_empty();
        groups.sort_unstable();
        groups.dedup();
        self.cells.first().publish(&Subject::watched(&self.node), encode_watched(true, &groups));
    }

    /// Whether somebody may watch the user on another node.
    fn may_be_watched(&self, user: &UserId) -> bool {
        let (generation, now) = (self.cells.first().connected(), self.clock.now());
        self.interest.lock().may_be_in(user, generation, now, self.settings.probe)
    }

    /// A user came to some node, or left one.
    fn on_coming(self: &Arc<Self>, user: &UserId, came: bool) {
        if came {
            let told = self.watches.lock().on_came(user);
            self.tell(user, told);
        } else {
            self.watches.lock().on_gone(user, self.clock.now());
            self.wake.notify_one();
        }
    }

    fn unwatch(&self, session: &SessionHandle, user: &UserId) {
        let gone = self.watches.lock().remove(session, user);
        if gone.is_some() {
            self.metrics.watched_users.dec();
        }
        drop(gone);
    }

    /// Tells those who watch, but for whoever the user blocks or is blocked by. Where the store does not say so, nobody is
    /// told before the next look.
    fn tell(self: &Arc<Self>, user: &UserId, told: Option<Told>) {
        let Some((sessions, State { online, last_seen })) = told else { return };
        let frame = ServerFrame::Presence(Seen { user: user.clone(), online, last_seen });
        let shared = Arc::new(SharedFrame::of(&frame));
        for session in sessions {
            let (inner, shared, user) = (Arc::downgrade(self), shared.clone(), user.clone());
            self.blocks.stand(&session.identity.device.user.clone(), &user.clone(), move |stand| {
                let Some(inner) = inner.upgrade() else { return };
                match stand {
                    Ok(stand) if stand.is_apart() => inner.unwatch(&session, &user),
                    Ok(_) => {
                        inner.metrics.presence_told.inc();
                        session.mailbox.push(Mail::Passing(shared));
                    }
                    Err(_) => inner.watches.lock().untold(&user),
                }
            });
        }
    }
}

fn refused(why: NotWatched, room: Room) -> Refused {
    match why {
        NotWatched::TooMany => Refused::new(
            ErrorCode::NotAllowed,
            format!("users: a session watches at most {} (presence.watches_per_session)", room.per_session),
        ),
        NotWatched::Full => Refused::new(
            ErrorCode::Unavailable,
            "users: the sessions of this node watch as many as they may (presence.watches_per_node)",
        ),
        NotWatched::Ended => Refused::new(ErrorCode::Unavailable, "the connection has ended"),
    }
}

/// How long a probe waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
