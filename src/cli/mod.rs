//! The command line: parses the arguments, runs a command, prints what went wrong. Called by `main`.
//!
//! A command is a module here with
//! - `pub struct Args`, deriving [`clap::Args`], with `#[command(after_help = "…")]` that shows examples, and
//! - `pub async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode>`;
//!
//! to add one: `mod name;`, a variant `Name(name::Args)` with its one-line description in `Command`, and an arm
//! in `Command::run`. Flags that set a key go through [`Global::sources`] and [`Sources::flag`], so that their
//! faults are told together with all others. What scripts read goes to standard output through [`print()`],
//! everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand, error::ErrorKind};

use crate::config::{Config, ConfigErrors, Loaded, Sources};

mod about;
mod backup;
mod bench;
mod config;
mod conform;
mod conversations;
mod dead;
mod dev;
mod disconnect;
mod doctor;
mod drain;
mod erase;
mod export;
mod health;
mod history;
mod identity;
pub mod logging;
mod migrate;
mod nats;
mod nodes;
mod operator;
mod presence;
mod reload;
mod repair;
pub mod report;
mod restore;
mod rooms;
mod running;
mod send;
mod serve;
mod signing;
mod stores;
mod table;
mod tail;
mod token;
mod trace;
mod verify;
mod why;

/// A chat mesh in which NATS interest is the registry and publishing is the forward.
#[derive(Debug, Parser)]
#[command(name = "natter", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// All commands with their arguments, for whoever describes them.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

const EXAMPLES: &str = "\
Examples:
  natter dev                            a mesh of two nodes on this machine, with a chat page
  natter serve --config natter.toml     one node
  natter doctor                         check NATS, the store and this machine
  natter token alice                    a token for a first run
  natter config                         what is in force, and what set it
  natter config --default > natter.toml a file to start from

natter <COMMAND> --help shows more of them. Each key of the configuration is also a variable:
NATTER_NATS__URLS sets nats.urls.";

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// The configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "NATTER_CONFIG", help_heading = "Options for all commands")]
    pub config: Option<PathBuf>,
    /// What to log, such as info or natter=debug
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Options for all commands")]
    pub log: Option<String>,
    /// Format of log lines: text or json
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Options for all commands")]
    pub log_format: Option<String>,
}

impl Global {
    /// The file, the variables and the flags that all commands share; a command adds its own flags.
    pub fn sources(&self) -> Sources {
        // An empty NATTER_CONFIG means none, as for every other variable.
        let file = self.config.clone().filter(|path| !path.as_os_str().is_empty());
        Sources::from_process(file).flag("--log", "log.filter", self.log.as_ref()).flag(
            "--log-format",
            "log.format",
            self.log_format.as_ref(),
        )
    }

    /// Loads the configuration for a command that adds no flags of its own.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load_with_origins(&self.sources())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: a NATS server, two nodes, the embedded store
    Dev(dev::Args),
    /// Run one node
    Serve(serve::Args),
    /// Bring the schema of a ScyllaDB cluster to this version
    Migrate(migrate::Args),
    /// Copy the embedded store into a file, also while a node runs
    Backup(backup::Args),
    /// Make an embedded store of a backup
    Restore(restore::Args),
    /// Check the embedded store: files, checksums, logs, heads and cids
    Verify(verify::Args),
    /// Repair a ScyllaDB cluster's data after a restore or a power cut
    Repair(repair::Args),
    /// Check everything that a node needs, and say what is wrong and how to fix it
    Doctor(doctor::Args),
    /// Show what services published to the durable queue and what was given up, with the reasons
    Dead(dead::Args),
    /// Ask a node whether it is ready
    Health(health::Args),
    /// Show how all nodes of the mesh are
    Nodes(nodes::Args),
    /// Say why a message has or has not reached a user, hop by hop
    Why(why::Args),
    /// Follow one user's messages live across the mesh
    Trace(trace::Args),
    /// End a user's sessions on all nodes
    Disconnect(disconnect::Args),
    /// Write all that natter has of a user as JSON lines
    Export(export::Args),
    /// Make unreadable what a user has said
    Erase(erase::Args),
    /// Stop a node as SIGTERM does, and follow it to the end
    Drain(drain::Args),
    /// Give services their accounts in the files of the NATS servers
    Nats(nats::Args),
    /// Make a token for a user, signed with a shared secret
    Token(token::Args),
    /// Send a message, or one for each line of standard input
    Send(send::Args),
    /// Change what a message says
    Edit(about::Edit),
    /// Delete a message
    Delete(about::Delete),
    /// React to a message, or take a reaction back
    React(about::React),
    /// Print messages as they arrive, after those that were missed
    Tail(tail::Args),
    /// Print a conversation's log, or a part of it
    History(history::Args),
    /// List a user's conversations, most recent first
    Conversations(conversations::Args),
    /// List a user's rooms, make one, join, invite …
    Rooms(rooms::Args),
    /// Show who is online, or watch who comes and goes
    Presence(presence::Args),
    /// Measure throughput, latency and memory, and check that nothing is lost
    Bench(bench::Args),
    /// Put any client through everything that a mesh may do to it
    Conform(conform::Args),
    /// Show the configuration in force, or a documented example
    Config(config::Args),
}

impl Command {
    async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Self::Dev(args) => dev::run(args, global).await,
            Self::Serve(args) => serve::run(args, global).await,
            Self::Migrate(args) => migrate::run(args, global).await,
            Self::Backup(args) => backup::run(args, global).await,
            Self::Restore(args) => restore::run(args, global).await,
            Self::Verify(args) => verify::run(args, global).await,
            Self::Repair(args) => repair::run(args, global).await,
            Self::Doctor(args) => doctor::run(args, global).await,
            Self::Dead(args) => dead::run(args, global).await,
            Self::Health(args) => health::run(args, global).await,
            Self::Nodes(args) => nodes::run(args, global).await,
            Self::Why(args) => why::run(args, global).await,
            Self::Trace(args) => trace::run(args, global).await,
            Self::Export(args) => export::run(args, global).await,
            Self::Erase(args) => erase::run(args, global).await,
            Self::Disconnect(args) => disconnect::run(args, global).await,
            Self::Drain(args) => drain::run(args, global).await,
            Self::Nats(args) => nats::run(args, global).await,
            Self::Token(args) => token::run(args, global).await,
            Self::Send(args) => send::run(args, global).await,
            Self::Edit(args) => about::edit(args, global).await,
            Self::Delete(args) => about::delete(args, global).await,
            Self::React(args) => about::react(args, global).await,
            Self::Tail(args) => tail::run(args, global).await,
            Self::History(args) => history::run(args, global).await,
            Self::Conversations(args) => conversations::run(args, global).await,
            Self::Rooms(args) => rooms::run(args, global).await,
            Self::Presence(args) => presence::run(args, global).await,
            Self::Bench(args) => bench::run(args, global).await,
            Self::Conform(args) => conform::run(args, global).await,
            Self::Config(args) => config::run(args, global).await,
        }
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => return show_usage(&e),
    };
    match block_on(cli.command, &cli.global) {
        Ok(code) => code,
        Err(e) => report::failure(&e),
    }
}

fn block_on(command: Command, global: &Global) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(command.run(global))
}

/// Help and version go to standard output, everything else is a faulty argument.
fn show_usage(e: &clap::Error) -> ExitCode {
    // There is nothing left to do if even this cannot be printed.
    let _ = e.print();
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(report::USAGE),
    }
}

/// Prints to standard output. Unlike `println!`, it does not panic when the reader has gone away (`natter … | head`).
///
/// # Errors
/// When standard output cannot be written; [`report::ReaderGone`] ends the command silently.
pub fn print(text: &str) -> anyhow::Result<()> {
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    let mut out = io::stdout().lock();
    match write!(out, "{text}{line_end}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(report::ReaderGone.into()),
        other => other.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_of_itself() {
        let mut cli = Cli::command();
        for command in cli.get_subcommands_mut() {
            let name = command.get_name().to_owned();
            assert!(command.get_about().is_some(), "{name} has no description");
            let help = command.render_help().to_string();
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            assert!(examples.contains(&format!("natter {name}")), "{name} shows no example");
        }
    }
}
