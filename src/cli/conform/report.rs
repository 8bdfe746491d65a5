//! What `natter conform` prints: for people, and as JSON. Called by the command.

use serde_json::{Value, json};
use tokio::time::Duration;

use super::{
    rules::{self, Fault},
    run::Ran,
    script::Scenario,
};
use crate::cli::table::{printable, table};

/// How much of what passed is shown with a fault.
const SHOWN: usize = 24;

/// Those there are.
pub(super) fn listing(scenarios: &[Scenario]) -> String {
    let row = |scenario: &Scenario| [scenario.name.clone(), rules::name(scenario.rule), scenario.about.clone()];
    format!("{}\n{} scenarios", table(["scenario", "rule", "about"], scenarios.iter().map(row)), scenarios.len())
}

/// The same for programs.
pub(super) fn listing_json(scenarios: &[Scenario]) -> String {
    let item = |scenario: &Scenario| {
        let steps: Vec<_> = scenario.lines.iter().map(|line| line.text.as_str()).collect();
        json!({"name": scenario.name, "rule": scenario.rule, "about": scenario.about, "steps": steps})
    };
    Value::from_iter(scenarios.iter().map(item)).to_string()
}

/// A scenario's script.
pub(super) fn script(scenario: &Scenario) -> String {
    let Scenario { name, about, rule, lines, .. } = scenario;
    let steps: String = lines.iter().map(|line| format!("\n  {}", line.text)).collect();
    format!("scenario {name}\nabout {about}\nrule {rule}{steps}\n")
}

/// How it went, for people: what was broken in full, the rest as numbers.
pub(super) fn words(all: &[Ran], took: Duration, whole: bool) -> String {
    let mut text = String::new();
    for ran in all {
        if let Some((fault, step)) = &ran.fault {
            text += &broken(ran, fault, step, whole);
        }
    }
    let broken: Vec<_> = all.iter().filter_map(|ran| ran.fault.as_ref()).collect();
    if !broken.is_empty() {
        text += &table(["rule", "broken in", "it says"], by_rule(&broken));
        text.push('\n');
    }
    let (of, secs) = (all.len(), took.as_secs_f64());
    text + &match broken.len() {
        0 => format!("{of} scenarios in {secs:.1} s: no rule was broken"),
        some => format!("{of} scenarios in {secs:.1} s: a rule was broken in {some}"),
    }
}

fn by_rule(broken: &[&(Fault, String)]) -> Vec<[String; 3]> {
    let count = |rule: usize| broken.iter().filter(|(fault, _)| fault.rule == rule).count();
    let numbers = (0..rules::COUNT).filter(|rule| count(*rule) > 0);
    numbers.map(|rule| [rules::name(rule), count(rule).to_string(), rules::text(rule).to_owned()]).collect()
}

fn broken(ran: &Ran, fault: &Fault, step: &str, whole: bool) -> String {
    let Scenario { name, about, .. } = &ran.scenario;
    let rule = format!("{}: {}", rules::name(fault.rule), rules::text(fault.rule));
    let mut text = format!("BROKEN {name}\n  {about}\n  {rule}\n  at `{step}`: {}\n", printable(&fault.words));
    let hidden = if whole { 0 } else { ran.transcript.len().saturating_sub(SHOWN) };
    if hidden > 0 {
        text += &format!("    … {hidden} lines before, --verbose shows them\n");
    }
    for line in &ran.transcript[hidden..] {
        text += &format!("    {}\n", printable(line));
    }
    for line in ran.complaints.lines() {
        text += &format!("    stderr: {}\n", printable(line));
    }
    text.push('\n');
    text
}

/// The same for programs.
pub(super) fn json(all: &[Ran], took: Duration) -> String {
    let scenarios: Vec<_> = all.iter().map(outcome).collect();
    let broken = all.iter().filter(|ran| ran.fault.is_some()).count();
    json!({"scenarios": scenarios, "kept": all.len() - broken, "broken": broken, "ms": millis(took)}).to_string()
}

fn outcome(ran: &Ran) -> Value {
    let Scenario { name, rule, about, .. } = &ran.scenario;
    let mut outcome =
        json!({"name": name, "rule": rule, "about": about, "ok": ran.fault.is_none(), "ms": millis(ran.took)});
    if let Some((fault, step)) = &ran.fault {
        outcome["broken"] = json!({
            "rule": fault.rule, "says": rules::text(fault.rule), "step": step, "words": fault.words,
            "transcript": ran.transcript, "stderr": ran.complaints,
        });
    }
    outcome
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
