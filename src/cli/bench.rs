//! `natter bench`: puts load on a running mesh, and checks whether it kept its promises.
//!
//! It uses pairs of users that exist for this run only: `a<i>` writes to `b<i>`, each on its own connection. A message
//! carries its number and the time it was due, so that the receiving side alone can measure latency and detect loss,
//! duplicates and wrong order. The bench shares its machine with what it measures, so it runs on one thread and reads
//! and writes many frames per system call; its own cost is in the report.

mod drive;
mod idle;
mod lane;
mod limits;
mod link;
mod pace;
mod payload;
mod plan;
mod presence;
mod processes;
mod receiver;
mod report;
mod room;
mod run_state;
mod sender;
mod stats;
mod track;

use std::{num::NonZeroU32, process::ExitCode, time::Duration};

use anyhow::Context as _;

use super::{Global, identity::Trust, print, signing::Signing};
use crate::{auth::Minter, config::Http, protocol::Encoding};

/// Arguments of `natter bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The nodes' addresses: senders connect to the first half, receivers to the second
    #[arg(long, value_name = "URL", value_delimiter = ',', default_values_t = dev_nodes())]
    url: Vec<String>,
    #[command(flatten)]
    trust: Trust,
    /// Swap the sides of every second pair, so that all nodes have senders and receivers
    #[arg(long)]
    mixed: bool,
    #[command(flatten)]
    signing: Signing,
    /// Pairs of users: one writes to the other
    #[arg(long, value_name = "N", default_value = "50")]
    pairs: NonZeroU32,
    /// Closed loop: each sender keeps N messages unanswered, and sends the next when an answer comes
    #[arg(long, value_name = "N", default_value = "8", conflicts_with = "rate")]
    in_flight: NonZeroU32,
    /// Open loop: messages per second in total, whatever the answers; latency counts from when a message was due
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroU32>,
    /// Seconds to measure
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    duration: u64,
    /// Seconds of warm-up before measuring
    #[arg(long, value_name = "SECS", default_value_t = 2)]
    warmup: u64,
    /// Seconds to wait afterwards for what is still on its way; what has not arrived by then is lost
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    drain: u64,
    /// Size of a body in bytes, at least 32
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    body: usize,
    /// Encoding of frames
    #[arg(long, value_enum, default_value_t = Wire::Json)]
    encoding: Wire,
    /// Report CPU time and memory of these processes
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// The same for this process and everything it has started
    #[arg(long, value_name = "PID")]
    pid_of_children: Option<u32>,
    /// One room of N members, on all nodes, instead of pairs: the first --pairs of them write to all
    #[arg(long, value_name = "N", conflicts_with_all = ["idle", "mixed"])]
    room: Option<NonZeroU32>,
    /// Open N idle connections and report what each costs; sends no messages
    #[arg(long, value_name = "N")]
    idle: Option<NonZeroU32>,
    /// Have N users come, stay and go, of whom some are watched, and report what is published for it; sends no messages.
    /// The nodes need presence.everybody
    #[arg(long, value_name = "N", conflicts_with = "idle")]
    presence: Option<NonZeroU32>,
    /// How many of them are watched
    #[arg(long, value_name = "N", default_value_t = 100, requires = "presence")]
    watched: u32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  natter bench                                     beside a running natter dev
  natter bench --rate 2000 --duration 30           latency at a steady 2,000 messages per second
  natter bench --pairs 200 --in-flight 32 --encoding msgpack --pid-of-children $(pidof -s natter)
  natter bench --room 2000 --pairs 4 --in-flight 1 a message to a room of 2,000, again and again
  natter bench --idle 10000 --pid-of-children $(pidof -s natter) --json
  NATTER_PRESENCE__EVERYBODY=true natter dev       and beside it:
  natter bench --presence 10000 --watched 100
  natter bench --url ws://10.0.0.1:8080/v1/ws,ws://10.0.0.2:8080/v1/ws --secret-file hs256.secret";

/// The two nodes of `natter dev`.
fn dev_nodes() -> [String; 2] {
    let first = Http::default();
    let mut second = first.clone();
    second.listen.set_port(first.listen.port() + 1);
    [first, second].map(|http| http.ws_url())
}

/// Encoding of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// Text frames.
    Json,
    /// Binary frames.
    Msgpack,
}

impl From<Wire> for Encoding {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Json => Self::Json,
            Wire::Msgpack => Self::MsgPack,
        }
    }
}

/// Runs the command. The exit code is 1 when the mesh broke a promise.
///
/// # Errors
/// When nothing could be measured.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let minter = Minter::from_config(&args.signing.auth(&global.load()?.config)?)?;
    let plan = plan::Plan::new(&args, minter)?;
    let (idle, json) = (args.idle, args.json);
    let (presence, watched) = (args.presence, args.watched as usize);
    // One thread costs less in total than two that wake each other.
    let bench = move || -> anyhow::Result<(String, bool)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        let report: Box<dyn report::Report> = match (idle, presence) {
            (Some(count), _) => Box::new(local.block_on(&runtime, idle::run(plan, count.get() as usize))?),
            (None, Some(users)) => {
                Box::new(local.block_on(&runtime, presence::run(plan, users.get() as usize, watched))?)
            }
            (None, None) => Box::new(local.block_on(&runtime, drive::run(plan))?),
        };
        // Sockets that are still open close when the program ends.
        runtime.shutdown_timeout(Duration::from_millis(100));
        Ok((if json { report.json()? } else { report.table() }, report.good()))
    };
    let (text, good) = tokio::task::spawn_blocking(bench).await.context("the bench failed")??;
    print(&text)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
