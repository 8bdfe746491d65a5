//! `natter verify`: checks the embedded store in a folder that no node has open.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;

use super::{Global, backup::embedded_config, print, report::Hint, stores};
use crate::store::embedded::{
    EmbeddedOptions, FolderState, look,
    verify::{Report, verify},
};

/// Arguments of `natter verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The data folder of the embedded store
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter verify --config natter.toml
  natter verify --data /srv/natter --json

Reads everything: files, checksums, and whether logs, heads and cids fit each other. Stop the node first; of a node that
runs, make a backup instead. The exit code is 0 where all is well and 1 where it is not.";

/// Runs the command.
///
/// # Errors
/// When there is no embedded store in the folder, a node has it open, or it cannot be read.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let config = embedded_config(global, args.data.as_ref())?;
    let dir = config.store.embedded.store_dir();
    let options = EmbeddedOptions::from(&config);
    match look(&dir)? {
        FolderState::None => anyhow::bail!("{} holds no store; name the data folder with --data", dir.display()),
        FolderState::Held(pid) => {
            let what = anyhow::anyhow!("process {pid} has the store in {} open", dir.display());
            return Err(Hint::on(what, "stop the node first, or make a backup, which reads every message"));
        }
        FolderState::Free => {}
    }
    stores::keep_private();
    let shown = std::io::stderr().is_terminal();
    let work = move || {
        verify(&dir, options, |rows| {
            if shown {
                eprint!("\r{rows} rows");
            }
        })
    };
    let report = tokio::task::spawn_blocking(work).await.context("checking")??;
    if shown {
        eprintln!();
    }
    print(&if args.json { serde_json::to_string_pretty(&report)? } else { in_words(&report) })?;
    Ok(if report.problems_found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(report: &Report) -> String {
    let mut text: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let more = report.problems_found - report.problems.len() as u64;
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    if report.rows_checked {
        text.push_str(&format!("{} messages in {} rows were read", report.messages, report.rows));
        if report.accepted_holes > 0 {
            text.push_str(&format!("; {} holes are of losses that were accepted", report.accepted_holes));
        }
        text.push('\n');
    }
    text.push_str(match report.problems_found {
        0 => "all is well",
        _ => "the store is damaged: restore a backup, or start with --accept-loss to go on with what can be read",
    });
    text
}
