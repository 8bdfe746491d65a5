//! The scenario `mixed`: what people do on a day, all of it at the same time and in stated shares.

use std::{num::NonZeroU32, rc::Rc};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    drive,
    lane::Lane,
    options::{Content, Timing},
    person::{Day, Person},
    plan::{Load, Mesh, Plan, Setup, Shape},
    plot::{Figure, Outline, Plot, Shown},
    processes::{Spent, Usage},
    report::{AllUsed, Checked, Report, add_row, new_table},
    room,
    run_state::RunState,
    shares::{KINDS, Kind, Shares},
    stats::{Latency, per_second},
    track::Convs,
};
use crate::model::RoomId;

/// Arguments of `natter bench mixed`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users, each with one connection; two and two write to each other
    #[arg(long, value_name = "N", default_value = "100")]
    users: NonZeroU32,
    /// So many of them share a room
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(2..))]
    room_size: u32,
    /// What is done per second in total, whatever the answers; latency counts from when it was due
    #[arg(long, value_name = "R", default_value = "500")]
    rate: NonZeroU32,
    /// Other shares than these of some kinds
    #[arg(long, value_name = "KIND=N,…", default_value_t = Shares::default())]
    shares: Shares,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    content: Content,
}

const EXAMPLES: &str = "\
Examples:
  natter bench mixed                                      beside a running natter dev
  natter bench mixed --users 1000 --rate 2000 --duration 60 --html day.html
  natter bench mixed --shares typing=0,reconnect=5        the other shares stay as they are";

/// One kind of what was done.
#[derive(Debug, Serialize)]
struct KindFigures {
    share: u32,
    asked: u64,
    per_sec: f64,
    latency: Latency,
    /// Of what is only of the moment: nobody was there to see it.
    missed: u64,
    errors: u64,
}

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct MixedReport {
    users: usize,
    rate: u32,
    kinds: Vec<(&'static str, KindFigures)>,
    #[serde(flatten)]
    used: AllUsed,
    #[serde(flatten)]
    checked: Checked,
    #[serde(skip)]
    shown: Shown,
}

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<MixedReport> {
    let users = args.users.get().div_ceil(2) as usize * 2;
    let mesh = setup.mesh(users)?;
    let rooms = enter_rooms(&mesh, users, args.room_size as usize).await?;
    let plan = Plan::new(mesh, Shape::Mixed { users }, Load::Rate(args.rate.get()), &args.timing, &args.content);
    let shared = Rc::new(RunState::new(plan)?);
    let day = Rc::new(Day::new(shared.clone(), args.shares, args.room_size as usize, &rooms)?);
    let (mut lanes, gate) = (JoinSet::new(), drive::gate());
    for number in 0..users {
        let (person, mesh) = (Person::new(day.clone(), number), &shared.plan.mesh);
        let (conv, joined) = person.room();
        let convs = Convs::new(shared.plan.ack_every).behind(&conv, joined);
        let who = (mesh.user(SIDE, number), mesh.url(number));
        lanes.spawn_local(Lane::new(&shared, number, who, person, convs).run(gate.clone()));
    }
    drive::connect(&shared, users).await?;
    let from = drive::send(&shared, shared.plan.warmup);
    shared.doing.set("warming up");
    drive::rounds_until(&shared, from, shared.window.get().0).await;
    shared.doing.set("measuring");
    let before = Usage::now(&shared.plan.mesh.processes);
    drive::rounds_until(&shared, from, shared.window.get().1).await;
    let spent = Usage::now(&shared.plan.mesh.processes).since(&before);
    drive::drain_until(&shared, from, || day.is_over()).await;
    shared.stats.borrow_mut().integrity.lost += day.missing();
    drive::end(&shared, lanes).await;
    Ok(MixedReport::new(&day, args.rate.get(), &spent))
}

/// What the names of the users have in common.
pub(super) const SIDE: &str = "p";

/// Makes the rooms; where each stands when all are in it.
async fn enter_rooms(mesh: &Mesh, users: usize, size: usize) -> anyhow::Result<Vec<u64>> {
    let mut joined = Vec::new();
    for (number, first) in (0..users).step_by(size).enumerate() {
        let name = RoomId::new(&room_name(mesh, number)).context("a room of the bench")?;
        joined.push(room::join(mesh, &name, SIDE, first..users.min(first + size)).await?);
    }
    Ok(joined)
}

pub(super) fn room_name(mesh: &Mesh, number: usize) -> String {
    format!("{}-{number}", mesh.room_id())
}

impl MixedReport {
    fn new(day: &Day, rate: u32, spent: &Spent) -> Self {
        let (shared, kinds) = (&day.shared, day.kinds.borrow());
        let (plan, series) = (&shared.plan, shared.series.borrow());
        let of: Vec<_> = KINDS.iter().map(|kind| (kind.word(), &kinds[*kind as usize].took)).collect();
        let plots = vec![series.rates(), series.latencies(), Plot::distribution("Latency, distribution", &of)];
        let figures = |kind: &Kind| {
            let done = &kinds[*kind as usize];
            let figures = KindFigures {
                share: day.shares.of(*kind),
                asked: done.asked,
                per_sec: per_second(done.asked, plan.duration),
                latency: Latency::of(&done.took),
                missed: if kind.is_of_the_moment() { done.asked.saturating_sub(done.took.len()) } else { 0 },
                errors: done.errors,
            };
            (kind.word(), figures)
        };
        let asked: u64 = kinds.iter().map(|kind| kind.asked).sum();
        Self {
            users: plan.lanes(),
            rate,
            kinds: KINDS.iter().map(figures).collect(),
            used: AllUsed::new(spent, asked),
            checked: Checked::of(shared),
            shown: Shown {
                began: shared.began,
                headline: format!("{} users do {rate} things per second, {}", plan.lanes(), day.shares),
                plots: [plots, series.used()].concat(),
            },
        }
    }
}

impl Report for MixedReport {
    fn fields(&self) -> anyhow::Result<Value> {
        let mut fields = serde_json::to_value(self)?;
        let kinds: serde_json::Map<_, _> = self
            .kinds
            .iter()
            .map(|(word, of)| Ok(((*word).to_owned(), serde_json::to_value(of)?)))
            .collect::<anyhow::Result<_>>()?;
        fields["kinds"] = Value::Object(kinds);
        Ok(fields)
    }

    fn table(&self) -> String {
        let mut table = new_table(&["", "share", "per s", "p50 ms", "p99 ms", "max ms", "missed", "errors"]);
        for (word, of) in &self.kinds {
            let latency = [of.latency.p50_ms, of.latency.p99_ms, of.latency.max_ms].map(|ms| format!("{ms:.2}"));
            let cells = [(*word).to_owned(), of.share.to_string(), format!("{:.1}", of.per_sec)];
            add_row(&mut table, cells.into_iter().chain(latency).chain([of.missed.to_string(), of.errors.to_string()]));
        }
        [self.shown.headline.clone(), table.to_string(), self.checked.verdict(), self.used.table("thing done")]
            .join("\n")
    }

    fn outline(&self) -> Outline {
        let mut figures = Vec::new();
        for (word, of) in &self.kinds {
            let main = |figure: Figure| if *word == Kind::Direct.word() { figure.main() } else { figure };
            figures.push(main(Figure::more(*word, of.per_sec, "/s")));
            figures.push(main(Figure::less(format!("{word}, p50"), of.latency.p50_ms, "ms")));
            figures.push(main(Figure::less(format!("{word}, p99"), of.latency.p99_ms, "ms")));
            figures.push(Figure::less(format!("{word}, errors"), of.errors as f64, ""));
        }
        figures.extend(self.used.figures("thing done"));
        let errors: u64 = self.kinds.iter().map(|(_, of)| of.errors).sum();
        let any = self.kinds.iter().any(|(_, of)| of.latency.count > 0);
        let good = self.checked.kept_and_answered() && errors == 0 && any;
        self.shown.outline("mixed", (good, self.checked.verdict()), figures)
    }
}
