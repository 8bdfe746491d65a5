//! The scenario `cold`: few connections, and many conversations. Each message goes to another one, so that what a node or the store
//! keeps of a conversation in use helps little.

use std::{num::NonZeroU32, rc::Rc};

use tokio::task::JoinSet;

use super::{
    drive,
    lane::{Lane, OWN_ACKS},
    load_report::LoadReport,
    options::{Content, Flow, Timing},
    pairs,
    plan::{Plan, Setup, Shape},
    run_state::RunState,
    sender::Sender,
    track::Convs,
};

/// Arguments of `natter bench cold`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Users on each side; each of one side writes to all of the other in turn, so there are N × N conversations
    #[arg(long, value_name = "N", default_value = "100")]
    connections: NonZeroU32,
    #[command(flatten)]
    flow: Flow,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    content: Content,
}

const EXAMPLES: &str = "\
Examples:
  natter bench cold                                       10,000 conversations, beside a running natter dev
  natter bench cold --connections 300 --rate 1000 --duration 60
  natter bench cold --pid-of-children $(pidof -s natter)";

/// Runs it.
pub(super) async fn run(args: Args, setup: &Setup) -> anyhow::Result<LoadReport> {
    let each = args.connections.get() as usize;
    let plan = Plan::new(setup.mesh(each * 2)?, Shape::Cold { each }, args.flow.load(), &args.timing, &args.content);
    drive::run(plan, "cold", |shared| {
        let (mut lanes, gate) = (JoinSet::new(), drive::gate());
        for number in 0..each {
            lanes.spawn_local(sender(shared, number, each).run(gate.clone()));
            lanes.spawn_local(pairs::receiver(shared, number).run(gate.clone()));
        }
        lanes
    })
    .await
}

/// Each begins with another recipient.
fn sender(shared: &Rc<RunState>, number: usize, each: usize) -> Lane<Sender> {
    let to = (number..number + each).map(|to| format!("@{}", pairs::receives(shared, to % each).0)).collect();
    let side = Sender::new(shared.clone(), number, to);
    Lane::new(shared, number * 2, pairs::sends(shared, number), side, Convs::new(OWN_ACKS))
}
