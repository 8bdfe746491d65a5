//! The steps of a run with messages: connect, warm up, measure, drain. Called by the scenarios that have lanes.
//!
//! Every step is bounded in time, whatever the mesh does.

use std::{rc::Rc, time::Duration};

use anyhow::bail;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    load_report::LoadReport,
    pace::Pace,
    plan::{Load, Plan},
    processes::Usage,
    run_state::{Phase, RunState},
};

/// How many greetings are under way at once, where it does not matter how long they take.
pub(super) const GREETINGS: usize = 64;
/// The limit from the first connection to the last `caught_up`.
const CONNECT_TIME: Duration = Duration::from_secs(60);
/// A node compares the heads once more a second after a session's start; that must not be measured.
const SETTLE: Duration = Duration::from_millis(1200);
const ROUND: Duration = Duration::from_millis(100);
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// A gate through which a few lanes at a time connect.
pub(super) fn gate() -> Rc<Semaphore> {
    Rc::new(Semaphore::new(GREETINGS))
}

/// Runs a load from its lanes' first connections to the report.
pub(super) async fn run(
    plan: Plan,
    scenario: &'static str,
    start: impl FnOnce(&Rc<RunState>) -> JoinSet<()>,
) -> anyhow::Result<LoadReport> {
    let shared = Rc::new(RunState::new(plan)?);
    let lanes = start(&shared);
    connect(&shared, shared.plan.lanes()).await?;
    let from = send(&shared, shared.plan.warmup);
    shared.doing.set("warming up");
    rounds_until(&shared, from, shared.window.get().0).await;
    shared.doing.set("measuring");
    let before = Usage::now(&shared.plan.mesh.processes);
    rounds_until(&shared, from, shared.window.get().1).await;
    let used = Usage::now(&shared.plan.mesh.processes).since(&before);
    drain(&shared, from).await;
    end(&shared, lanes).await;
    Ok(LoadReport::new(&shared, scenario, &used))
}

/// Waits until so many lanes are ready.
pub(super) async fn connect(shared: &RunState, lanes: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + CONNECT_TIME;
    while shared.ready.get() < lanes {
        if let Some(error) = shared.fatal.borrow_mut().take() {
            return Err(error.context("a connection of the bench"));
        }
        if Instant::now() > deadline {
            bail!("only {} of {lanes} connections were ready in {CONNECT_TIME:?}", shared.ready.get());
        }
        shared.plan.mesh.progress.step("connecting", shared.ready.get(), lanes);
        sleep(Duration::from_millis(20)).await;
    }
    sleep(SETTLE).await;
    Ok(())
}

/// Has the senders send from now on, and what is due after `warmup` be measured. Returns the moment.
pub(super) fn send(shared: &Rc<RunState>, warmup: Duration) -> u64 {
    let now = shared.now();
    let from = now.saturating_add(nanos(warmup));
    shared.window.set((from, from.saturating_add(nanos(shared.plan.duration))));
    shared.phase.set(Phase::Sending);
    if let Load::Rate(rate) = shared.plan.load {
        let (pace, sharing) = (Pace::start(shared, rate), shared.clone());
        let sending = move || sharing.phase.get() == Phase::Sending;
        tokio::task::spawn_local(pace.run(shared.clone(), sending));
    }
    shared.next_round(now);
    now
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets the run go on until `end`; it began sending at `from`.
pub(super) async fn rounds_until(shared: &RunState, from: u64, end: u64) {
    rounds_while(shared, from, end, || true).await;
}

/// The same while there is something to wait for; whether that ended before the time did.
pub(super) async fn rounds_while(shared: &RunState, from: u64, end: u64, waits: impl Fn() -> bool) -> bool {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while waits() {
        if shared.now() >= end {
            return false;
        }
        let left = Duration::from_nanos(end - shared.now());
        tokio::select! {
            _ = rounds.tick() => {
                shared.next_round(from);
                show(shared, from, end);
            }
            () = sleep(left) => {}
        }
    }
    true
}

fn show(shared: &RunState, from: u64, end: u64) {
    let (passed, all) = (shared.now().saturating_sub(from), end.saturating_sub(from));
    shared.plan.mesh.progress.time(Duration::from_nanos(passed), Duration::from_nanos(all), || {
        let stats = shared.stats.borrow();
        let (doing, ready) = (shared.doing.get(), shared.ready.get());
        format!("{doing}: {ready} connected, {} sent, {} delivered", stats.all_sent, stats.all_delivered)
    });
}

/// Sends no more, and waits for what is on its way.
pub(super) async fn drain(shared: &RunState, from: u64) {
    drain_until(shared, from, || shared.drained()).await;
}

/// The same with another sign that nothing is.
pub(super) async fn drain_until(shared: &RunState, from: u64, over: impl Fn() -> bool) {
    shared.phase.set(Phase::Draining);
    shared.doing.set("waiting for the rest");
    let end = shared.now().saturating_add(nanos(shared.plan.drain));
    rounds_while(shared, from, end, || !over()).await;
}

/// Closes all connections.
pub(super) async fn end(shared: &RunState, mut lanes: JoinSet<()>) {
    shared.phase.set(Phase::Done);
    shared.wake_all();
    let _ = tokio::time::timeout(CLOSE_TIME, async { while lanes.join_next().await.is_some() {} }).await;
    shared.plan.mesh.progress.done();
}
