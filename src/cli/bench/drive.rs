//! A run from the first connection to the report: connect, warm up, measure, drain. Called by the command.
//!
//! Every step is bounded in time, whatever the mesh does.

use std::{io::IsTerminal as _, rc::Rc, time::Duration};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    lane::{Lane, Side},
    pace::Pace,
    plan::{Load, Plan},
    processes::{self, Sample},
    receiver::Receiver,
    report::{LoadReport, Usage},
    room,
    run_state::{Phase, RunState},
    sender::Sender,
    track::Seqs,
};

/// How many greetings are under way at once.
pub(super) const GREETINGS: usize = 64;
/// The limit from the first connection to the last `caught_up`.
const CONNECT_TIME: Duration = Duration::from_secs(60);
/// A node compares the heads once more a second after a session's start; that must not be measured.
const SETTLE: Duration = Duration::from_millis(1200);
const ROUND: Duration = Duration::from_millis(100);
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Runs a load.
pub(super) async fn run(plan: Plan) -> anyhow::Result<LoadReport> {
    let shared = Rc::new(RunState::new(plan)?);
    let bar = progress(&shared.plan);
    let mut lanes = match shared.plan.room {
        Some(members) => {
            let joined = room::join(&shared.plan, members, &bar).await?;
            room::start_lanes(&shared, members, joined)
        }
        None => start_lanes(&shared),
    };
    connect(&shared, &bar).await?;
    let usage = load(&shared, &bar).await;
    drain(&shared, &bar).await;
    shared.phase.set(Phase::Done);
    shared.wake_all();
    let _ = tokio::time::timeout(CLOSE_TIME, async { while lanes.join_next().await.is_some() {} }).await;
    bar.finish_and_clear();
    Ok(LoadReport::new(&shared, &usage))
}

/// Drawn only on a terminal.
fn progress(plan: &Plan) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {elapsed_precise} {msg}");
    let bar = ProgressBar::new((plan.warmup + plan.duration).as_millis() as u64);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn start_lanes(shared: &Rc<RunState>) -> JoinSet<()> {
    let (mut lanes, gate) = (JoinSet::new(), Rc::new(Semaphore::new(GREETINGS)));
    for pair in 0..shared.plan.pairs {
        let (a, b) = (shared.plan.user("a", pair), shared.plan.user("b", pair));
        let (at_a, at_b) = shared.plan.urls_of(pair);
        let sender = Sender::new(shared.clone(), pair, format!("@{b}"));
        let receiver = Receiver { shared: shared.clone(), pair };
        lanes.spawn_local(lane(shared, pair * 2, (&a, &b), at_a, sender).run(gate.clone()));
        lanes.spawn_local(lane(shared, pair * 2 + 1, (&b, &a), at_b, receiver).run(gate.clone()));
    }
    lanes
}

fn lane<S: Side>(shared: &Rc<RunState>, number: usize, (user, peer): (&str, &str), url: &str, side: S) -> Lane<S> {
    let (first, second) = if user <= peer { (user, peer) } else { (peer, user) };
    Lane {
        shared: shared.clone(),
        number,
        user: user.to_owned(),
        conv: format!("dm:{first}:{second}"),
        url: url.to_owned(),
        side,
        seqs: Seqs::default(),
        caught_up: false,
        round: 0,
    }
}

async fn connect(shared: &RunState, bar: &ProgressBar) -> anyhow::Result<()> {
    let (all, deadline) = (shared.plan.lanes(), Instant::now() + CONNECT_TIME);
    while shared.ready.get() < all {
        if let Some(error) = shared.fatal.borrow_mut().take() {
            return Err(error.context("a connection of the bench"));
        }
        if Instant::now() > deadline {
            bail!("only {} of {all} connections were ready in {CONNECT_TIME:?}", shared.ready.get());
        }
        bar.set_message(format!("connecting, {} of {all}", shared.ready.get()));
        sleep(Duration::from_millis(20)).await;
    }
    sleep(SETTLE).await;
    Ok(())
}

/// Warm-up and measurement; returns what the processes used while measuring.
async fn load(shared: &Rc<RunState>, bar: &ProgressBar) -> Usage {
    let from = shared.now() + shared.plan.warmup.as_nanos() as u64;
    let to = from + shared.plan.duration.as_nanos() as u64;
    shared.window.set((from, to));
    shared.phase.set(Phase::Sending);
    if let Load::Rate(rate) = shared.plan.load {
        let (pace, sharing) = (Pace::start(shared, rate), shared.clone());
        let sending = move || sharing.phase.get() == Phase::Sending;
        tokio::task::spawn_local(pace.run(shared.clone(), sending));
    }
    shared.wake_all();
    rounds_until(shared, from, bar).await;
    let before = sample(shared);
    rounds_until(shared, to, bar).await;
    let after = sample(shared);
    shared.phase.set(Phase::Draining);
    Usage { before, after }
}

fn sample(shared: &RunState) -> (Vec<Sample>, Option<Sample>) {
    (shared.plan.processes.sample(), processes::own())
}

async fn rounds_until(shared: &RunState, end: u64, bar: &ProgressBar) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.now() < end {
        let left = Duration::from_nanos(end - shared.now());
        tokio::select! {
            _ = rounds.tick() => next_round(shared, bar),
            () = sleep(left) => {}
        }
    }
}

fn next_round(shared: &RunState, bar: &ProgressBar) {
    shared.round.set(shared.round.get() + 1);
    shared.wake_all();
    if !bar.is_hidden() {
        let (sent, delivered) = (shared.stats.borrow().sent, shared.stats.borrow().delivered);
        bar.inc(ROUND.as_millis() as u64);
        bar.set_message(format!("{:?}: {sent} sent, {delivered} delivered", shared.phase.get()));
    }
}

async fn drain(shared: &RunState, bar: &ProgressBar) {
    let deadline = Instant::now() + shared.plan.drain;
    while !shared.drained() && Instant::now() < deadline {
        next_round(shared, bar);
        sleep(ROUND).await;
    }
}
