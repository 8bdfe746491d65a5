//! `natter repair`: brings the tables of a CQL cluster into step after they lost something, or were restored as of
//! different moments.

use std::process::ExitCode;

use super::Global;

mod heads;
mod walk;
mod way;

/// Arguments of `natter repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Bring all heads to the ends of their logs, in every conversation
    Heads(heads::Args),
}

const EXAMPLES: &str = "\
Examples:
  natter repair heads --config /etc/natter.toml
  natter repair heads --help

docs/operations.md says when it is needed.";

/// Runs the command.
///
/// # Errors
/// When the configuration is faulty, the cluster or the homes do not answer.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Heads(args) => heads::run(args, global).await,
    }
}
