//! What every report has in common: JSON for programs, tables and an outline for people. Called by the command.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use serde_json::Value;

use super::{
    plot::{Figure, Outline},
    processes::{Spending, Spent},
    run_state::RunState,
    stats::{Integrity, Latency},
};

/// The result of a run.
pub(super) trait Report {
    /// What is special about it, as fields of the JSON.
    fn fields(&self) -> anyhow::Result<Value>;
    fn table(&self) -> String;
    /// Figures and plots.
    fn outline(&self) -> Outline;

    /// The fields and the outline together.
    fn json(&self) -> anyhow::Result<String> {
        let mut all = serde_json::to_value(self.outline())?;
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, self.fields()?) {
            all.extend(fields);
        }
        Ok(all.to_string())
    }
}

/// What one process used.
#[derive(Debug, Serialize)]
pub(super) struct Used {
    pid: u32,
    name: String,
    /// CPU time per delivered message.
    cpu_us_per_message: f64,
    /// Cores in use on average.
    cores: f64,
    rss_mb: f64,
}

/// What all of them used.
#[derive(Debug, Serialize)]
pub(super) struct AllUsed {
    processes: Vec<Used>,
    /// All processes together.
    cpu_us_per_message: f64,
    rss_mb: f64,
    bench: Option<Used>,
}

impl AllUsed {
    /// For so many delivered messages.
    pub(super) fn new(spent: &Spent, delivered: u64) -> Self {
        let used = |of: &Spending| Used {
            pid: of.pid,
            name: of.name.clone(),
            cpu_us_per_message: hundredths(of.cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64),
            cores: hundredths(of.cpu.as_secs_f64() / spent.time.as_secs_f64().max(1e-3)),
            rss_mb: megabytes(of.rss_bytes),
        };
        let processes: Vec<Used> = spent.processes.iter().map(used).collect();
        Self {
            cpu_us_per_message: total(&processes, |used| used.cpu_us_per_message),
            rss_mb: total(&processes, |used| used.rss_mb),
            bench: spent.own.as_ref().map(used),
            processes,
        }
    }

    /// `each` is what was counted.
    pub(super) fn table(&self, each: &str) -> String {
        let mut table = new_table(&["process", "pid", &format!("CPU µs per {each}"), "cores", "RSS MB"]);
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

    /// Nothing where no process was named.
    pub(super) fn figures(&self, each: &str) -> Vec<Figure> {
        if self.processes.is_empty() {
            return Vec::new();
        }
        vec![
            Figure::less(format!("CPU per {each}"), self.cpu_us_per_message, "µs").main(),
            Figure::less("memory", self.rss_mb, "MB"),
        ]
    }
}

/// 0 of none; the sum of no floats would be -0.
fn total(processes: &[Used], of: impl Fn(&Used) -> f64) -> f64 {
    hundredths(processes.iter().map(of).fold(0.0, |sum, of| sum + of))
}

/// Whether the promises were kept.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    integrity: Integrity,
    unanswered: usize,
    errors: BTreeMap<String, u64>,
}

impl Checked {
    /// As of now.
    pub(super) fn of(shared: &RunState) -> Self {
        Self {
            integrity: shared.integrity(),
            unanswered: shared.senders.iter().map(|sent| sent.borrow().unanswered).sum(),
            errors: shared.stats.borrow().errors.clone(),
        }
    }

    pub(super) fn kept(&self) -> bool {
        self.integrity == Integrity::default()
    }

    /// Whether every message was answered in the end, too: what a run must show whose senders were cut off.
    pub(super) fn kept_and_answered(&self) -> bool {
        self.kept() && self.unanswered == 0
    }

    /// In one line.
    pub(super) fn verdict(&self) -> String {
        let Integrity { lost, duplicated, out_of_order } = self.integrity;
        let errors: Vec<String> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        let unanswered = self.unanswered;
        format!(
            "lost {lost}, duplicated {duplicated}, out of order {out_of_order}, unanswered {unanswered}; errors: {errors}"
        )
    }
}

/// The percentiles of a latency under this name.
pub(super) fn latency_figures(name: &str, of: &Latency) -> Vec<Figure> {
    vec![
        Figure::less(format!("{name}, p50"), of.p50_ms, "ms"),
        Figure::less(format!("{name}, p99"), of.p99_ms, "ms"),
        Figure::less(format!("{name}, p99.9"), of.p99_9_ms, "ms"),
        Figure::less(format!("{name}, max"), of.max_ms, "ms"),
    ]
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

pub(super) fn hundredths(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
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
