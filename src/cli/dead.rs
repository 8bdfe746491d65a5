//! `natter dead`: shows what services published to the durable queue and what was given up.

use std::process::ExitCode;

use super::{
    Global, print,
    report::Hint,
    table::{printable, table},
};
use crate::bus::{
    NatsOptions,
    queue::{Buried, QueueLink},
};

/// Arguments of `natter dead`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// From this place on
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    from: u64,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: usize,
    /// Print one JSON object per line, with the bodies
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter dead --config /etc/natter.toml       the oldest first: what, why, after how many tries
  natter dead --json -n 1000 | jq -r 'select(.code == \"unauthorized\") | .subject'
  natter dead --json --from 17 -n 1 | jq -r .body

It connects to NATS as a node does. What was given up is not tried again: correct it and publish it again, with the same cid.";

/// The longest reason in the table.
const SHOWN: usize = 60;

/// Runs the command.
///
/// # Errors
/// When NATS or its JetStream does not answer, or no stream was made.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.load()?.config;
    let options = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let link = QueueLink::connect(&options).await?;
    let found = link.buried(args.from, args.count).await;
    let found =
        found.map_err(|error| Hint::on(error, "nodes with queue.enabled, or natter migrate, make the stream"))?;
    if args.json {
        for one in &found {
            print(&serde_json::to_string(one)?)?;
        }
    } else if found.is_empty() {
        print("nothing was given up")?;
    } else {
        print(&table(["place", "subject", "code", "tries", "reason"], found.iter().map(row)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Buried) -> [String; 5] {
    let reason: String = one.message.chars().take(SHOWN).collect();
    [one.place.to_string(), one.subject.clone(), one.code.clone(), one.tries.to_string(), printable(&reason)]
}
