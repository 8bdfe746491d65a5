//! The scenario `storm`: the bench cuts all connections at once, and all users come back by the rules for clients. Messages are
//! sent meanwhile, and none may be lost.

use std::{num::NonZeroU32, rc::Rc, time::Duration};

use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    drive::{self, nanos},
    logins::LoginFigures,
    options::Content,
    pairs,
    plan::{Load, Plan, Setup, Shape},
    plot::{Figure, Outline, Shown},
    processes::{Spent, Usage},
    report::{Checked, Report, hundredths},
    run_state::RunState,
};

/// Arguments of `natter bench storm`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users who are connected and cut off; of each two one writes to the other
    #[arg(long, value_name = "N", default_value = "500")]
    users: NonZeroU32,
    /// Messages per second in total, before, in and after the storm
    #[arg(long, value_name = "R", default_value = "100")]
    rate: NonZeroU32,
    /// Seconds before the storm, and after it
    #[arg(long, value_name = "SECS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    calm: u64,
    /// Seconds within which all must be back
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    content: Content,
}

const EXAMPLES: &str = "\
Examples:
  natter bench storm                                      500 users, beside a running natter dev
  natter bench storm --users 5000 --rate 500              and with the CPU that a login takes:
  natter bench storm --html storm.html --pid-of-children $(pidof -s natter)";

/// What the plots and tables count from.
const SINCE: &str = "cut";

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct StormReport {
    users: usize,
    /// Who was not back in time.
    missing: usize,
    #[serde(flatten)]
    logins: LoginFigures,
    /// Of all measured processes while all came back, with what the messages took; none where no process was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms_per_login: Option<f64>,
    /// What they used before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cores_before: Option<f64>,
    messages: u64,
    #[serde(flatten)]
    checked: Checked,
    #[serde(skip)]
    shown: Shown,
}

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<StormReport> {
    let pairs = args.users.get().div_ceil(2) as usize;
    let shape = Shape::Pairs { pairs, both_ways: true };
    let plan = Plan::timeless(setup.mesh(pairs * 2)?, shape, Load::Rate(args.rate.get()), &args.content);
    let shared = Rc::new(RunState::new(plan)?);
    let (mut lanes, gate) = (JoinSet::new(), drive::gate());
    for pair in 0..pairs {
        lanes.spawn_local(pairs::sender(&shared, pair).run(gate.clone()));
        lanes.spawn_local(pairs::receiver(&shared, pair).run(gate.clone()));
    }
    let users = shared.plan.lanes();
    drive::connect(&shared, users).await?;
    let from = drive::send(&shared, Duration::ZERO);
    shared.window.set((from, u64::MAX));
    let (calm, patience) = (nanos(Duration::from_secs(args.calm)), nanos(Duration::from_secs(args.patience)));
    shared.doing.set("before the storm");
    let before = Usage::now(&shared.plan.mesh.processes);
    drive::rounds_until(&shared, from, shared.now().saturating_add(calm)).await;
    let quiet = Usage::now(&shared.plan.mesh.processes);
    // From now on each comes when its wait is over, whoever else does.
    gate.add_permits(users);
    cut(&shared);
    let end = shared.now().saturating_add(patience);
    drive::rounds_while(&shared, from, end, || shared.ready.get() < users).await;
    let missing = users - shared.ready.get().min(users);
    let stormy = Usage::now(&shared.plan.mesh.processes).since(&quiet);
    shared.doing.set("after the storm");
    drive::rounds_until(&shared, from, shared.now().saturating_add(calm)).await;
    drive::drain(&shared, from).await;
    drive::end(&shared, lanes).await;
    Ok(StormReport::new(&shared, missing, &quiet.since(&before), &stormy))
}

/// Ends all connections as a network does, without a word.
fn cut(shared: &RunState) {
    shared.doing.set("storm");
    shared.ready.set(0);
    shared.logins.borrow_mut().begin(shared.now());
    shared.cuts.set(shared.cuts.get() + 1);
    shared.wake_all();
}

impl StormReport {
    fn new(shared: &RunState, missing: usize, quiet: &Spent, stormy: &Spent) -> Self {
        let (logins, series) = (shared.logins.borrow(), shared.series.borrow());
        let users = shared.plan.lanes();
        let figures = logins.figures();
        let plots = [vec![series.rates(), series.latencies(), logins.plot(SINCE)], series.used()].concat();
        Self {
            users,
            missing,
            cpu_ms_per_login: cpu_per_login(stormy, figures.logins),
            cores_before: (!quiet.processes.is_empty())
                .then(|| hundredths(quiet.cpu().as_secs_f64() / quiet.time.as_secs_f64().max(1e-3))),
            logins: figures,
            messages: shared.stats.borrow().all_delivered,
            checked: Checked::of(shared),
            shown: Shown {
                began: shared.began,
                headline: format!("{users} users are cut off at once and come back, while messages are sent"),
                plots,
            },
        }
    }

    fn verdict(&self) -> String {
        format!("{} of {} did not come back in time, {}", self.missing, self.users, self.checked.verdict())
    }
}

/// In milliseconds.
fn cpu_per_login(stormy: &Spent, logins: u64) -> Option<f64> {
    let measured = !stormy.processes.is_empty() && logins > 0;
    measured.then(|| hundredths(stormy.cpu().as_secs_f64() * 1e3 / logins as f64))
}

impl Report for StormReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let LoginFigures { logins, logins_per_sec, secs, .. } = self.logins;
        let cpu = self.cpu_ms_per_login.zip(self.cores_before);
        let cpu = cpu.map_or(String::new(), |(ms, cores)| {
            format!(", {ms:.2} ms of CPU each, messages included ({cores:.2} cores before the storm)")
        });
        let came = format!("{logins} logins in {secs:.1} s, {logins_per_sec:.0}/s{cpu}; {} messages", self.messages);
        [self.shown.headline.clone(), came, self.logins.table(SINCE), self.verdict()].join("\n")
    }

    fn outline(&self) -> Outline {
        let mut figures = self.logins.outline(SINCE);
        figures.extend(self.cpu_ms_per_login.map(|ms| Figure::less("CPU per login", ms, "ms").main()));
        figures.push(Figure::plain("messages delivered", self.messages as f64, ""));
        let good = self.checked.kept_and_answered() && self.missing == 0 && self.messages > 0;
        self.shown.outline("storm", (good, self.verdict()), figures)
    }
}
