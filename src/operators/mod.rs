//! What operators ask of a node over NATS, and what it answers: how it is, why a message has or has not reached somebody,
//! who is to be disconnected or erased, whether it is to drain; and the NATS services convention (`nats micro`).
//!
//! Built by the node; asked by `natter nodes`, `why`, `trace`, `disconnect`, `erase` and `drain`. Who may ask is decided by the
//! permissions of NATS (`nats/accounts.conf`): whoever may publish here is an operator. Answers go below an operator's inbox
//! and nowhere else. Nothing here is on the way of a message.

mod convention;
pub mod end;
mod status;
pub mod why;
mod window;
pub mod wire;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    window::Windows,
    wire::{Answered, DrainAsk, Draining, Ended, EraseAsk, Said, TraceAsk},
};
use crate::{
    bus::{BusMessage, Subscription, cells::Cells},
    config::Services,
    gateway::Gateway,
    homes::Homes,
    metrics::Metrics,
    model::{Millis, now_millis},
    ops::Ops,
    routing::Router,
    services::Doors,
    store::Store,
    subject::{OPERATOR, Subject},
};

/// Requests of operators under way at once; more are refused.
const AT_ONCE: usize = 16;
/// A trace is followed for so long at most, unless it is prolonged.
const LEASE: Duration = Duration::from_secs(60);

/// What is asked of nodes, by the last word of the subject.
pub mod ask {
    /// How a node is.
    pub const STATUS: &str = "status";
    /// Ends sessions.
    pub const DISCONNECT: &str = "disconnect";
    /// Stops the node in an orderly way.
    pub const DRAIN: &str = "drain";
    /// The sessions of a user and how they stand to a conversation.
    pub const SESSIONS: &str = "sessions";
    /// What the store says of a message and a user.
    pub const STORED: &str = "stored";
    /// Makes unreadable what a user has said.
    pub const ERASE: &str = "erase";
    /// Follows a user's messages.
    pub const TRACE: &str = "trace";
}

/// What it is built from.
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// Where requests come from: the first of them.
    pub cells: Cells,
    /// The connections.
    pub gateway: Arc<Gateway>,
    /// The durable side.
    pub store: Store,
    /// Who erases users.
    pub ops: Arc<Ops>,
    /// Who is told.
    pub router: Router,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Which names are services.
    pub services: Services,
    /// What services asked.
    pub doors: Arc<Doors>,
    /// Cancelled when an operator has the node drain.
    pub stop: CancellationToken,
}

/// What a node says to operators.
pub struct Operators {
    parts: Parts,
    /// The other nodes that are known, where there are homes.
    peers: OnceLock<Box<dyn Fn() -> Vec<String> + Send + Sync>>,
    windows: Windows,
    started: Instant,
    /// The same by the wall clock, for people.
    since: Millis,
    under_way: Semaphore,
    /// Whoever asked for the drain, to be told of its end.
    drains: OnceLock<String>,
}

/// Its subscriptions, and the task that takes samples; dropping it ends both.
pub struct Listening {
    _heard: Vec<Subscription>,
    _sampling: AbortOnDropHandle<()>,
}

impl Operators {
    /// Says nothing before [`Operators::listen`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let windows = Windows::new(&parts.metrics);
        let (peers, drains) = (OnceLock::new(), OnceLock::new());
        let under_way = Semaphore::new(AT_ONCE);
        Arc::new(Self { parts, peers, windows, started: Instant::now(), since: now_millis(), under_way, drains })
    }

    /// The other nodes are known from these homes.
    pub fn know_homes(&self, homes: &Homes) {
        // Set once, by the node that is built.
        let _ = self.peers.set(Box::new(homes.peers()));
    }

    /// Subscribes to what operators ask.
    pub fn listen(self: &Arc<Self>) -> Listening {
        let bus = self.parts.cells.first();
        let commands = [Subject::command(&self.parts.node, "*"), Subject::nodes("*")];
        let commands = commands.iter().map(|subject| {
            let me = self.clone();
            bus.subscribe(subject, Arc::new(move |message| me.on_command(message)))
        });
        let micro = Subject::micro(&self.parts.node);
        let micro = micro.iter().map(|subject| {
            let me = self.clone();
            bus.subscribe(subject, Arc::new(move |message| me.on_micro(&message)))
        });
        let (windows, metrics) = (self.windows.clone(), self.parts.metrics.clone());
        let sampling = AbortOnDropHandle::new(tokio::spawn(async move { windows.sample_always(&metrics).await }));
        Listening { _heard: commands.chain(micro).collect(), _sampling: sampling }
    }

    /// The drain came to its end: whoever asked for it is told.
    pub fn on_drained(&self, is_clean: bool) {
        if let Some(token) = self.drains.get() {
            let payload = json(&Answered { node: self.parts.node.clone(), said: Said::Ok(Ended { clean: is_clean }) });
            self.parts.cells.first().publish(&Subject::told(&self.parts.node, token), payload);
        }
    }

    fn on_micro(&self, message: &BusMessage) {
        let verb = Subject::micro_verb(&message.subject).unwrap_or_default();
        if let (Some(to), Some(payload)) = (&message.reply, self.convention(verb)) {
            self.parts.cells.first().reply(OPERATOR, to, payload);
        }
    }

    fn on_command(self: &Arc<Self>, message: BusMessage) {
        let me = self.clone();
        // Called on the bus's task, where nobody may wait.
        tokio::spawn(async move {
            let answer = match me.under_way.try_acquire() {
                Ok(_place) => me.answer(&message).await,
                Err(_) => me.say::<()>(Err(format!("{AT_ONCE} requests of operators are under way here: ask again"))),
            };
            // Whoever only tells, as at the end of a trace, needs no answer.
            if let Some(to) = &message.reply {
                me.parts.cells.first().reply(OPERATOR, to, answer);
            }
        });
    }

    async fn answer(&self, message: &BusMessage) -> Bytes {
        let payload = &message.payload;
        match Subject::command_of(&message.subject).unwrap_or_default() {
            ask::STATUS => self.say(Ok(self.status().await)),
            ask::DISCONNECT => self.say(read(payload).and_then(|asked| self.end_sessions(&asked))),
            ask::DRAIN => self.say(read(payload).and_then(|asked| self.drain(asked))),
            ask::ERASE => match read::<EraseAsk>(payload) {
                Ok(asked) => self.say(self.parts.ops.erase(&asked.user).await.map_err(|refused| refused.to_string())),
                Err(words) => self.say::<()>(Err(words)),
            },
            ask::TRACE => self.say(read(payload).and_then(|asked| self.trace(asked))),
            ask::SESSIONS => match read(payload) {
                Ok(asked) => self.say(Ok(why::here(&self.parts, self.state(), &asked, self.peers()).await)),
                Err(words) => self.say::<()>(Err(words)),
            },
            ask::STORED => match read(payload) {
                Ok(asked) => self.say(why::stored(&self.parts, &asked).await),
                Err(words) => self.say::<()>(Err(words)),
            },
            other => {
                let shown: String = other.chars().take(32).collect();
                self.say::<()>(Err(format!("{shown:?}: operators cannot ask this; see natter --help")))
            }
        }
    }

    fn say<T: Serialize>(&self, said: Result<T, String>) -> Bytes {
        let said = match said {
            Ok(answer) => Said::Ok(answer),
            Err(words) => Said::Error(words),
        };
        json(&Answered { node: self.parts.node.clone(), said })
    }

    fn drain(&self, asked: DrainAsk) -> Result<Draining, String> {
        if self.parts.gateway.is_leaving() || self.drains.set(asked.token).is_err() {
            return Err("it is stopping already".to_owned());
        }
        tracing::info!("an operator has this node drain");
        self.parts.stop.cancel();
        let (notice, drain) = self.parts.gateway.drain_times();
        Ok(Draining {
            sessions: self.parts.gateway.sessions(),
            notice_secs: notice.as_secs(),
            drain_secs: drain.as_secs(),
        })
    }

    fn trace(&self, asked: TraceAsk) -> Result<wire::Nothing, String> {
        let TraceAsk { user, token, lease_ms } = asked;
        if token.is_empty() || token.len() > 64 || !token.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err("token: must be 1 to 64 letters and digits".to_owned());
        }
        let lease = Duration::from_millis(lease_ms).min(LEASE);
        let followed = self.parts.router.traces().follow(user, &token, lease);
        followed
            .map_err(|_| "as many users are followed here already as may be: end another natter trace".to_owned())?;
        Ok(wire::Nothing {})
    }
}

/// What an operator asked, in JSON; nothing is as an empty map.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    serde_json::from_slice(payload).map_err(|error| format!("the request cannot be read: {error}"))
}

fn json(what: &impl Serialize) -> Bytes {
    // Names, numbers and texts: nothing that JSON could not carry.
    serde_json::to_vec(what).unwrap_or_default().into()
}
