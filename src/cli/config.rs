//! `natter config`: shows the values in force and where each comes from, or an example file to start from.

use std::process::ExitCode;

use super::{Global, print};
use crate::config::example;

/// Arguments of `natter config`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print a documented example with every key and its default
    #[arg(long, conflicts_with = "json")]
    default: bool,
    /// Print JSON: the values, and the source of each that is not a default
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter config                                    the values in force, secrets masked
  natter --config natter.toml config               check a file: every fault is listed, exit code 2
  NATTER_LIMITS__WINDOW=64 natter config --json    for scripts
  natter config --default > natter.toml            a file to start from";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    if args.default {
        print(&example())?;
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = global.load()?;
    let text = if args.json { format!("{:#}", loaded.to_json()) } else { loaded.to_toml() };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
