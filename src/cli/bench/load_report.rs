//! The figures of a run with messages, for people and for programs. Made by `drive`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{
    plan::{Load, Plan, Shape},
    plot::{Figure, Outline, Plot, Shown},
    processes::Spent,
    report::{AllUsed, Checked, Report, add_row, hundredths, latency_figures, new_table},
    run_state::RunState,
    stats::{Latency, per_second},
};

/// The parameters of a run.
#[derive(Debug, Serialize)]
struct Parameters {
    urls: Vec<String>,
    #[serde(flatten)]
    who: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    seconds: u64,
    body_bytes: usize,
    ack_every: u64,
    encoding: &'static str,
}

/// The report of a run with load.
#[derive(Debug, Serialize)]
pub(super) struct LoadReport {
    setup: Parameters,
    sent_per_sec: f64,
    delivered_per_sec: f64,
    /// From due (open loop) or sent (closed loop) to received by the other side.
    send_to_receive: Latency,
    /// From the same moment to `sent`.
    send_to_sent: Latency,
    /// How long each conversation rests between two messages, where they are written to in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest_secs: Option<f64>,
    #[serde(flatten)]
    checked: Checked,
    #[serde(flatten)]
    used: AllUsed,
    #[serde(skip)]
    scenario: &'static str,
    #[serde(skip)]
    shown: Shown,
}

impl Parameters {
    fn of(plan: &Plan) -> Self {
        let (in_flight, rate) = match plan.load {
            Load::InFlight(most) => (Some(most), None),
            Load::Rate(rate) => (None, Some(rate)),
        };
        let who = match plan.shape {
            Shape::Pairs { pairs, .. } => BTreeMap::from([("pairs", pairs)]),
            Shape::Room { members, writers } => BTreeMap::from([("room", members), ("writers", writers)]),
            Shape::Cold { each } => BTreeMap::from([("connections", each * 2), ("conversations", each * each)]),
            Shape::Mixed { users } => BTreeMap::from([("users", users)]),
        };
        Self {
            urls: plan.mesh.urls.clone(),
            who,
            in_flight,
            rate,
            seconds: plan.duration.as_secs(),
            body_bytes: plan.body,
            ack_every: plan.ack_every,
            encoding: plan.mesh.encoding.subprotocol(),
        }
    }
}

/// What was done, in one line.
pub(super) fn headline(plan: &Plan) -> String {
    let load = match plan.load {
        Load::InFlight(most) => format!("{most} in flight each"),
        Load::Rate(rate) => format!("{rate} messages per second in total"),
    };
    let who = match plan.shape {
        Shape::Pairs { pairs, .. } => format!("{pairs} pairs"),
        Shape::Room { members, writers } => format!("a room of {members}, {writers} of whom write"),
        Shape::Cold { each } => format!("{each} users to each of {each} others, {} conversations", each * each),
        Shape::Mixed { users } => format!("{users} users"),
    };
    let acks = match plan.ack_every {
        1 => "each acknowledged".to_owned(),
        every => format!("every {every}th acknowledged"),
    };
    let (body, encoding) = (plan.body, plan.mesh.encoding.subprotocol());
    let seconds = plan.duration.as_secs();
    format!("{who}, {load}, {body}-byte bodies, {acks}, {encoding}, {seconds} s")
}

impl LoadReport {
    pub(super) fn new(shared: &RunState, scenario: &'static str, spent: &Spent) -> Self {
        let (plan, stats, series) = (&shared.plan, shared.stats.borrow(), shared.series.borrow());
        let of = [("send → receive", &stats.received), ("send → sent", &stats.answered)];
        let distribution = Plot::distribution("Latency, distribution", &of);
        let plots = [vec![series.rates(), series.latencies(), distribution], series.used()].concat();
        let sent_per_sec = per_second(stats.sent, plan.duration);
        let rest_secs = match plan.shape {
            Shape::Cold { each } => Some(hundredths((each * each) as f64 / sent_per_sec.max(0.1))),
            _ => None,
        };
        Self {
            setup: Parameters::of(plan),
            sent_per_sec,
            delivered_per_sec: per_second(stats.delivered, plan.duration),
            send_to_receive: Latency::of(&stats.received),
            send_to_sent: Latency::of(&stats.answered),
            rest_secs,
            checked: Checked::of(shared),
            used: AllUsed::new(spent, stats.delivered),
            scenario,
            shown: Shown { began: shared.began, headline: headline(plan), plots },
        }
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

    fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![
            Figure::more("delivered", self.delivered_per_sec, "/s").main(),
            Figure::more("sent", self.sent_per_sec, "/s"),
        ];
        let mut received = latency_figures("send → receive", &self.send_to_receive);
        received.iter_mut().take(2).for_each(|figure| figure.main = true);
        figures.extend(received);
        figures.extend(latency_figures("send → sent", &self.send_to_sent));
        figures.extend(self.rest_secs.map(|secs| Figure::plain("a conversation rests", secs, "s").main()));
        figures.extend(self.used.figures("message"));
        figures
    }
}

impl Report for LoadReport {
    fn fields(&self) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn table(&self) -> String {
        let rest = self.rest_secs.map(|secs| format!("each conversation rests for {secs:.1} s between two messages"));
        let headline = [Some(self.shown.headline.clone()), rest].into_iter().flatten().collect::<Vec<_>>().join("\n");
        [headline, self.rates(), self.checked.verdict(), self.used.table("message")].join("\n")
    }

    fn outline(&self) -> Outline {
        let good = self.checked.kept() && self.send_to_receive.count > 0;
        self.shown.outline(self.scenario, (good, self.checked.verdict()), self.figures())
    }
}
