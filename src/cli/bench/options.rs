//! Options that scenarios share: what is measured and how it is shown, flattened into the command once; how much is sent, for how
//! long and what, flattened into the scenarios that have it.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use super::plan::Load;
use crate::{
    cli::{identity::Trust, signing::Signing},
    config::Http,
    protocol::Encoding,
};

/// Options of every scenario.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options for all scenarios")]
pub(super) struct Common {
    /// The nodes' addresses: senders connect to the first half, receivers to the second, others to all in turn
    #[arg(long, value_name = "URL", value_delimiter = ',', default_values_t = dev_nodes(), global = true)]
    pub(super) url: Vec<String>,
    #[command(flatten)]
    pub(super) trust: Trust,
    #[command(flatten)]
    pub(super) signing: Signing,
    /// Encoding of frames
    #[arg(long, value_enum, default_value_t = Wire::Json, global = true)]
    pub(super) encoding: Wire,
    /// Report CPU time and memory of these processes
    #[arg(long, value_name = "PID", value_delimiter = ',', global = true)]
    pub(super) pids: Vec<u32>,
    /// The same for this process and everything it has started
    #[arg(long, value_name = "PID", global = true)]
    pub(super) pid_of_children: Option<u32>,
    /// Print the report as JSON, on one line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Also write the report as a page with plots, which loads nothing from elsewhere
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) html: Option<PathBuf>,
    /// On that page, show an earlier run beside this one: what it printed with --json
    #[arg(long, value_name = "JSON", global = true)]
    pub(super) beside: Option<PathBuf>,
}

/// The two nodes of `natter dev`.
fn dev_nodes() -> [String; 2] {
    let first = Http::default();
    let mut second = first.clone();
    second.listen.set_port(first.listen.port() + 1);
    [first, second].map(|http| http.ws_url())
}

/// Encoding of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wire {
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

/// How fast messages are sent.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Flow {
    /// Closed loop: each sender keeps N messages unanswered, and sends the next when an answer comes
    #[arg(long, value_name = "N", default_value = "8", conflicts_with = "rate")]
    in_flight: NonZeroU32,
    /// Open loop: messages per second in total, whatever the answers; latency counts from when a message was due
    #[arg(long, value_name = "R")]
    rate: Option<NonZeroU32>,
}

impl Flow {
    pub(super) fn load(&self) -> Load {
        self.rate.map_or(Load::InFlight(self.in_flight.get() as usize), |rate| Load::Rate(rate.get()))
    }
}

/// How long it is measured.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Timing {
    /// Seconds to measure
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Seconds of warm-up before measuring
    #[arg(long, value_name = "SECS", default_value_t = 2)]
    warmup: u64,
}

impl Timing {
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }

    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }
}

/// What is sent, and what becomes of it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Content {
    /// Size of a body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(32..=60_000))]
    pub(super) body: u32,
    /// Receivers acknowledge every N-th message of a conversation, for all before it as well; what is left after a tenth
    /// of a second is acknowledged then. With 1 every message is acknowledged by itself
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(super) ack_every: u64,
    /// Seconds to wait at the end for what is still on its way; what has not arrived by then is lost
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    drain: u64,
}

impl Content {
    pub(super) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain)
    }
}
