//! The scenario `offline`: messages to users who are away, then all of them come back at once.

use std::{num::NonZeroU32, rc::Rc, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    counters::{self, Counts, grown},
    drive::{self, GREETINGS, nanos},
    link,
    logins::LoginFigures,
    options::Content,
    pairs,
    plan::{Load, Plan, Setup, Shape},
    plot::{Figure, Outline, Shown},
    processes::{Spent, Usage},
    report::{AllUsed, Checked, Report},
    run_state::RunState,
};

/// Arguments of `natter bench offline`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users who are away, each written to by one other
    #[arg(long, value_name = "N", default_value = "100")]
    users: NonZeroU32,
    /// Messages that each of them misses
    #[arg(long, value_name = "N", default_value = "100")]
    messages: NonZeroU32,
    /// Each sender keeps N messages unanswered, and sends the next when an answer comes
    #[arg(long, value_name = "N", default_value = "8")]
    in_flight: NonZeroU32,
    /// Seconds within which all must have caught up
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    content: Content,
}

const EXAMPLES: &str = "\
Examples:
  natter bench offline                                    100 users miss 100 messages each
  natter bench offline --users 2000 --messages 20 --ack-every 32
  natter bench offline --pid-of-children $(pidof -s natter)";

/// What the plots and tables count from.
const SINCE: &str = "return";
/// The slowest sending that is waited for, and some time besides.
const LEAST_PER_SEC: u64 = 200;
const AT_LEAST: Duration = Duration::from_secs(60);
const READ_BUFFER: usize = 256;
/// Requests to a CQL store; pages that were read for sessions that were behind, and their rows; rows of comparisons.
const COUNTED: [&str; 4] =
    ["natter_store_requests_total", "natter_fills_total", "natter_fill_rows_total", "natter_reconcile_rows_total"];

/// What the nodes read for those who came back.
#[derive(Debug, Clone, Copy, Serialize)]
struct StoreWork {
    /// 0 with the embedded store, where nothing is a request.
    requests: f64,
    pages: f64,
    page_rows: f64,
    comparison_rows: f64,
}

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct OfflineReport {
    users: usize,
    messages_each: u64,
    sent_per_sec: f64,
    /// From the return to the last message.
    caught_up_per_sec: f64,
    missing: usize,
    #[serde(flatten)]
    logins: LoginFigures,
    /// Where the nodes show their metrics.
    store: Option<StoreWork>,
    #[serde(flatten)]
    used: AllUsed,
    #[serde(flatten)]
    checked: Checked,
    #[serde(skip)]
    shown: Shown,
}

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<OfflineReport> {
    let (users, messages) = (args.users.get() as usize, u64::from(args.messages.get()));
    let shape = Shape::Pairs { pairs: users, both_ways: false };
    let load = Load::InFlight(args.in_flight.get() as usize);
    let plan = Plan::timeless(setup.mesh(users * 2)?, shape, load, &args.content);
    let shared = Rc::new(RunState::new(Plan { most: messages, ..plan })?);
    introduce(&shared, users).await?;
    let (mut lanes, gate) = (JoinSet::new(), drive::gate());
    for pair in 0..users {
        lanes.spawn_local(pairs::sender(&shared, pair).run(gate.clone()));
    }
    drive::connect(&shared, users).await?;
    let from = drive::send(&shared, Duration::ZERO);
    let sent_secs = write(&shared, from, users as u64 * messages).await?;
    let counted = counters::read(&shared.plan.mesh, &COUNTED).await.ok();
    let (before, back) = (Usage::now(&shared.plan.mesh.processes), shared.now());
    come_back(&shared, &mut lanes, users);
    let (end, all) = (back.saturating_add(nanos(Duration::from_secs(args.patience))), users * 2);
    drive::rounds_while(&shared, from, end, || shared.ready.get() < all).await;
    let spent = Usage::now(&shared.plan.mesh.processes).since(&before);
    let counted = match counted {
        Some(before) => {
            counters::read(&shared.plan.mesh, &COUNTED).await.ok().map(|after| StoreWork::new(&before, &after))
        }
        None => None,
    };
    drive::drain(&shared, from).await;
    drive::end(&shared, lanes).await;
    Ok(OfflineReport::new(&shared, (sent_secs, back), counted, &spent))
}

/// Each of those who will be away is there once: so it comes back as a device that is known.
async fn introduce(shared: &RunState, users: usize) -> anyhow::Result<()> {
    let mesh = &shared.plan.mesh;
    let visits = (0..users).map(async |pair| -> anyhow::Result<()> {
        let (user, url) = pairs::receives(shared, pair);
        let mut connection = link::open(mesh, url, &user, 0, READ_BUFFER).await?;
        link::catch_up(&mut connection).await?;
        connection.close().await;
        mesh.progress.step("first visits", pair, users);
        Ok(())
    });
    let visits = stream::iter(visits).buffer_unordered(GREETINGS).try_for_each(|()| std::future::ready(Ok(())));
    visits.await.context("a user of the bench cannot connect")
}

/// Waits until all messages are answered; how many seconds that took.
async fn write(shared: &RunState, from: u64, messages: u64) -> anyhow::Result<f64> {
    shared.doing.set("writing to who is away");
    let end = from + nanos(AT_LEAST + Duration::from_secs(messages / LEAST_PER_SEC));
    let answered = || shared.stats.borrow().all_sent;
    if !drive::rounds_while(shared, from, end, || answered() < messages).await {
        bail!("only {} of {messages} messages were answered in time", answered());
    }
    Ok(Duration::from_nanos(shared.now() - from).as_secs_f64())
}

fn come_back(shared: &Rc<RunState>, lanes: &mut JoinSet<()>, users: usize) {
    shared.doing.set("coming back");
    shared.window.set((shared.now(), u64::MAX));
    shared.logins.borrow_mut().begin(shared.now());
    let all_at_once = Rc::new(Semaphore::new(users));
    for pair in 0..users {
        lanes.spawn_local(pairs::receiver(shared, pair).run(all_at_once.clone()));
    }
}

impl StoreWork {
    fn new(before: &Counts, after: &Counts) -> Self {
        let [requests, pages, page_rows, comparison_rows] = COUNTED.map(|name| grown(name, before, after));
        Self { requests, pages, page_rows, comparison_rows }
    }

    fn words(&self) -> String {
        let Self { requests, pages, page_rows, comparison_rows } = self;
        let requests = if *requests > 0.0 { format!("{requests:.0} requests to the store, ") } else { String::new() };
        format!("{requests}{pages:.0} pages with {page_rows:.0} rows read, {comparison_rows:.0} rows compared")
    }
}

impl OfflineReport {
    fn new(shared: &RunState, (sent_secs, back): (f64, u64), store: Option<StoreWork>, spent: &Spent) -> Self {
        let (stats, logins, series) = (shared.stats.borrow(), shared.logins.borrow(), shared.series.borrow());
        let (users, messages_each) = (shared.plan.senders(), shared.plan.most);
        let took = Duration::from_nanos(stats.last_delivered.saturating_sub(back)).as_secs_f64();
        let plots = [vec![series.rates(), logins.plot(SINCE)], series.used()].concat();
        Self {
            users,
            messages_each,
            sent_per_sec: (stats.all_sent as f64 / sent_secs.max(1e-3)).round(),
            caught_up_per_sec: (stats.delivered as f64 / took.max(1e-3)).round(),
            missing: shared.plan.lanes() - shared.ready.get().min(shared.plan.lanes()),
            logins: logins.figures(),
            store,
            used: AllUsed::new(spent, stats.delivered),
            checked: Checked::of(shared),
            shown: Shown {
                began: shared.began,
                headline: format!("{users} users come back to {messages_each} messages each"),
                plots,
            },
        }
    }

    fn verdict(&self) -> String {
        format!("{} of {} did not catch up in time, {}", self.missing, self.users, self.checked.verdict())
    }
}

impl Report for OfflineReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let Self { sent_per_sec, caught_up_per_sec, .. } = self;
        let rates = format!("written {sent_per_sec:.0}/s, caught up {caught_up_per_sec:.0}/s");
        let store = self.store.map_or("the nodes' metrics could not be read".to_owned(), |store| store.words());
        let parts = [
            self.shown.headline.clone(),
            rates,
            self.logins.table(SINCE),
            store,
            self.verdict(),
            self.used.table("message"),
        ];
        parts.join("\n")
    }

    fn outline(&self) -> Outline {
        let mut figures = vec![
            Figure::more("messages caught up", self.caught_up_per_sec, "/s").main(),
            Figure::more("written to who is away", self.sent_per_sec, "/s"),
        ];
        figures.extend(self.logins.outline(SINCE));
        figures.extend(self.used.figures("message"));
        if let Some(store) = &self.store {
            figures.push(Figure::less("requests to the store", store.requests, ""));
            figures.push(Figure::less("pages read", store.pages, ""));
        }
        let good = self.checked.kept() && self.missing == 0;
        self.shown.outline("offline", (good, self.verdict()), figures)
    }
}
