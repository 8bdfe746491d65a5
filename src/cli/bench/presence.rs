//! The scenario `presence`: users who come and go, some of whom are watched: what the nodes publish and ask for it.
//!
//! One user of the bench watches the others, on the first node; of the others those who are watched and those who are not
//! connect, stay until they were quiet, and go, all at once. What nodes count is read from their metrics.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    counters::{self, Counts, grown},
    drive::GREETINGS,
    link::{self, stay},
    plan::{Mesh, Setup},
    plot::{Figure, Outline, Shown},
    report::{Report, add_row, new_table},
};
use crate::{
    client::{Connection, Incoming},
    model::now_millis,
    protocol::{ServerFrame, client::Outgoing},
};

/// Arguments of `natter bench presence`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users who come, stay and go
    #[arg(long, value_name = "N", default_value = "1000")]
    users: NonZeroU32,
    /// How many of them are watched
    #[arg(long, value_name = "N", default_value_t = 100)]
    watched: u32,
    /// Seconds for which they stay
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    duration: u64,
}

const EXAMPLES: &str = "\
Examples:
  NATTER_PRESENCE__EVERYBODY=true natter dev             and beside it:
  natter bench presence --users 10000 --watched 100      what is published and asked for; no messages are sent";

const READ_BUFFER: usize = 256;
/// Users whom one watcher watches: each is a session of its own.
const PER_WATCHER: usize = 100;
/// From a change to the moment at which all that will be told is told: the time that a user has to be quiet, and some more.
const SETTLE: Duration = Duration::from_secs(8);
const COUNTED: [&str; 4] = [
    "natter_presence_published_total",
    "natter_presence_unpublished_total",
    "natter_presence_probes_total",
    "natter_presence_told_total",
];

/// One part of the run.
#[derive(Debug, Serialize)]
struct Phase {
    what: &'static str,
    secs: f64,
    published: f64,
    unpublished: f64,
    probes: f64,
    told: f64,
}

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct PresenceReport {
    users: usize,
    watched: usize,
    phases: Vec<Phase>,
    #[serde(skip)]
    began: u64,
}

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<PresenceReport> {
    let users = args.users.get() as usize;
    let watched = users.min(args.watched as usize);
    let (mesh, began) = (setup.mesh(users + watched.div_ceil(PER_WATCHER))?, now_millis());
    let watchers = watch(&mesh, watched).await?;
    let mut phases = Vec::new();
    let mut before = (Instant::now(), counters::read(&mesh, &COUNTED).await?);
    let mut phase = async |what| -> anyhow::Result<()> {
        let now = (Instant::now(), counters::read(&mesh, &COUNTED).await?);
        phases.push(Phase::new(what, &before, &now));
        before = now;
        Ok(())
    };
    let mut peers = JoinSet::new();
    let mut opening = stream::iter(0..users).map(|number| open(&mesh, number)).buffer_unordered(GREETINGS);
    while let Some(peer) = opening.next().await {
        peers.spawn_local(stay(peer?));
        mesh.progress.step("connecting", peers.len(), users);
    }
    sleep(SETTLE).await;
    phase("all come").await?;
    mesh.progress.step("staying", users, users);
    sleep(Duration::from_secs(args.duration)).await;
    phase("all stay").await?;
    // Their sockets close with their tasks.
    drop(peers);
    mesh.progress.step("gone", users, users);
    sleep(SETTLE).await;
    phase("all go").await?;
    drop(watchers);
    mesh.progress.done();
    Ok(PresenceReport { users, watched, phases, began })
}

async fn open(mesh: &Mesh, number: usize) -> anyhow::Result<Connection> {
    Ok(link::open(mesh, mesh.url(number), &mesh.user("seen", number), 1, READ_BUFFER).await?)
}

async fn watch(mesh: &Mesh, watched: usize) -> anyhow::Result<JoinSet<()>> {
    let mut watchers = JoinSet::new();
    let names: Vec<String> = (0..watched).map(|number| mesh.user("seen", number)).collect();
    for (number, some) in names.chunks(PER_WATCHER).enumerate() {
        let mut watcher = link::open(mesh, &mesh.urls[0], &mesh.user("watcher", number), 1, READ_BUFFER).await?;
        let users: Vec<&str> = some.iter().map(String::as_str).collect();
        watcher.send(&Outgoing::Presence { reference: Some(1), users: &users, watch: Some(true) }).await?;
        let answer = async {
            loop {
                match watcher.next().await {
                    Incoming::Frame(payload) => match ServerFrame::decode(mesh.encoding, &payload) {
                        Ok(ServerFrame::Presences(found)) => return Ok(found.refused.len()),
                        Ok(ServerFrame::Error { message, .. }) => bail!("{message}"),
                        _ => {}
                    },
                    Incoming::Closed { reason, .. } => bail!("{reason}"),
                }
            }
        };
        let refused = timeout(Duration::from_secs(20), answer).await.context("no answer to a watch")??;
        if refused > 0 {
            bail!("the bench's users have no conversations: set presence.everybody for this run");
        }
        watchers.spawn_local(stay(watcher));
    }
    Ok(watchers)
}

impl Phase {
    fn new(what: &'static str, before: &(Instant, Counts), after: &(Instant, Counts)) -> Self {
        let [published, unpublished, probes, told] = COUNTED.map(|name| grown(name, &before.1, &after.1));
        Self { what, secs: (after.0 - before.0).as_secs_f64(), published, unpublished, probes, told }
    }
}

impl Report for PresenceReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let mut table =
            new_table(&["phase", "s", "published", "not published", "probes", "told", "published/s", "probes/s"]);
        for Phase { what, secs, published, unpublished, probes, told } in &self.phases {
            let whole = [published, unpublished, probes, told].map(|count| format!("{count:.0}"));
            let rates = [published, probes].map(|count| format!("{:.1}", count / secs));
            let cells = [(*what).to_owned(), format!("{secs:.1}")];
            add_row(&mut table, cells.into_iter().chain(whole).chain(rates));
        }
        format!("{} users, of whom {} are watched\n{table}", self.users, self.watched)
    }

    fn outline(&self) -> Outline {
        let told: f64 = self.phases.iter().map(|phase| phase.told).sum();
        let of = |phase: &Phase| {
            let name = |counted: &str| format!("{}, {counted}", phase.what);
            [
                Figure::less(name("published"), phase.published, "").main(),
                Figure::less(name("probes"), phase.probes, ""),
            ]
        };
        // Each watched user was told of twice; the answer to the watch was the first.
        let good = told >= (2 * self.watched) as f64;
        let verdict = format!("watchers were told {told:.0} times, at least {} are due", 2 * self.watched);
        let headline = format!("{} users come, stay and go, of whom {} are watched", self.users, self.watched);
        let shown = Shown { began: self.began, headline, plots: Vec::new() };
        shown.outline("presence", (good, verdict), self.phases.iter().flat_map(of).collect())
    }
}
