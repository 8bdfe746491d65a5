//! What a request does, whatever door it came through: one executor, one file per op with its checks, its work and its
//! answer. Permissions are in [`caller`], limits in [`Limits`], failures become the protocol's words in [`fault`].
//!
//! Called by the gateway for sessions, by `services` for requests over NATS and by `http` for those of its API, with a callback
//! instead of a future: a `send` costs no task.

mod about;
mod block;
mod caller;
mod change;
mod conversations;
mod end_session;
mod erase;
mod fault;
mod history;
mod hook;
mod mint;
mod offline;
mod presence;
mod pushes;
mod read;
mod receipts;
mod room_places;
mod room_rows;
mod room_sweep;
mod rooms;
mod rounds;
mod send;
mod send_many;
mod sessions;
mod signal;
mod told;
mod unread;
mod upkeep;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use caller::Caller;
pub use fault::{counted, refused};
pub use hook::Settings as HookSettings;
pub use offline::Settings as OfflineSettings;
pub use pushes::Settings as PushSettings;
pub use room_sweep::Pace;

use self::{hook::Hook, offline::Away, pushes::Pushes};
use crate::{
    auth::LiveMinter,
    blocks::Blocks,
    bus::Bus,
    config::Services,
    metrics::Metrics,
    model::UserId,
    overload::{Class, Overload, Rates, Turn, WaitingBytes},
    presence::Presence,
    protocol::{Ask, ErrorCode, Op, Outcome, Refused, ask::Erased},
    routing::Router,
    sealing::Sealing,
    store::{Store, appender::Appender},
};

/// How long a request waits for its turn before it is refused as `unavailable`.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much may be asked of a node.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most bytes of a body, in either encoding.
    pub body_bytes: usize,
    /// The same of a signal's.
    pub signal_bytes: usize,
    /// Most bytes of the sends that wait for the store.
    pub waiting_bytes: usize,
    /// Most devices of one user; those that logged in longest ago are retired.
    pub devices_per_user: usize,
    /// Most rooms that a user may be in.
    pub rooms_per_user: usize,
    /// Most users that a user may block.
    pub blocks_per_user: usize,
    /// Everybody may know of everybody who is online.
    pub presence_of_everybody: bool,
    /// How push services are told of messages in rooms.
    pub pushes: PushSettings,
    /// How they are told of users who are away.
    pub offline: OfflineSettings,
    /// Which service is asked about messages before they are stored.
    pub hook: Option<HookSettings>,
    /// How long a device that is online may not have been noted as in use.
    pub seen_again: Duration,
    /// Requests of services under way at once; more are refused with `unavailable`, retry.
    pub services_under_way: usize,
}

/// What an executor is built from.
pub struct Parts {
    /// Where messages are kept.
    pub store: Store,
    /// Who is told.
    pub router: Router,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What may run.
    pub overload: Overload,
    /// How much may be asked.
    pub limits: Limits,
    /// Which services may speak as which users.
    pub services: Services,
    /// Makes tokens for users, where the nodes have a secret.
    pub minter: LiveMinter,
    /// Erases users.
    pub sealing: Sealing,
    /// Who is online.
    pub presence: Presence,
    /// Who blocks whom.
    pub blocks: Blocks,
    /// The way to services that are asked something.
    pub bus: Arc<dyn Bus>,
}

/// The executor of one node.
pub struct Ops {
    store: Store,
    room_rows: Arc<room_rows::RoomRows>,
    appender: Appender,
    router: Router,
    metrics: Arc<Metrics>,
    limits: Limits,
    services: Services,
    minter: LiveMinter,
    sealing: Sealing,
    services_under_way: AtomicUsize,
    service_rates: Rates,
    /// One for each `send_many` that may run.
    batches: Semaphore,
    presence: Presence,
    blocks: Blocks,
    pushes: Pushes,
    away: Away,
    hook: Option<Hook>,
    overload: Overload,
    /// The tasks of asks that wait for the store.
    tasks: TaskTracker,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ops({:?}, {} tasks)", self.appender, self.tasks.len())
    }
}

impl Ops {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { store, router, metrics, overload, limits, services, minter, sealing, presence, blocks, bus } =
            parts;
        let pushes = Pushes::new(store.rooms.clone(), router.clone(), overload.clone(), metrics.clone(), limits.pushes);
        let away = Away::new(store.clone(), router.clone(), overload.clone(), metrics.clone(), limits.offline);
        let (publisher, pushing) = (router.clone(), pushes.clone());
        let on_appended = Arc::new(move |conv: &_, batch: &_| {
            publisher.publish_stored(conv, batch);
            pushing.on_stored(conv, batch);
            told::on_stored(publisher.events(), conv, batch);
        });
        let waiting = WaitingBytes::new(limits.waiting_bytes);
        let hook = limits.hook.clone().map(|settings| Hook::new(settings, bus, waiting.clone(), metrics.clone()));
        // Weak: what gathers holds the router, which would hold it.
        let gathers = away.weak();
        router.on_offline(Box::new(move |user, missed| gathers.note(user, missed)));
        let (known, part) = (blocks.clone(), presence.parting());
        router.on_blocked(Box::new(move |user, other| {
            known.forget(user, other);
            part(user, other);
        }));
        Arc::new(Self {
            appender: Appender::new(store.logs.clone(), on_appended, overload.clone(), waiting),
            room_rows: room_rows::RoomRows::new(store.rooms.clone()),
            overload,
            services_under_way: AtomicUsize::new(0),
            service_rates: Rates::default(),
            batches: Semaphore::new(send_many::BATCHES),
            tasks: TaskTracker::new(),
            store,
            router,
            metrics,
            limits,
            services,
            minter,
            sealing,
            presence,
            blocks,
            pushes,
            away,
            hook,
        })
    }

    /// Who is told.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Makes unreadable what a user has said, for an operator.
    ///
    /// # Errors
    /// When bodies are not sealed, or the store cannot do it; then it is asked for again.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, Refused> {
        erase::erase(self, user).await
    }

    /// Does what is asked and calls `done` exactly once: from this call, from the appender, or from a task.
    pub fn perform(
        self: &Arc<Self>,
        caller: &Caller,
        ask: Ask,
        done: impl FnOnce(Outcome) + std::marker::Send + 'static,
    ) {
        let op = ask.op();
        let ticket = match caller.admit(self, &ask) {
            Ok(ticket) => ticket,
            Err(refused) => return done(self.count(op, Err(refused))),
        };
        let ops = self.clone();
        let done = move |outcome| {
            drop(ticket);
            done(ops.count(op, outcome));
        };
        match ask {
            Ask::Send(ask) => send::perform(self, caller, ask, done),
            Ask::SendMany(ask) => {
                self.spawn(caller, done, async move |ops, caller| send_many::perform(&ops, &caller, ask).await);
            }
            Ask::Mint(ask) => done(mint::perform(self, caller, ask)),
            Ask::Erase(_) => self.spawn(caller, done, async move |ops, caller| erase::perform(&ops, &caller).await),
            Ask::Edit(ask) | Ask::Delete(ask) | Ask::React(ask) | Ask::Unreact(ask) => {
                self.spawn(caller, done, async move |ops, caller| about::perform(&ops, &caller, ask).await);
            }
            Ask::Signal(ask) => signal::perform(self, caller, ask, done),
            Ask::Read(ask) => {
                self.spawn(caller, done, async move |ops, caller| read::perform(&ops, &caller, ask).await)
            }
            Ask::History(ask) => {
                self.spawn(caller, done, async move |ops, caller| history::perform(&ops, &caller, ask).await);
            }
            Ask::Conversations(ask) => {
                self.spawn(caller, done, async move |ops, caller| conversations::perform(&ops, &caller, ask).await);
            }
            Ask::Sessions(_) => {
                self.spawn(caller, done, async move |ops, caller| sessions::perform(&ops, &caller).await);
            }
            Ask::EndSession(ask) => {
                self.spawn(caller, done, async move |ops, caller| end_session::perform(&ops, &caller, ask).await);
            }
            Ask::Create(ask)
            | Ask::Join(ask)
            | Ask::Leave(ask)
            | Ask::Invite(ask)
            | Ask::Kick(ask)
            | Ask::Role(ask)
            | Ask::Topic(ask)
            | Ask::Lifetime(ask) => {
                self.spawn(caller, done, async move |ops, caller| rooms::change(&ops, &caller, ask).await);
            }
            Ask::Room(ask) => {
                self.spawn(caller, done, async move |ops, caller| rooms::one(&ops, &caller, ask).await);
            }
            Ask::Rooms(ask) => {
                self.spawn(caller, done, async move |ops, caller| rooms::rooms(&ops, &caller, ask).await);
            }
            Ask::Members(ask) => {
                self.spawn(caller, done, async move |ops, caller| rooms::members(&ops, &caller, ask).await);
            }
            Ask::Presence(ask) => {
                self.spawn(caller, done, async move |ops, caller| presence::perform(&ops, &caller, ask).await);
            }
            Ask::Block(ask) | Ask::Unblock(ask) => {
                self.spawn(caller, done, async move |ops, caller| block::perform(&ops, &caller, ask).await);
            }
            Ask::Blocks(ask) => {
                self.spawn(caller, done, async move |ops, caller| block::list(&ops, &caller, ask).await);
            }
            Ask::Readers(ask) => {
                self.spawn(caller, done, async move |ops, caller| rooms::readers(&ops, &caller, ask).await);
            }
            Ask::Unserved(op) => done(Err(unserved(op.word()))),
        }
    }

    /// Runs an op that waits for the store as a task of its own.
    fn spawn<F>(
        self: &Arc<Self>,
        caller: &Caller,
        done: impl FnOnce(Outcome) + std::marker::Send + 'static,
        op: impl FnOnce(Arc<Self>, Caller) -> F + std::marker::Send + 'static,
    ) where
        F: Future<Output = Outcome> + std::marker::Send + 'static,
    {
        let running = op(self.clone(), caller.clone());
        // Boxed: the largest op would otherwise be the size of every task.
        self.tasks.spawn(Box::pin(async move { done(running.await) }));
    }

    /// Waits until work that a request needs may start. Whoever asked hears of it when that takes too long.
    async fn turn(&self, class: Class, cost: u64) -> Result<Turn, Refused> {
        self.overload.turn_within(PATIENCE, class, cost).await.map_err(|busy| fault::busy(&busy))
    }

    fn count(&self, op: Op, outcome: Outcome) -> Outcome {
        self.metrics.ops.of(op).inc();
        if let Err(Refused { code, .. }) = &outcome {
            self.metrics.refused(op, *code);
        }
        outcome
    }

    /// Waits until everything taken has ended: appends are stored, answered and published, tasks are done.
    pub async fn finish(&self) {
        // Nobody is left who would miss them.
        self.overload.clear(Class::Listing);
        // What waits for a read of blocks becomes an append, or a task.
        self.blocks.idle().await;
        if let Some(hook) = &self.hook {
            hook.idle().await;
        }
        self.appender.idle().await;
        self.pushes.idle().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        // Of whom nobody holds the server tells only now.
        self.router.settle().await;
        self.away.idle().await;
    }
}

fn unserved(what: &str) -> Refused {
    Refused::new(ErrorCode::Unsupported, format!("{what}: not served by this version"))
}

#[cfg(test)]
mod tests;
