//! Each conversation's appends go to its home, the one node that may write them, found by subject. For a store that
//! several nodes share ([`crate::store::slots`] says who is home); an embedded store needs none of this.
//!
//! Built by the node, between its appender and the engine. `route` takes an append to its home, `gather` and `serve` are
//! the home's side of that; `takeover` finds or makes a home where none answers, `fencing` (with `limits`) decides when a
//! silent one loses its right to write, `want` asks for a slot where NATS carries nothing; `keep` announces this node,
//! follows its slots and places them by `rendezvous`, among those that `roster` knows; `mend` takes a mend to its home;
//! `wire` is what nodes say.
//!
//! Whatever is decided here is about time only: who may write is decided in the store, by compare-and-set.

mod fencing;
mod flights;
mod gather;
mod keep;
mod limits;
mod mend;
mod placing;
mod rendezvous;
mod roster;
mod route;
mod serve;
mod takeover;
mod want;
mod wire;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use compact_str::CompactString;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::placing::LEAVE;
use self::{
    fencing::Fencing,
    flights::Flights,
    gather::Gather,
    roster::Roster,
    route::HomeLogs,
    serve::UnderWay,
    takeover::{Finding, Taking},
    wire::{Alive, Probe},
};
use crate::{
    bus::{Bus, OnMessage, RequestError, Subscription},
    metrics::Metrics,
    store::{
        Logs,
        slots::{Incarnation, Slot, Slots},
    },
    subject::Subject,
};

/// A reason, for whoever waits.
type Words = Arc<str>;

/// How long a node has to say that it is there: many round trips across a cluster, also for one that is busy.
const PROBE: Duration = Duration::from_millis(200);
/// Where nobody hears a probe, the node may be changing its NATS server: it is asked again until the time is up.
const PROBE_AGAIN: Duration = Duration::from_millis(30);

/// How often a home is asked before it counts as silent: whoever asks may be known to its NATS server only.
const HEARD_TRIES: usize = 5;

/// What homes are made of.
#[derive(Clone)]
pub struct Parts {
    /// The node's name.
    pub node: CompactString,
    /// The way to the other nodes.
    pub bus: Arc<dyn Bus>,
    /// The engine's logs, which take the appends of this node's own slots.
    pub logs: Arc<dyn Logs>,
    /// The right to write.
    pub slots: Arc<dyn Slots>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// This node as a home among others. Dropping it ends that as a crash would; [`Homes::leave`] first, for an orderly end.
pub struct Homes {
    shared: Arc<Shared>,
    heard: Vec<Subscription>,
    tasks: Vec<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Homes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Homes").field("own", &self.shared.own).finish_non_exhaustive()
    }
}

impl Homes {
    /// Nothing is served or announced before [`Homes::start`].
    pub fn new(parts: Parts) -> Self {
        let shared = Shared::new(parts);
        // The subject of no slot: whether the node may subscribe to those of slots is known before it has one.
        let nobody: OnMessage = Arc::new(|_| ());
        let heard = vec![shared.bus.subscribe(&Subject::log(u16::MAX), nobody)];
        Self { shared, heard, tasks: Vec::new() }
    }

    /// Begins to serve, to announce, and to take slots. After the node's name is its own: two nodes of one name would
    /// answer for each other.
    pub fn start(&mut self) {
        self.heard = self.shared.listen();
        self.tasks = self.shared.keep();
    }

    /// The same for a process that is no node and only asks homes (`natter repair`): it says from the start that it leaves,
    /// so nothing is placed with it, it has no word on others, and it takes only what nobody else is there to take.
    pub fn start_leaving(&mut self) {
        self.shared.leaving.store(true, Ordering::Release);
        self.start();
    }

    /// The logs with their appends going to their homes.
    pub fn logs(&self) -> Arc<dyn Logs> {
        Arc::new(HomeLogs(Arc::clone(&self.shared)))
    }

    /// The names of the other nodes that were heard in the last half minute and did not leave, whenever it is called.
    pub fn peers(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        // Weak: whoever asks may outlive the homes.
        let shared = Arc::downgrade(&self.shared);
        move || {
            let Some(shared) = shared.upgrade() else { return Vec::new() };
            let recent = shared.roster.lock().recent(Instant::now());
            recent.into_iter().map(|who| who.node.to_string()).collect()
        }
    }

    /// Hands every slot over to the nodes that stay, and takes no more. Some seconds at most.
    pub async fn leave(&self) {
        self.shared.hand_all_over().await;
    }
}

/// Whether an incarnation says that it is there: for `natter doctor`. `None` when it cannot be asked.
pub async fn is_heard(bus: &dyn Bus, who: &Incarnation) -> Option<bool> {
    let (subject, probe) = (Subject::node(&who.node, "alive"), Probe { slot: Slot::new(0)?, id: 0 });
    for _ in 0..HEARD_TRIES {
        match bus.request(&subject, wire::encode(&probe), PROBE).await {
            Ok(answer) => return Some(wire::decode::<Alive>(&answer).is_ok_and(|alive| alive.who == *who)),
            Err(RequestError::NotConnected) => return None,
            Err(_) => sleep(jittered(PROBE_AGAIN)).await,
        }
    }
    Some(false)
}

/// What the parts of this folder share.
struct Shared {
    own: CompactString,
    bus: Arc<dyn Bus>,
    logs: Arc<dyn Logs>,
    slots: Arc<dyn Slots>,
    metrics: Arc<Metrics>,
    roster: Mutex<Roster>,
    /// Homes that answered a search, for slots whose subject did not lead to them.
    hints: Mutex<HashMap<Slot, Incarnation>>,
    gather: Arc<Gather>,
    under_way: Arc<UnderWay>,
    searches: Flights<Slot, Finding>,
    takes: Flights<Slot, Taking>,
    wants: Flights<Slot, Finding>,
    fencing: Fencing,
    leaving: AtomicBool,
    /// The connection's generation, and since when it is.
    link: Mutex<(Option<u64>, Instant)>,
    /// Since when slots are held, and when they were last wanted elsewhere.
    tenure: Mutex<placing::Tenure>,
    next_id: AtomicU64,
}

/// What a node said when it was asked whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probed {
    /// The incarnation is.
    Same(Alive),
    /// A later life of the same node is.
    Over,
    /// Nothing, in time.
    Silent,
    /// It could not be asked: this node is not connected.
    Cut,
}

impl Shared {
    fn new(Parts { node, bus, logs, slots, metrics }: Parts) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            roster: Mutex::new(Roster::new(&node, now)),
            link: Mutex::new((bus.connected(), now)),
            gather: Gather::new(Arc::clone(&logs)),
            own: node,
            bus,
            logs,
            slots,
            metrics,
            hints: Mutex::default(),
            under_way: Arc::default(),
            searches: Flights::new(),
            takes: Flights::new(),
            wants: Flights::new(),
            fencing: Fencing::new(),
            leaving: AtomicBool::new(false),
            tenure: Mutex::default(),
            next_id: AtomicU64::new(rand::random()),
        })
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether the connection to NATS has been the same for this long.
    fn is_linked_for(&self, time: Duration) -> bool {
        let mut link = self.link.lock();
        let now = self.bus.connected();
        if link.0 != now {
            *link = (now, Instant::now());
        }
        now.is_some() && link.1.elapsed() >= time
    }

    /// Asks a node and reads its answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &Subject,
        what: &(impl Serialize + Sync),
        patience: Duration,
    ) -> Result<T, RequestError> {
        let answer = self.bus.request(subject, wire::encode(what), patience).await?;
        wire::decode(&answer).map_err(|error| {
            tracing::warn!(%subject, %error, "a node's answer cannot be read");
            RequestError::TimedOut
        })
    }

    /// Asks an incarnation whether it is there, about a slot and an append that waits for it (0 for none).
    async fn probe(&self, who: &Incarnation, slot: Slot, id: u64) -> Probed {
        let (subject, begin) = (Subject::node(&who.node, "alive"), Instant::now());
        loop {
            let left = PROBE.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Probed::Silent;
            }
            match self.ask::<Alive>(&subject, &Probe { slot, id }, left).await {
                Ok(alive) if alive.who == *who => return Probed::Same(alive),
                Ok(alive) if alive.who.node == who.node && alive.who.number > who.number => return Probed::Over,
                Ok(_) | Err(RequestError::NoResponders) => sleep(jittered(PROBE_AGAIN).min(left)).await,
                Err(RequestError::TimedOut) => return Probed::Silent,
                Err(RequestError::NotConnected) => return Probed::Cut,
            }
        }
    }
}

/// Between half and one and a half times as long, so that nodes that did something together do not do the next together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + rand::random::<f64>())
}
