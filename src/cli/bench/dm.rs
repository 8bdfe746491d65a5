//! The scenario `dm`: direct messages between pairs of users.

use std::num::NonZeroU32;

use tokio::task::JoinSet;

use super::{
    drive,
    load_report::LoadReport,
    options::{Content, Flow, Timing},
    pairs,
    plan::{Plan, Setup, Shape},
};

/// Arguments of `natter bench dm`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Pairs of users: one writes to the other
    #[arg(long, value_name = "N", default_value = "50")]
    pairs: NonZeroU32,
    /// Swap the sides of every second pair, so that all nodes have senders and receivers
    #[arg(long)]
    both_ways: bool,
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    content: Content,
}

const EXAMPLES: &str = "\
Examples:
  natter bench dm                                     beside a running natter dev
  natter bench dm --rate 2000 --duration 30           latency at a steady 2,000 messages per second
  natter bench dm --pairs 200 --in-flight 32 --ack-every 32 --encoding msgpack
  natter bench dm --pid-of-children $(pidof -s natter)
  natter bench dm --json > before.json                and after a change of something:
  natter bench dm --html after.html --beside before.json
  natter bench dm --url ws://10.0.0.1:8080/v1/ws,ws://10.0.0.2:8080/v1/ws --secret-file secret";

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<LoadReport> {
    let pairs = args.pairs.get() as usize;
    let shape = Shape::Pairs { pairs, both_ways: args.both_ways };
    let plan = Plan::new(setup.mesh(pairs * 2)?, shape, args.flow.load(), &args.timing, &args.content);
    drive::run(plan, "dm", |shared| {
        let (mut lanes, gate) = (JoinSet::new(), drive::gate());
        for pair in 0..pairs {
            lanes.spawn_local(pairs::sender(shared, pair).run(gate.clone()));
            lanes.spawn_local(pairs::receiver(shared, pair).run(gate.clone()));
        }
        lanes
    })
    .await
}
