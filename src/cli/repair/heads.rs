//! `natter repair heads`: mends every conversation of the cluster, so that what stands in a log is found by those it is
//! for.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    walk::{Plan, Progress, walk},
    way::Way,
};
use crate::{
    cli::{Global, logging, print, report::Hint, serve::shutdown_signal},
    config::{Config, StoreKind},
};

/// Arguments of `natter repair heads`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// All nodes are stopped: take their conversations without asking them, and without NATS
    #[arg(long)]
    stopped: bool,
    /// Go on from here: what an earlier run that did not end printed
    #[arg(long, value_name = "TOKEN", allow_negative_numbers = true, default_value_t = i64::MIN, hide_default_value = true)]
    from: i64,
    /// Conversations per second, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Conversations at once, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    at_once: u16,
    /// Seconds after which a conversation that cannot be mended ends the command
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter repair heads --config /etc/natter.toml            beside nodes that run
  natter repair heads --config /etc/natter.toml --stopped  all nodes are stopped, NATS may be too
  natter repair heads --rate 2000 --at-once 64             faster
  natter repair heads --from -3458764513820540928          what the run before did not do
  natter repair heads --json | jq .behind

Safe at any time and as often as you like: it raises heads to the ends of their logs and
changes nothing else. Needs the configuration of a node. With --stopped, a node that runs all
the same loses its conversations and begins anew. The exit code is 1 when it did not come to
the end; it then says where to go on.";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty, the cluster or NATS does not answer, or a conversation cannot be mended.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.load()?.config;
    logging::start(&config.log)?;
    refuse_embedded(&config)?;
    let stop = shutdown_signal()?;
    let way = Way::open(&config, args.stopped).await?;
    let plan = Plan {
        from: args.from,
        per_sec: args.rate,
        at_once: usize::from(args.at_once),
        patience: Duration::from_secs(args.patience),
    };
    let progress = Progress::new(args.from, io::stderr().is_terminal());
    let walked = until(&stop, walk(&way, &plan, &progress)).await;
    progress.end();
    way.close().await;
    let report = Report::of(&progress, matches!(walked, Some(Ok(()))));
    print(&if args.json { serde_json::to_string(&report)? } else { report.text() })?;
    match walked {
        Some(Err(error)) => Err(match &report.next {
            Some(next) => Hint::on(error, format!("when that is mended, go on with natter repair heads --from {next}")),
            None => error,
        }),
        Some(Ok(())) => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

fn refuse_embedded(config: &Config) -> anyhow::Result<()> {
    if config.store.kind == StoreKind::Scylla {
        return Ok(());
    }
    let what =
        anyhow::anyhow!("store.kind is embedded, whose heads and messages are one commit: there is nothing to mend");
    Err(Hint::on(what, "natter verify checks an embedded store"))
}

/// `None` when it was stopped.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(work).await
}

#[derive(Debug, Serialize)]
struct Report {
    /// Mended.
    conversations: u64,
    /// Of those, how many had a head below the end of their log.
    behind: u64,
    complete: bool,
    /// Where to go on: a token, in words, for it does not fit into a number of JavaScript.
    next: Option<String>,
}

impl Report {
    fn of(progress: &Progress, complete: bool) -> Self {
        let (conversations, behind, next) = progress.now();
        Self { conversations, behind, complete, next: (!complete).then(|| next.to_string()) }
    }

    fn text(&self) -> String {
        let Self { conversations, behind, .. } = self;
        let done = format!("{conversations} conversations, of which {behind} had a head below the end of their log");
        match &self.next {
            None => format!("mended {done}"),
            Some(next) => format!("mended {done}; not all: go on with --from {next}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_where_to_go_on() {
        let progress = Progress::new(-5, false);
        progress.add(3, 1, 17);
        let report = Report::of(&progress, false);
        assert!(report.text().ends_with(
            "3 conversations, of which 1 had a head below the end of their log; not all: go on with --from 17"
        ));
        let whole = serde_json::to_value(Report::of(&progress, true)).unwrap();
        assert_eq!(whole, serde_json::json!({"conversations": 3, "behind": 1, "complete": true, "next": null}));
    }
}
