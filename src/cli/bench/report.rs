//! The figures of a run, for people and for programs. Called by the command.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{
    plan::{Load, Plan},
    processes::Sample,
    run_state::RunState,
    stats::{Integrity, Latency, per_second},
};

/// The result of a run.
pub(super) trait Report {
    fn json(&self) -> anyhow::Result<String>;
    fn table(&self) -> String;
    /// Whether every promise was kept.
    fn good(&self) -> bool;
}

/// The processes, and the bench itself, before and after.
pub(super) struct Usage {
    pub(super) before: (Vec<Sample>, Option<Sample>),
    pub(super) after: (Vec<Sample>, Option<Sample>),
}

/// What one process used.
#[derive(Debug, Serialize)]
pub(super) struct Used {
    pub(super) pid: u32,
    pub(super) name: String,
    /// CPU time per delivered message.
    cpu_us_per_message: f64,
    /// Cores in use on average.
    cores: f64,
    pub(super) rss_mb: f64,
}

/// The parameters of a run.
#[derive(Debug, Serialize)]
struct Setup {
    urls: Vec<String>,
    pairs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    seconds: u64,
    body_bytes: usize,
    encoding: &'static str,
}

/// The report of a run with load.
#[derive(Debug, Serialize)]
pub(super) struct LoadReport {
    setup: Setup,
    sent_per_sec: f64,
    delivered_per_sec: f64,
    /// From due (open loop) or sent (closed loop) to received by the other side.
    send_to_receive: Latency,
    /// From the same moment to `sent`.
    send_to_sent: Latency,
    integrity: Integrity,
    unanswered: usize,
    errors: BTreeMap<String, u64>,
    processes: Vec<Used>,
    /// All processes together.
    cpu_us_per_message: f64,
    rss_mb: f64,
    bench: Option<Used>,
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

fn hundredths(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn used(before: &Sample, after: &Sample, delivered: u64, time: Duration) -> Used {
    let cpu = after.cpu.saturating_sub(before.cpu);
    let per_message = cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64;
    Used {
        pid: after.pid,
        name: after.name.clone(),
        cpu_us_per_message: hundredths(per_message),
        cores: hundredths(cpu.as_secs_f64() / time.as_secs_f64()),
        rss_mb: megabytes(after.rss_bytes),
    }
}

impl Setup {
    fn of(plan: &Plan) -> Self {
        let (in_flight, rate) = match plan.load {
            Load::InFlight(most) => (Some(most), None),
            Load::Rate(rate) => (None, Some(rate)),
        };
        Self {
            urls: plan.urls.clone(),
            pairs: plan.pairs,
            room: plan.room,
            in_flight,
            rate,
            seconds: plan.duration.as_secs(),
            body_bytes: plan.body,
            encoding: plan.encoding.subprotocol(),
        }
    }
}

impl LoadReport {
    pub(super) fn new(shared: &RunState, usage: &Usage) -> Self {
        let (plan, integrity, stats) = (&shared.plan, shared.integrity(), shared.stats.borrow());
        let (delivered, time) = (stats.delivered, plan.duration);
        let both = |before: &Sample| {
            let after = usage.after.0.iter().find(|after| after.pid == before.pid)?;
            Some(used(before, after, delivered, time))
        };
        let processes: Vec<Used> = usage.before.0.iter().filter_map(both).collect();
        let own = usage.before.1.as_ref().zip(usage.after.1.as_ref());
        Self {
            setup: Setup::of(plan),
            sent_per_sec: per_second(stats.sent, time),
            delivered_per_sec: per_second(delivered, time),
            send_to_receive: Latency::of(&stats.received),
            send_to_sent: Latency::of(&stats.answered),
            integrity,
            unanswered: shared.pairs.iter().map(|pair| pair.borrow().unanswered).sum(),
            errors: stats.errors.clone(),
            cpu_us_per_message: hundredths(processes.iter().map(|used| used.cpu_us_per_message).sum()),
            rss_mb: hundredths(processes.iter().map(|used| used.rss_mb).sum()),
            processes,
            bench: own.map(|(before, after)| used(before, after, delivered, time)),
        }
    }

    fn headline(&self) -> String {
        let load = match (self.setup.in_flight, self.setup.rate) {
            (Some(most), _) => format!("{most} in flight each"),
            (_, rate) => format!("{} messages per second in total", rate.unwrap_or(0)),
        };
        let Setup { pairs, seconds, body_bytes, encoding, .. } = &self.setup;
        let who = match self.setup.room {
            Some(members) => format!("a room of {members}, {pairs} of whom write"),
            None => format!("{pairs} pairs"),
        };
        format!("{who}, {load}, {body_bytes}-byte bodies, {encoding}, {seconds} s")
    }

    fn rates(&self) -> String {
        let mut table = new_table(&["", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]);
        let rows = [
            ("send → receive", self.delivered_per_sec, self.send_to_receive),
            ("send → sent", self.sent_per_sec, self.send_to_sent),
        ];
        for (name, rate, of) in rows {
            let figures = [of.p50_ms, of.p90_ms, of.p99_ms, of.p99_9_ms, of.max_ms];
            let figures = figures.iter().map(|ms| format!("{ms:.2}"));
            add_row(&mut table, [name.to_owned(), format!("{rate:.0}")].into_iter().chain(figures));
        }
        table.to_string()
    }

    fn usage(&self) -> String {
        let mut table = new_table(&["process", "pid", "CPU µs per message", "cores", "RSS MB"]);
        let row = |used: &Used, name: &str| {
            [
                name.to_owned(),
                used.pid.to_string(),
                format!("{:.2}", used.cpu_us_per_message),
                format!("{:.2}", used.cores),
                format!("{:.1}", used.rss_mb),
            ]
        };
        for used in &self.processes {
            add_row(&mut table, row(used, &used.name));
        }
        if self.processes.len() > 1 {
            let (cpu, rss) = (format!("{:.2}", self.cpu_us_per_message), format!("{:.1}", self.rss_mb));
            add_row(&mut table, ["total".into(), String::new(), cpu, String::new(), rss]);
        }
        if let Some(own) = &self.bench {
            add_row(&mut table, row(own, "the bench"));
        }
        table.to_string()
    }
}

pub(super) fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(super) fn add_row(table: &mut Table, cells: impl IntoIterator<Item = String>) {
    table.add_row(cells.into_iter().collect::<Vec<_>>());
}

impl Report for LoadReport {
    fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    fn table(&self) -> String {
        let Integrity { lost, duplicated, out_of_order } = self.integrity;
        let promises = format!("lost {lost}, duplicated {duplicated}, out of order {out_of_order}");
        let errors: Vec<String> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        let unanswered = self.unanswered;
        [self.headline(), self.rates(), format!("{promises}, unanswered {unanswered}; errors: {errors}"), self.usage()]
            .join("\n")
    }

    fn good(&self) -> bool {
        self.integrity == Integrity::default() && self.send_to_receive.count > 0
    }
}
