//! Idle connections, and what each of them costs. Called by the command.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use anyhow::bail;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{
    drive::GREETINGS,
    limits, link,
    plan::Plan,
    processes::Sample,
    report::{Report, add_row, megabytes, new_table},
};
use crate::{
    client::{Connection, Incoming},
    protocol::ServerFrame,
};

/// Small, so that this side of the connections does not fill the machine.
const READ_BUFFER: usize = 256;
/// Per connection, until all are open: far more than it takes.
const OPEN_TIME: Duration = Duration::from_millis(20);
/// After the last connection: in this time sessions are compared with the store once more and buffers are given back.
const SETTLE: Duration = Duration::from_secs(3);

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

/// The report of an idle run.
#[derive(Debug, Serialize)]
pub(super) struct IdleReport {
    urls: Vec<String>,
    connections: usize,
    failed: usize,
    open_secs: f64,
    processes: Vec<Memory>,
    /// All processes together.
    bytes_per_connection: i64,
}

/// Opens `count` connections and keeps them open while it measures.
pub(super) async fn run(plan: Plan, count: usize) -> anyhow::Result<IdleReport> {
    if let [pid] = plan.processes.pids() {
        limits::check_server(*pid, count)?;
    }
    let (plan, counts, gate) = (Rc::new(plan), Rc::new(Count::default()), Rc::new(Semaphore::new(GREETINGS)));
    let (before, started) = (plan.processes.sample(), Instant::now());
    for number in 0..count {
        tokio::task::spawn_local(stay(plan.clone(), number, counts.clone(), gate.clone()));
    }
    let deadline = started + Duration::from_secs(30) + OPEN_TIME * u32::try_from(count).unwrap_or(u32::MAX);
    while counts.ready.get() + counts.failed.get() < count {
        if Instant::now() > deadline {
            bail!("only {} of {count} connections were ready in time", counts.ready.get());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let open_secs = started.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let connections = counts.ready.get();
    if let (0, Some(error)) = (connections, counts.first_error.take()) {
        return Err(error.context("no connection could be opened"));
    }
    let after = plan.processes.sample();
    Ok(IdleReport::new(&plan, connections, counts.failed.get(), open_secs, &before, &after))
}

/// One connection: opens, then answers pings until the end.
async fn stay(plan: Rc<Plan>, number: usize, counts: Rc<Count>, gate: Rc<Semaphore>) {
    let url = &plan.urls[number % plan.urls.len()];
    let turn = gate.acquire().await;
    let mut connection = match link::open(&plan, url, &plan.user("idle", number), 1, READ_BUFFER).await {
        Ok(connection) => connection,
        Err(error) => return fail(&counts, error.into()),
    };
    drop(turn);
    let mut caught_up = false;
    // Not `next_frame`: everything held across this await is held once per connection.
    poll_fn(|cx| {
        while let Poll::Ready(incoming) = connection.poll_next(cx) {
            match incoming {
                Incoming::Frame(payload) => caught_up |= on_frame(&connection, &payload, caught_up, &counts),
                Incoming::Closed { .. } => return Poll::Ready(()),
            }
        }
        match connection.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    if caught_up {
        counts.ready.set(counts.ready.get() - 1);
    }
    fail(&counts, anyhow::anyhow!("a node closed a connection"));
}

fn on_frame(connection: &Connection, payload: &[u8], before: bool, counts: &Count) -> bool {
    let caught_up = matches!(ServerFrame::decode(connection.encoding(), payload), Ok(ServerFrame::CaughtUp { .. }));
    if caught_up && !before {
        counts.ready.set(counts.ready.get() + 1);
    }
    caught_up
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
    fn new(
        plan: &Plan,
        connections: usize,
        failed: usize,
        open_secs: f64,
        before: &[Sample],
        after: &[Sample],
    ) -> Self {
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
        Self { urls: plan.urls.clone(), connections, failed, open_secs, processes, bytes_per_connection }
    }
}

impl Report for IdleReport {
    fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    fn table(&self) -> String {
        let mut table = new_table(&["process", "pid", "before MB", "after MB", "bytes per connection"]);
        for Memory { pid, name, before_mb, after_mb, bytes_per_connection } in &self.processes {
            let figures = [format!("{before_mb:.1}"), format!("{after_mb:.1}"), bytes_per_connection.to_string()];
            add_row(&mut table, [name.clone(), pid.to_string()].into_iter().chain(figures));
        }
        let in_all = self.bytes_per_connection.to_string();
        add_row(&mut table, ["total".to_owned(), String::new(), String::new(), String::new(), in_all]);
        let Self { connections, failed, open_secs, .. } = self;
        format!("{connections} idle connections open in {open_secs:.1} s, {failed} failed\n{table}")
    }

    fn good(&self) -> bool {
        self.failed == 0 && self.connections > 0
    }
}
