//! The scenario `idle`: idle connections, and what each of them costs.

use std::{cell::Cell, future::poll_fn, num::NonZeroU32, rc::Rc, task::Poll, time::Duration};

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    drive::GREETINGS,
    link::acknowledge,
    plan::{Mesh, Setup},
    plot::{Figure, Outline, Shown},
    processes::Sample,
    report::{Report, add_row, megabytes, new_table},
    series::UseOverTime,
    used::{Use, caught_up},
};
use crate::{
    client::{Connection, Incoming},
    model::now_millis,
    protocol::ServerFrame,
};

/// Arguments of `natter bench idle`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users, each with a connection that is open and idle while its memory is looked at
    #[arg(long, value_name = "N", default_value = "1000")]
    users: NonZeroU32,
    /// Each is in so many rooms, which a hundred of them share
    #[arg(long, value_name = "N", default_value_t = 0)]
    rooms: u32,
    /// Each gets and acknowledges so many messages first
    #[arg(long, value_name = "N", default_value_t = 0)]
    after_messages: u32,
    /// Seconds from then on until their memory is looked at [default: until what was used is given back]
    #[arg(long, value_name = "SECS")]
    settle: Option<u64>,
    /// What the names of the users begin with, to have those of an earlier run again [default: one of its own]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  natter bench idle --users 10000 --pid-of-children $(pidof -s natter) --json
  natter bench idle --rooms 50 --after-messages 10 --pid-of-children $(pidof -s natter)";

/// Per connection, until all are open: far more than it takes.
const OPEN_TIME: Duration = Duration::from_millis(20);
/// The same for each message, and each room.
const USE_TIME: Duration = Duration::from_millis(5);
/// After the last connection: in this time sessions are compared with the store once more and buffers are given back.
const SETTLE: Duration = Duration::from_secs(3);
/// The same after there was something to do: until what is at rest is given back.
const REST: Duration = Duration::from_secs(25);

/// The states of the connections.
#[derive(Default)]
struct Count {
    ready: Cell<usize>,
    failed: Cell<usize>,
    first_error: Cell<Option<anyhow::Error>>,
}

/// Memory of one process.
#[derive(Debug, Serialize)]
struct Memory {
    pid: u32,
    name: String,
    before_mb: f64,
    after_mb: f64,
    bytes_per_connection: i64,
}

/// What all connections share.
struct All {
    mesh: Mesh,
    count: usize,
    used: Use,
    states: Count,
    /// So many are opened, or used, at the same time.
    gate: Semaphore,
    done: Cell<bool>,
}

/// The report of an idle run.
#[derive(Debug, Serialize)]
pub(super) struct IdleReport {
    urls: Vec<String>,
    connections: usize,
    /// Of each user.
    rooms: usize,
    /// That each user got before it was idle.
    messages: usize,
    failed: usize,
    open_secs: f64,
    processes: Vec<Memory>,
    /// All processes together.
    bytes_per_connection: i64,
    #[serde(skip)]
    shown: Shown,
}

/// How often the processes are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Opens the connections, has each be used, and keeps them open while it measures.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<IdleReport> {
    let (rooms, messages) = (args.rooms as usize, args.after_messages as usize);
    let used = Use { rooms, messages, settle: args.settle.map(Duration::from_secs) };
    let count = args.users.get() as usize;
    let mut mesh = setup.mesh(count)?;
    mesh.prefix = args.prefix.unwrap_or(mesh.prefix);
    used.prepare(&mesh, count).await?;
    let (before, started, began) = (mesh.processes.sample(), Instant::now(), now_millis());
    let all = Rc::new(All {
        mesh,
        count,
        used,
        states: Count::default(),
        gate: Semaphore::new(GREETINGS),
        done: Cell::new(false),
    });
    let looking = tokio::task::spawn_local(look(all.clone(), started));
    for number in 0..count {
        tokio::task::spawn_local(stay(all.clone(), number));
    }
    let each = OPEN_TIME + USE_TIME * u32::try_from(used.messages + used.rooms).unwrap_or(u32::MAX);
    let deadline = started + Duration::from_secs(30) + each * u32::try_from(count).unwrap_or(u32::MAX);
    let All { mesh, states: counts, .. } = &*all;
    while counts.ready.get() + counts.failed.get() < count {
        if Instant::now() > deadline {
            bail!("only {} of {count} connections were ready in time", counts.ready.get());
        }
        mesh.progress.step("connecting", counts.ready.get(), count);
        sleep(Duration::from_millis(20)).await;
    }
    let open_secs = started.elapsed().as_secs_f64();
    let settle = used.settle.unwrap_or(if used.is_some() { REST } else { SETTLE });
    mesh.progress.step(&format!("idle for {settle:?}"), count, count);
    sleep(settle).await;
    if let (0, Some(error)) = (counts.ready.get(), counts.first_error.take()) {
        return Err(error.context("no connection could be opened"));
    }
    let after = mesh.processes.sample();
    all.done.set(true);
    let plots = looking.await?.plots();
    mesh.progress.done();
    let report = IdleReport::new(&all, open_secs, &before, &after);
    let shown = Shown { began, headline: report.headline(), plots };
    Ok(IdleReport { shown, ..report })
}

/// Looks at the processes until it is over.
async fn look(all: Rc<All>, started: Instant) -> UseOverTime {
    let mut used = UseOverTime::default();
    while !all.done.get() {
        used.look(started.elapsed().as_secs_f64(), &all.mesh.processes);
        sleep(LOOK).await;
    }
    used
}

/// One connection: opens, is used, then acknowledges and answers pings until the end.
async fn stay(all: Rc<All>, number: usize) {
    // In a box: what it needs is gone when it is done.
    let mut connection = match Box::pin(ready(&all, number)).await {
        Ok(connection) => connection,
        Err(error) => return fail(&all.states, error),
    };
    all.states.ready.set(all.states.ready.get() + 1);
    // Not `next_frame`: everything held across this await is held once per connection.
    poll_fn(|cx| {
        while let Poll::Ready(incoming) = connection.poll_next(cx) {
            match incoming {
                Incoming::Frame(payload) if on_frame(&mut connection, &payload).is_ok() => {}
                Incoming::Frame(_) | Incoming::Closed { .. } => return Poll::Ready(()),
            }
        }
        match connection.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    all.states.ready.set(all.states.ready.get() - 1);
    fail(&all.states, anyhow::anyhow!("a node closed a connection"));
}

/// A connection that is caught up and was used.
async fn ready(all: &All, number: usize) -> anyhow::Result<Connection> {
    let turn = all.gate.acquire().await;
    let mut connection = caught_up(&all.mesh, number).await?;
    all.used.have(&all.mesh, &mut connection, (number, all.count)).await?;
    drop(turn);
    Ok(connection)
}

fn on_frame(connection: &mut Connection, payload: &[u8]) -> anyhow::Result<()> {
    match ServerFrame::decode(connection.encoding(), payload) {
        Ok(frame) => acknowledge(connection, &frame),
        Err(error) => anyhow::bail!("{error}"),
    }
}

fn fail(counts: &Count, error: anyhow::Error) {
    counts.failed.set(counts.failed.get() + 1);
    let first = counts.first_error.take();
    counts.first_error.set(Some(first.unwrap_or(error)));
}

fn per_connection(before: u64, after: u64, connections: usize) -> i64 {
    let grown = i128::from(after) - i128::from(before);
    i64::try_from(grown / connections.max(1) as i128).unwrap_or(i64::MAX)
}

impl IdleReport {
    fn new(all: &All, open_secs: f64, before: &[Sample], after: &[Sample]) -> Self {
        let (urls, Use { rooms, messages, .. }) = (all.mesh.urls.clone(), all.used);
        let (connections, failed) = (all.states.ready.get(), all.states.failed.get());
        let pairs: Vec<(&Sample, &Sample)> = before
            .iter()
            .filter_map(|before| Some((before, after.iter().find(|after| after.pid == before.pid)?)))
            .collect();
        let total = |which: fn(&(&Sample, &Sample)) -> u64| pairs.iter().map(which).sum::<u64>();
        let bytes_per_connection =
            per_connection(total(|pair| pair.0.rss_bytes), total(|pair| pair.1.rss_bytes), connections);
        let processes = pairs.iter().map(|(before, after)| Memory {
            pid: after.pid,
            name: after.name.clone(),
            before_mb: megabytes(before.rss_bytes),
            after_mb: megabytes(after.rss_bytes),
            bytes_per_connection: per_connection(before.rss_bytes, after.rss_bytes, connections),
        });
        let processes = processes.collect();
        let shown = Shown::default();
        Self { urls, connections, rooms, messages, failed, open_secs, processes, bytes_per_connection, shown }
    }

    fn headline(&self) -> String {
        let Self { connections, rooms, messages, .. } = self;
        let used = match (rooms, messages) {
            (0, 0) => String::new(),
            (rooms, messages) => format!(", in {rooms} rooms each and after {messages} messages"),
        };
        format!("{connections} idle connections{used}")
    }
}

impl Report for IdleReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let mut table = new_table(&["process", "pid", "before MB", "after MB", "bytes per connection"]);
        for Memory { pid, name, before_mb, after_mb, bytes_per_connection } in &self.processes {
            let figures = [format!("{before_mb:.1}"), format!("{after_mb:.1}"), bytes_per_connection.to_string()];
            add_row(&mut table, [name.clone(), pid.to_string()].into_iter().chain(figures));
        }
        let in_all = self.bytes_per_connection.to_string();
        add_row(&mut table, ["total".to_owned(), String::new(), String::new(), String::new(), in_all]);
        format!("{}, open in {:.1} s, {} failed\n{table}", self.headline(), self.open_secs, self.failed)
    }

    fn outline(&self) -> Outline {
        let mut figures = vec![
            Figure::plain("connections", self.connections as f64, "").main(),
            Figure::more("opened", self.connections as f64 / self.open_secs.max(1e-3), "/s"),
        ];
        if !self.processes.is_empty() {
            figures.push(Figure::less("memory per connection", self.bytes_per_connection as f64, "bytes").main());
        }
        for Memory { pid, name, bytes_per_connection, .. } in &self.processes {
            let name = format!("memory per connection, {name} {pid}");
            figures.push(Figure::less(name, *bytes_per_connection as f64, "bytes"));
        }
        let good = self.failed == 0 && self.connections > 0;
        self.shown.outline("idle", (good, format!("{} connections failed", self.failed)), figures)
    }
}
