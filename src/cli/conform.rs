//! `natter conform`: puts any client through everything that a mesh may do to it, and says which rule of `docs/protocol.md` it
//! broke.
//!
//! A scenario is a text in `conform/scenarios`, read by `script` and `lines`. `run` starts the client's program once for each of them
//! (`program`), plays the node for it (`stage`, `perform`, `expect`, `wire`), and lets the `referee` look at everything that passes.
//! `docs/conform.md` says what the program must do, and describes the language of the scenarios.

mod expect;
mod lines;
mod perform;
mod places;
mod program;
mod reconnects;
mod referee;
mod report;
mod rules;
mod run;
mod scenarios;
mod script;
mod stage;
mod wire;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use self::{run::How, script::Scenario};
use super::{Global, print, report::Hint};

/// Arguments of `natter conform`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these: a name, a part of one, or rule-8 for all about that rule [default: all]
    scenarios: Vec<String>,
    /// The client's program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List the scenarios and run nothing
    #[arg(long, conflicts_with = "show")]
    list: bool,
    /// Print the scripts of the scenarios and run nothing
    #[arg(long)]
    show: bool,
    /// Scenarios of your own, in place of those that come with natter
    #[arg(long, value_name = "FILE")]
    script: Vec<PathBuf>,
    /// Run so many programs at the same time
    #[arg(long, value_name = "N", default_value_t = 32)]
    jobs: usize,
    /// Wait so many seconds for what the client must do
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    patience: u64,
    /// Show all that passed in a scenario in which a rule was broken
    #[arg(long)]
    verbose: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter conform -- python3 examples/python/conform.py   all scenarios
  natter conform closed rule-8 -- ./my-client --quiet    those with closed in their name, and those about rule 8
  natter conform --list                                  which there are
  natter conform --show gap                              what happens in those
  natter conform --json -- ./my-client | jq .broken      for a script: exit code 1 when a rule was broken

The program gets NATTER_URL, NATTER_TOKEN_FILE and NATTER_DEVICE. It reads what to send from its standard input and
writes what it got to its standard output, one JSON object a line: docs/conform.md.";

/// Runs the command.
///
/// # Errors
/// When there is no such scenario, or the program cannot be started.
pub(super) async fn run(args: Args, _: &Global) -> anyhow::Result<ExitCode> {
    let scenarios = chosen(&args)?;
    if args.list || args.show {
        let text = match (args.json, args.show) {
            (true, _) => report::listing_json(&scenarios),
            (false, true) => scenarios.iter().map(report::script).collect::<Vec<_>>().join("\n"),
            (false, false) => report::listing(&scenarios),
        };
        return print(&text).map(|()| ExitCode::SUCCESS);
    }
    if args.command.is_empty() {
        let missing = anyhow::anyhow!("which client?");
        return Err(Hint::on(missing, "natter conform -- COMMAND, with the program behind the two dashes"));
    }
    let how = How { command: args.command, patience: Duration::from_secs(args.patience), jobs: args.jobs };
    let started = Instant::now();
    let all = run::all(scenarios, &how).await?;
    let took = started.elapsed();
    print(&if args.json { report::json(&all, took) } else { report::words(&all, took, args.verbose) })?;
    let broken = all.iter().any(|ran| ran.fault.is_some());
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn chosen(args: &Args) -> anyhow::Result<Vec<Scenario>> {
    let mut all = Vec::new();
    for path in &args.script {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        all.extend(script::parse(&text).map_err(|words| anyhow::anyhow!("{}: {words}", path.display()))?);
    }
    if args.script.is_empty() {
        all = scenarios::all()?;
    }
    choose(&mut all, &args.scenarios)?;
    Ok(all)
}

/// Leaves those that are meant: by the whole name, by a part of it, or by the rule.
fn choose(all: &mut Vec<Scenario>, parts: &[String]) -> anyhow::Result<()> {
    let is_meant =
        |scenario: &Scenario, part: &str, whole: bool| match part.strip_prefix("rule-").map(str::parse::<usize>) {
            Some(Ok(rule)) => scenario.rule == rule,
            _ if whole => scenario.name == part,
            _ => scenario.name.contains(part),
        };
    let mut meant = Vec::new();
    for part in parts {
        let whole = all.iter().any(|scenario| scenario.name == *part);
        if !all.iter().any(|scenario| is_meant(scenario, part, whole)) {
            bail!("no scenario has {part:?} in its name; natter conform --list shows them");
        }
        meant.push((part, whole));
    }
    all.retain(|scenario| meant.is_empty() || meant.iter().any(|(part, whole)| is_meant(scenario, part, *whole)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_part_or_rule() {
        let names = |parts: &[&str]| {
            let mut all = scenarios::all().unwrap();
            let parts: Vec<_> = parts.iter().map(|part| (*part).to_owned()).collect();
            choose(&mut all, &parts).map(|()| all.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["gap"]).unwrap(), ["gap"]);
        assert!(names(&["gap-"]).unwrap().len() > 2);
        assert!(names(&["rule-18", "gap"]).unwrap().len() > 3);
        assert_eq!(names(&[]).unwrap().len(), scenarios::all().unwrap().len());
        assert!(names(&["bogus"]).is_err());
    }
}
