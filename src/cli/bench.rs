//! `natter bench`: puts load on a running mesh, and checks whether it kept its promises.
//!
//! Each scenario is a module here with its `Args`, and `run`, which makes a report; to add one: the module, a variant of
//! [`Scenario`], and an arm in `Scenario::run`. The users of a run exist for it only. A message carries its number and the
//! time it was due, so that the receiving side alone can measure latency and detect loss, duplicates and wrong order. The
//! bench shares its machine with what it measures, so it runs on one thread and reads and writes many frames per system
//! call; its own cost is in the report.

mod cold;
mod counters;
mod dm;
mod drive;
mod floor;
mod html;
mod idle;
mod lane;
mod limits;
mod link;
mod load_report;
mod logins;
mod mixed;
mod offline;
mod options;
mod pace;
mod pairs;
mod payload;
mod person;
mod plan;
mod plot;
mod presence;
mod processes;
mod progress;
mod receiver;
mod report;
mod room;
mod run_state;
mod sender;
mod series;
mod shares;
mod stats;
mod storm;
mod track;
mod used;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::{options::Common, plan::Setup, report::Report};
use super::{Global, print};

/// Arguments of `natter bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Examples:
  natter bench                                     direct messages, beside a running natter dev
  natter bench dm --rate 2000 --html report.html   a page with plots
  natter bench room --members 2000                 one room
  natter bench idle --users 10000 --pid-of-children $(pidof -s natter)
  natter bench storm --users 1000                  all connections cut at once

natter bench <SCENARIO> --help shows what each can do. Every run ends by itself; the exit code is 1
when a message was lost, doubled or out of order.";

#[derive(Debug, Clone, Subcommand)]
#[command(subcommand_value_name = "SCENARIO", subcommand_help_heading = "Scenarios")]
enum Scenario {
    /// Direct messages between pairs of users; this one when none is named
    Dm(dm::Args),
    /// Messages to one room
    Room(room::Args),
    /// What an idle connection costs
    Idle(idle::Args),
    /// Users come back to what they missed
    Offline(offline::Args),
    /// All connections are cut at once, and all users come back
    Storm(storm::Args),
    /// Few connections and many conversations, each written to rarely
    Cold(cold::Args),
    /// What people do on a day, all at once
    Mixed(mixed::Args),
    /// Users who come and go, and are watched: what is published for it
    Presence(presence::Args),
}

/// A scenario's arguments as if none were given.
#[derive(Debug, Parser)]
struct Defaults {
    #[command(flatten)]
    dm: dm::Args,
}

impl Scenario {
    fn usual() -> anyhow::Result<Self> {
        Ok(Self::Dm(Defaults::try_parse_from(["dm"])?.dm))
    }

    async fn run(self, setup: &Setup) -> anyhow::Result<Box<dyn Report>> {
        Ok(match self {
            Self::Dm(args) => Box::new(dm::run(args, setup).await?),
            Self::Room(args) => room::run(args, setup).await?,
            Self::Idle(args) => Box::new(idle::run(args, setup).await?),
            Self::Offline(args) => Box::new(offline::run(args, setup).await?),
            Self::Storm(args) => Box::new(storm::run(args, setup).await?),
            Self::Cold(args) => Box::new(cold::run(args, setup).await?),
            Self::Mixed(args) => Box::new(mixed::run(args, setup).await?),
            Self::Presence(args) => Box::new(presence::run(args, setup).await?),
        })
    }
}

/// Runs the command. The exit code is 1 when the mesh broke a promise.
///
/// # Errors
/// When nothing could be measured.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let scenario = args.scenario.map_or_else(Scenario::usual, Ok)?;
    // What is wrong with the files is said before minutes are spent.
    let page = html::Page::new(&args.common)?;
    let setup = Setup { common: args.common, global: global.clone() };
    // One thread costs less in total than two that wake each other.
    let bench = move || -> anyhow::Result<(String, bool)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = tokio::task::LocalSet::new().block_on(&runtime, scenario.run(&setup))?;
        // Sockets that are still open close when the program ends.
        runtime.shutdown_timeout(Duration::from_millis(100));
        let outline = report.outline();
        if let Some(page) = page {
            page.write(&outline)?;
        }
        Ok((if setup.common.json { report.json()? } else { report.table() }, outline.good))
    };
    let (text, good) = tokio::task::spawn_blocking(bench).await.context("the bench failed")??;
    print(&text)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command};

    use super::*;

    #[test]
    fn every_scenario_shows_examples_of_itself() {
        let mut bench = Args::augment_args(Command::new("bench"));
        for scenario in bench.get_subcommands_mut() {
            let name = scenario.get_name().to_owned();
            assert!(scenario.get_about().is_some(), "{name} has no description");
            let help = scenario.render_help().to_string();
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            assert!(examples.contains(&format!("natter bench {name}")), "{name} shows no example");
        }
    }

    /// What a help shows, up to the words that explain it, and what README.md shows.
    #[test]
    fn every_example_is_a_command() {
        #[derive(Debug, Parser)]
        struct Bench {
            #[command(flatten)]
            _args: Args,
        }

        let mut bench = Args::augment_args(Command::new("bench"));
        let mut text = bench.render_help().to_string();
        bench.get_subcommands_mut().for_each(|scenario| text += &scenario.render_help().to_string());
        let help = text.lines().map(|line| line.trim().split("  ").next().unwrap_or_default());
        let readme = include_str!("../../README.md").lines().map(|line| line.split(" #").next().unwrap_or_default());
        let examples: Vec<&str> =
            help.chain(readme).filter(|line| line.starts_with("natter bench") && !line.contains('<')).collect();
        assert!(examples.len() > 30, "{examples:?}");
        for example in examples {
            let command = example.split(" >").next().unwrap_or_default().replace("$(pidof -s natter)", "1");
            let words = command.split_whitespace().skip(1);
            assert!(Bench::try_parse_from(words).is_ok(), "{example}");
        }
    }

    #[test]
    fn none_is_direct_messages() {
        assert!(matches!(Scenario::usual(), Ok(Scenario::Dm(_))));
    }
}
