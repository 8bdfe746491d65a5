//! `natter why`: why a message has or has not reached a user, hop by hop.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use serde_json::json;

use super::{
    Global,
    operator::{Account, Gathered, Nodes},
    print,
    table::printable,
};
use crate::{
    model::{ConvId, Seq, UserId},
    operators::{
        ask,
        why::{Here, Report, Stored, Verdict, judge},
        wire::{State, WhyAsk},
    },
};

/// Arguments of `natter why`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Which conversation: dm:alice:bob, room:lobby
    conv: ConvId,
    /// Which message of it
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seq: Seq,
    /// Whom it should have reached
    user: UserId,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter why dm:alice:bob 17 bob
  natter why room:lobby 2041 carol --json | jq -r .verdict

The verdict comes first, then each hop: was it appended, is the head at it, who holds sessions, what each session has heard,
handed out and had acknowledged, and the cursor of each device. It needs NATS only; the nodes read the store, and nothing that
the message says is shown. It fails when the message has not reached all of the user's devices.";

/// Runs the command.
///
/// # Errors
/// When the nodes cannot be asked, or none of them can read the store.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let nodes = args.account.connect(global).await?;
    let asked = WhyAsk { conv: args.conv.clone(), seq: args.seq, user: args.user.clone() };
    let gathered: Gathered<Here> = nodes.ask_all(ask::SESSIONS, &asked).await?;
    gathered.show_refusals();
    let silent = gathered.silent(|here| &here.peers);
    // After the sessions: whatever was acknowledged meanwhile shows as more, and never as less.
    let stored = stored(&nodes, &gathered.answers, &asked).await?;
    let report = judge(&asked, &stored, &gathered.answers, &silent);
    if args.json {
        let whole = json!({
            "conv": asked.conv, "seq": asked.seq, "user": asked.user, "verdict": report.verdict, "text": report.text,
            "devices": report.devices, "hops": report.hops, "stored": stored,
            "nodes": gathered.answers.iter().map(|(node, here)| json!({ "node": node, "here": here })).collect::<Vec<_>>(),
            "silent": silent,
        });
        print(&whole.to_string())?;
    } else {
        print(&printable_lines(&words(&report)))?;
    }
    Ok(if report.verdict == Verdict::Acknowledged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Any node can read the store: the first that can, those that serve before those that stop.
async fn stored(nodes: &Nodes, answers: &[(String, Here)], asked: &WhyAsk) -> anyhow::Result<Stored> {
    let mut ready: Vec<_> = answers.iter().collect();
    ready.sort_by_key(|(_, here)| here.state != State::Serving);
    let mut last = anyhow!("no node answered");
    for (node, _) in ready {
        match nodes.ask_one::<Stored>(node, ask::STORED, asked).await {
            Ok(Some(stored)) => return Ok(stored),
            Ok(None) => last = anyhow!("{node}: no answer in time; --wait gives it longer"),
            Err(error) => last = error,
        }
    }
    bail!(last.context("the store could not be read"))
}

fn words(report: &Report) -> String {
    let mut text = format!("{}\n", report.text);
    if report.devices.len() > 1 {
        for device in &report.devices {
            text += &format!("  {}: {}\n", device.device, device.text);
        }
    }
    text += "\n";
    for hop in &report.hops {
        text += &format!("  {hop}\n");
    }
    text
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
