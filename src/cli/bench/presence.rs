//! Users who come and go, some of whom are watched: what the nodes publish and ask for it, and how soon it is told. Called by
//! the command.
//!
//! One user of the bench watches the others, on the first node; of the others those who are watched and those who are not
//! connect, stay until they were quiet, and go, all at once. What nodes count is read from their metrics.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    drive::GREETINGS,
    link,
    plan::Plan,
    report::{Report, add_row, new_table},
};
use crate::{
    client::{Connection, Incoming},
    protocol::{ServerFrame, client::Outgoing},
};

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

/// What the nodes counted.
type Counts = BTreeMap<&'static str, f64>;

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
}

/// Has `users` come, stay and go, of whom `watched` are watched.
pub(super) async fn run(plan: Plan, users: usize, watched: usize) -> anyhow::Result<PresenceReport> {
    let watchers = watch(&plan, watched.min(users)).await?;
    let mut phases = Vec::new();
    let mut before = (Instant::now(), counts(&plan).await?);
    let mut phase = async |what| -> anyhow::Result<()> {
        let now = (Instant::now(), counts(&plan).await?);
        phases.push(Phase::new(what, &before, &now));
        before = now;
        Ok(())
    };
    let mut peers = JoinSet::new();
    let mut opening = stream::iter(0..users).map(|number| open(&plan, number)).buffer_unordered(GREETINGS);
    while let Some(peer) = opening.next().await {
        peers.spawn_local(stay(peer?));
    }
    sleep(SETTLE).await;
    phase("all come").await?;
    sleep(plan.duration).await;
    phase("all stay").await?;
    // Their sockets close with their tasks.
    drop(peers);
    sleep(SETTLE).await;
    phase("all go").await?;
    drop(watchers);
    Ok(PresenceReport { users, watched: watched.min(users), phases })
}

async fn open(plan: &Plan, number: usize) -> anyhow::Result<Connection> {
    let url = &plan.urls[number % plan.urls.len()];
    Ok(link::open(plan, url, &plan.user("seen", number), 1, READ_BUFFER).await?)
}

/// Answers pings until the end.
async fn stay(mut connection: Connection) {
    while let Incoming::Frame(_) = connection.next().await {}
}

async fn watch(plan: &Plan, watched: usize) -> anyhow::Result<JoinSet<()>> {
    let mut watchers = JoinSet::new();
    let names: Vec<String> = (0..watched).map(|number| plan.user("seen", number)).collect();
    for (number, some) in names.chunks(PER_WATCHER).enumerate() {
        let mut watcher = link::open(plan, &plan.urls[0], &plan.user("watcher", number), 1, READ_BUFFER).await?;
        let users: Vec<&str> = some.iter().map(String::as_str).collect();
        watcher.send(&Outgoing::Presence { reference: Some(1), users: &users, watch: Some(true) }).await?;
        let answer = async {
            loop {
                match watcher.next().await {
                    Incoming::Frame(payload) => match ServerFrame::decode(plan.encoding, &payload) {
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

/// The sum over all nodes.
async fn counts(plan: &Plan) -> anyhow::Result<Counts> {
    let mut all = Counts::new();
    for url in &plan.urls {
        let page = metrics(url).await.with_context(|| format!("the metrics of {url}"))?;
        for name in COUNTED {
            let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            *all.entry(name).or_default() += value.unwrap_or(0.0);
        }
    }
    Ok(all)
}

/// `GET /metrics` of the node behind a WebSocket's address: nodes speak plain HTTP.
async fn metrics(url: &str) -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
    let host = host.context("only nodes at ws://… show their metrics")?;
    let asked = async {
        let mut socket = tokio::net::TcpStream::connect(host).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        socket.read_to_string(&mut page).await?;
        anyhow::Ok(page)
    };
    timeout(Duration::from_secs(5), asked).await.context("no answer")?
}

impl Phase {
    fn new(what: &'static str, before: &(Instant, Counts), after: &(Instant, Counts)) -> Self {
        let grown = |name: &str| after.1.get(name).unwrap_or(&0.0) - before.1.get(name).unwrap_or(&0.0);
        let [published, unpublished, probes, told] = COUNTED.map(grown);
        Self { what, secs: (after.0 - before.0).as_secs_f64(), published, unpublished, probes, told }
    }
}

impl Report for PresenceReport {
    fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
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

    /// Each watched user was told of twice; the answer to the watch was the first.
    fn good(&self) -> bool {
        let told: f64 = self.phases.iter().map(|phase| phase.told).sum();
        told >= (2 * self.watched) as f64
    }
}
