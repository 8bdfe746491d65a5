//! `natter restore`: a new embedded store made of a backup.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::{Global, backup::embedded_config, print, stores};
use crate::store::embedded::{EmbeddedOptions, backup::restore};

/// Arguments of `natter restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What `natter backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder of the embedded store; it must hold no store
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  natter restore --config natter.toml /backups/natter-2026-01-31.backup
  natter restore --data /srv/natter-new natter.backup

What was written after the backup is gone, and its numbers are given out again: clients must forget what they keep.
docs/operations.md says what that means.";

/// Runs the command.
///
/// # Errors
/// When the backup is damaged, or the folder holds a store or cannot be written.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let config = embedded_config(global, args.data.as_ref())?;
    let dir = config.store.embedded.store_dir();
    let options = EmbeddedOptions::from(&config);
    stores::keep_private();
    let work = move || restore(&args.file, &dir, options).map(|contents| (contents, dir));
    let (contents, dir) = tokio::task::spawn_blocking(work).await.context("restoring")??;
    print(&format!("{}: {} messages in {} rows", dir.display(), contents.messages, contents.rows))?;
    Ok(ExitCode::SUCCESS)
}
