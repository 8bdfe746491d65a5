//! The composition root: configuration → bus → gateway → run until the shutdown token → drain.
//!
//! Called by `natter serve` (one node) and `natter dev` (several in one process). Nothing here is global.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::broadcast::error::RecvError};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    auth::{AuthError, LiveMinter, Minter, Verifier},
    blocks::Blocks,
    bus::{Bus, BusError, BusEvent, NatsOptions, Subscription, cells::Cells, claim::Claim},
    config::{self, Config},
    events::{self, BadWebhook, Events},
    gateway::{self, Gateway},
    homes::{self, Homes},
    http::{
        self, Routes, Shown,
        api::{self, Api},
        serve::{Patience, serve},
    },
    metrics::Metrics,
    operators::{self, Operators},
    ops::{self, Ops},
    overload::{self, LineLimits, Overload},
    presence::{self, Presence},
    routing::{Capacity, Clock, Registry, Router, Watch, watch},
    sealing::{self, Masters, Sealing},
    services::{Doors, Services, queue},
    session::{self, Rate, Rules},
    store::Store,
};

/// Requests of services under way on a node; more are refused with `unavailable`, retry.
const SERVICES_UNDER_WAY: usize = 4096;

/// Conversations whose next batch waits; their bytes are bounded apart.
const APPENDS_WAITING: usize = 65_536;
/// Fills and cursor writes at once, and how many wait; those beyond it are tried again by their sessions.
const FILLS_AT_ONCE: usize = 1_024;
const FILLS_WAITING: usize = 65_536;
/// Comparisons and lists at once: few, because each reads much.
const LISTINGS_AT_ONCE: usize = 32;

/// How long the end of a node may take after `timing.drain_min_secs` and `timing.drain_secs`: who left is noted, webhooks are
/// posted, conversations are handed over; and up to 4 s until NATS has all of it, and 2 s for the store.
pub const ENDING: Duration =
    presence::ENDING.saturating_add(events::ENDING).saturating_add(homes::LEAVE).saturating_add(Duration::from_secs(6));

/// How long a node that is told to stop may take until its process ends.
pub fn longest_stop(timing: &config::Timing) -> Duration {
    Duration::from_secs(timing.drain_min_secs + timing.drain_secs) + ENDING
}

/// Why a node cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Tokens cannot be checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The connection to NATS can never work as it is configured.
    #[error("nats: {0}")]
    Bus(#[from] BusError),
    /// A webhook can never work as it is configured.
    #[error(transparent)]
    Webhook(#[from] BadWebhook),
    /// The master key is none.
    #[error("sealing.master_key: {0}")]
    MasterKey(String),
    /// Another process runs under the name.
    #[error("a node called {0} runs already on these NATS servers: give this one another node.name, or stop that one")]
    NameTaken(String),
}

/// A node that is ready to run.
pub struct Node {
    shown: Shown,
    /// One for each cell.
    watches: Vec<Watch>,
    patience: Patience,
    /// What services send; dropping it ends that.
    requests: [Subscription; 3],
    /// What they leave in the durable queue, where this node takes from it.
    queue: Option<queue::Intake>,
    claim: Claim,
    /// Where several nodes share the store.
    homes: Option<Homes>,
    services: config::Services,
    minter: LiveMinter,
    sweep: (Arc<ops::Ops>, Clock, ops::Pace),
    presence: Presence,
    operators: (Arc<Operators>, operators::Listening),
    /// Cancelled when an operator has the node drain.
    stop: CancellationToken,
}

/// Changes a running node: what can be taken from a configuration that was read again.
#[derive(Debug, Clone)]
pub struct Reload {
    gateway: Arc<Gateway>,
    services: config::Services,
    minter: LiveMinter,
}

impl Reload {
    /// Takes the keys of `[auth]` and the rules of `[services]`: both, or neither. Returns the keys in words.
    ///
    /// # Errors
    /// When a key cannot be used; everything stays as it was.
    pub async fn apply(&self, config: &Config) -> Result<String, NodeError> {
        let verifier = Arc::new(Verifier::start(&config.auth, Some(&self.gateway.verifier())).await?);
        let keys = format!("{verifier:?}");
        self.gateway.replace_verifier(verifier);
        self.services.replace(config.services.clone());
        self.minter.replace(&config.auth);
        Ok(keys)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("gateway", &self.shown.gateway).finish_non_exhaustive()
    }
}

impl Node {
    /// Builds a node on an open store; connects to NATS, or starts without it where it does not answer. All its parts
    /// count into `metrics`, which is the node's own.
    ///
    /// # Errors
    /// [`NodeError`]: what waiting does not help.
    pub async fn build(config: &Config, store: Store, metrics: Arc<Metrics>) -> Result<Self, NodeError> {
        let verifier = Arc::new(Verifier::start(&config.auth, None).await?);
        let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
        let cells = Cells::connect(options.clone(), &config.nats.cells, &metrics).await?;
        let bus = cells.first().clone();
        let claim = Claim::new(&bus, config.node.name.as_str());
        // Below the homes: what goes from node to node is not sealed, and whoever places a message seals it.
        let (store, sealing) = Sealing::over(store, sealing(config)?);
        let (store, mut homes) = at_home(config, store, &bus, &metrics);
        let registry = Arc::new(Registry::new(cells.clone(), metrics.clone(), capacity(config)));
        let rules_of_services = config::Services::new(config.services.clone());
        let minter = LiveMinter::new(&config.auth);
        let events = Events::new(events::Parts {
            node: config.node.name.as_str(),
            bus: bus.clone(),
            metrics: metrics.clone(),
            services: rules_of_services.clone(),
            settings: &config.events,
            webhooks: &config.webhooks,
        })?;
        let router =
            Router::new(config.node.name.as_str(), cells.clone(), registry.clone(), metrics.clone(), events.clone());
        let overload = Overload::new(work_limits(config), metrics.clone());
        let clock = Clock::new();
        let blocks = Blocks::new(store.people.clone(), overload.clone(), metrics.clone(), blocks_known(config));
        let presence = Presence::new(presence::Parts {
            node: config.node.name.to_string(),
            registry: registry.clone(),
            router: router.clone(),
            cells: cells.clone(),
            people: store.people.clone(),
            blocks: blocks.clone(),
            overload: overload.clone(),
            metrics: metrics.clone(),
            clock,
            settings: presence_settings(config),
        });
        let ops = Ops::new(ops::Parts {
            presence: presence.clone(),
            blocks,
            store: store.clone(),
            router: router.clone(),
            metrics: metrics.clone(),
            overload: overload.clone(),
            limits: limits(config),
            services: rules_of_services.clone(),
            minter: minter.clone(),
            sealing,
            bus: bus.clone(),
        });
        let gateway = Gateway::new(gateway::Parts {
            settings: settings(config),
            rules: rules(config),
            ops: ops.clone(),
            overload,
            registry: registry.clone(),
            verifier,
            clock,
            metrics: metrics.clone(),
        });
        let pace = ops::Pace::new(config.timing.recheck_ms, config.timing.reconcile_secs * 1000);
        let sweep = (ops.clone(), clock, pace);
        let doors = Arc::<Doors>::default();
        let services = Services { bus: bus.clone(), ops: ops.clone(), metrics: metrics.clone(), doors: doors.clone() };
        let requests = services.listen();
        let queue = queue::Intake::new(config, options, services, store.engine.clone());
        let stop = CancellationToken::new();
        let operators = Operators::new(operators::Parts {
            node: config.node.name.to_string(),
            cells: cells.clone(),
            gateway: gateway.clone(),
            store: store.clone(),
            ops: ops.clone(),
            router: router.clone(),
            metrics: metrics.clone(),
            services: rules_of_services.clone(),
            doors,
            stop: stop.clone(),
        });
        homes.iter().for_each(|homes| operators.know_homes(homes));
        let listening = operators.listen();
        let api = Api::new(gateway.clone(), ops, rules_of_services.clone(), metrics.clone(), api_settings(config));
        let watch_of = |cell| Watch {
            cell,
            cells: cells.clone(),
            registry: registry.clone(),
            router: router.clone(),
            clock,
            spread: spread(config),
        };
        let watches = cells.all().map(watch_of).collect();
        let frame_ancestors = config.http.frame_ancestors.clone();
        let patience = Patience {
            request: Duration::from_secs(config.http.request_timeout_secs),
            life: Duration::from_secs(config.http.connection_secs),
        };
        // Everything a node subscribes to for itself is asked for by now: what is not permitted was said by the time the
        // claim was heard.
        if claim.is_taken(&*bus).await {
            return Err(NodeError::NameTaken(config.node.name.to_string()));
        }
        if let Some(refusal) = cells.refusal() {
            return Err(BusError::Other(refusal).into());
        }
        if let Some(homes) = &mut homes {
            homes.start();
        }
        let shown = Shown { gateway, store, cells, metrics, api, frame_ancestors, by_name: None };
        let (services, operators) = (rules_of_services, (operators, listening));
        Ok(Self {
            shown,
            watches,
            patience,
            requests,
            queue,
            claim,
            homes,
            services,
            minter,
            sweep,
            presence,
            operators,
            stop,
        })
    }

    /// Lets everybody who reaches its page sign in with a name and nothing else: for `natter dev`.
    pub fn sign_in_by_name(&mut self, minter: Minter) {
        self.shown.by_name = Some(Arc::new(minter));
    }

    /// Its connections: for tests that count them.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.shown.gateway
    }

    /// Changes it while it runs.
    pub fn reload(&self) -> Reload {
        let (services, minter) = (self.services.clone(), self.minter.clone());
        Reload { gateway: self.shown.gateway.clone(), services, minter }
    }

    /// The connection to NATS, or to its first cell: for tests that wait for it.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        self.shown.cells.first()
    }

    /// Serves until `shutdown`, is not ready but serves on for `timing.drain_min_secs`, then drains. True when everything
    /// under way ended within the drain time.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> bool {
        let Self { shown, watches, patience, requests, queue, claim, homes, sweep, presence, operators, stop, .. } =
            self;
        let (gateway, cells) = (shown.gateway.clone(), shown.cells.clone());
        let events = sweep.0.router().events().clone();
        // They end with this future, also when that is dropped in the middle: they hold the buses.
        let watching = watches.into_iter().map(|one| AbortOnDropHandle::new(tokio::spawn(watch(one))));
        let watching: Vec<_> = watching.collect();
        let sweeping = AbortOnDropHandle::new(tokio::spawn(async move { sweep.0.sweep_rooms(sweep.1, sweep.2).await }));
        let looking = AbortOnDropHandle::new(tokio::spawn(presence.clone().run()));
        let queue_ends = CancellationToken::new();
        let queueing = queue.map(|queue| AbortOnDropHandle::new(tokio::spawn(queue.run(queue_ends.clone()))));
        let claiming = AbortOnDropHandle::new(tokio::spawn(claim_again(claim, cells.first().clone())));
        let stopping = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = stop.cancelled() => {}
            }
            gateway.announce_end().await;
        };
        serve_until(listener, http::routes(shown), &gateway, patience, stopping).await;
        // No new requests of services; those under way are awaited with the sessions' own.
        drop(requests);
        queue_ends.cancel();
        if let Some(Err(panicked)) = futures_util::future::OptionFuture::from(queueing).await {
            tracing::error!(%panicked, "the durable queue");
        }
        // From here on a successor may take the name.
        drop(claiming);
        let clean = gateway.drain().await;
        presence.finish().await;
        events.finish().await;
        // While NATS carries it: the others need not wait until they find out.
        if let Some(homes) = &homes {
            homes.leave().await;
        }
        operators.0.on_drained(clean);
        drop((watching, sweeping, looking, homes, operators));
        cells.close().await;
        clean
    }
}

fn sealing(config: &Config) -> Result<sealing::Settings, NodeError> {
    let config::Sealing { on, master_key, known_ms, .. } = &config.sealing;
    let masters = master_key.as_ref().map_or(Ok(Vec::new()), config::master_keys).map_err(NodeError::MasterKey)?;
    Ok(sealing::Settings { on: *on, masters: Masters::new(&masters), known_for: Duration::from_millis(*known_ms) })
}

/// Where several nodes share the store, appends go to their homes.
fn at_home(config: &Config, store: Store, bus: &Arc<dyn Bus>, metrics: &Arc<Metrics>) -> (Store, Option<Homes>) {
    let Some(slots) = store.slots.clone() else { return (store, None) };
    let (node, logs) = (config.node.name.as_str().into(), store.logs.clone());
    let homes = Homes::new(homes::Parts { node, bus: bus.clone(), logs, slots, metrics: metrics.clone() });
    (Store { logs: homes.logs(), ..store }, Some(homes))
}

/// Claims the name at every new connection: while there was none, another node may have started under it.
async fn claim_again(claim: Claim, bus: Arc<dyn Bus>) {
    let mut events = bus.events();
    loop {
        match events.recv().await {
            Ok(BusEvent::Connected(_)) => claim.ask(&*bus),
            Err(RecvError::Closed) => return,
            _ => {}
        }
    }
}

async fn serve_until(
    listener: TcpListener,
    routes: Routes,
    gateway: &Gateway,
    patience: Patience,
    stopping: impl Future<Output = ()>,
) {
    let draining = CancellationToken::new();
    let mark = async {
        stopping.await;
        gateway.stop_accepting();
        draining.cancel();
    };
    tokio::join!(mark, serve(listener, routes, gateway, patience, draining.clone()));
}

pub(crate) fn settings(config: &Config) -> gateway::Settings {
    let (limits, timing) = (&config.limits, &config.timing);
    gateway::Settings {
        node: config.node.name.to_string(),
        hello_timeout: Duration::from_millis(timing.hello_timeout_ms),
        login_wait: Duration::from_millis(timing.login_wait_ms),
        frame_bytes: limits.max_frame_bytes(),
        out_bytes: limits.out_buffer_bytes,
        sessions: limits.sessions_per_node as usize,
        connections: config.http.connections as usize,
        connections_per_address: config.http.connections_per_address as usize,
        trusted_proxies: config.http.trusted_proxies.clone(),
        origins: config.http.allowed_origins.clone(),
        notice: Duration::from_secs(timing.drain_min_secs),
        drain: Duration::from_secs(timing.drain_secs),
    }
}

fn api_settings(config: &Config) -> api::Settings {
    api::Settings {
        body_bytes: config.limits.max_frame_bytes(),
        within: Duration::from_secs(config.http.request_timeout_secs),
        connections: config.http.connections as usize,
        cors_origins: config.http.cors_origins.clone(),
    }
}

/// Comparisons after a reconnect are spread over this long.
pub(crate) fn spread(config: &Config) -> Duration {
    Duration::from_secs(config.timing.reconcile_spread_secs)
}

pub(crate) fn capacity(config: &Config) -> Capacity {
    let limits = &config.limits;
    Capacity { sessions: limits.sessions_per_node as usize, per_user: limits.sessions_per_user as usize }
}

/// What was read of blocks is believed for so long.
pub(crate) fn blocks_known(config: &Config) -> Duration {
    Duration::from_millis(config.timing.blocks_known_ms)
}

pub(crate) fn presence_settings(config: &Config) -> presence::Settings {
    let of = &config.presence;
    presence::Settings {
        quiet: of.quiet_ms,
        probe: of.probe_ms,
        probes_per_sec: of.probes_per_sec,
        last_seen: of.last_seen_secs * 1000,
        per_session: of.watches_per_session as usize,
        users: of.watches_per_node as usize,
    }
}

pub(crate) fn limits(config: &Config) -> ops::Limits {
    ops::Limits {
        body_bytes: config.limits.body_bytes,
        signal_bytes: config.limits.signal_bytes.min(config.limits.body_bytes),
        waiting_bytes: config.limits.waiting_bytes,
        devices_per_user: config.limits.devices_per_user as usize,
        rooms_per_user: config.limits.rooms_per_user as usize,
        blocks_per_user: config.limits.blocks_per_user as usize,
        presence_of_everybody: config.presence.everybody,
        pushes: ops::PushSettings {
            members: config.limits.push_members as usize,
            every: Duration::from_millis(config.timing.push_coalesce_ms),
        },
        offline: ops::OfflineSettings {
            every: Duration::from_millis(config.timing.push_coalesce_ms),
            unread: config.events.unread,
        },
        hook: hook(config),
        seen_again: Duration::from_secs(config.timing.full_reconcile_secs / 2),
        services_under_way: SERVICES_UNDER_WAY,
    }
}

/// Who is asked before a message is stored, if anybody is.
pub(crate) fn hook(config: &Config) -> Option<ops::HookSettings> {
    Some(ops::HookSettings {
        service: config.hook.service.clone()?,
        timeout: Duration::from_millis(config.hook.timeout_ms),
        unanswered: config.hook.unanswered,
        at_once: config.hook.at_once as usize,
        body_bytes: config.limits.body_bytes,
    })
}

/// What may run and wait for the store.
pub(crate) fn work_limits(config: &Config) -> overload::Limits {
    let (limits, timing) = (&config.limits, &config.timing);
    let sessions = limits.sessions_per_node as usize;
    overload::Limits {
        in_flight: limits.rows_in_flight.into(),
        lines: [
            LineLimits { at_once: usize::MAX, waiting: APPENDS_WAITING },
            LineLimits { at_once: FILLS_AT_ONCE, waiting: FILLS_WAITING },
            LineLimits { at_once: limits.logins_at_once as usize, waiting: limits.logins_waiting as usize },
            // One comparison of each session, and as many lists.
            LineLimits { at_once: LISTINGS_AT_ONCE, waiting: sessions.saturating_mul(2) },
        ],
        rows_per_sec: timing.reconcile_rows_per_sec,
        recovery_per_sec: limits.recovery_per_sec,
    }
}

/// The rules of sessions under this configuration: it has the defaults, also for tests of the session.
pub fn rules(config: &Config) -> Rules {
    let (limits, timing) = (&config.limits, &config.timing);
    let (per_sec, burst) = (limits.sends_per_sec, limits.send_burst);
    Rules {
        window: limits.window.into(),
        body_bytes: limits.body_bytes,
        requests: (per_sec > 0 && burst > 0).then_some(Rate { per_sec, burst }),
        pending: limits.appends_in_flight_per_session as usize,
        page_rows: session::PAGE_ROWS,
        behind: session::BEHIND,
        backlog: limits.backlog_per_conversation.into(),
        known: session::KNOWN,
        warm: session::WARM,
        rest_after: session::REST_AFTER,
        ack_coalesce: timing.ack_coalesce_ms,
        room_ack_coalesce: session::ROOM_ACK_COALESCE,
        recheck: timing.recheck_ms,
        reconcile: timing.reconcile_secs * 1000,
        full_reconcile: timing.full_reconcile_secs * 1000,
        offline_after: timing.offline_after_secs * 1000,
        hole_after: timing.hole_after_secs * 1000,
        ping: timing.ping_secs * 1000,
        idle: timing.idle_secs * 1000,
        stall: timing.stall_secs * 1000,
    }
}
