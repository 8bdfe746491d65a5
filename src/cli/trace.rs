//! `natter trace`: follows one user's messages live across the mesh.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    Global,
    operator::{Account, Gathered, Nodes, token},
    print,
    table::printable,
    tail::interrupted,
};
use crate::{
    bus::nats::operator::Told,
    model::UserId,
    operators::{
        ask,
        wire::{Nothing, TraceAsk},
    },
    subject::Subject,
};

/// Arguments of `natter trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Whose messages
    user: UserId,
    /// End after so many seconds; without it, Ctrl-C does
    #[arg(long, value_name = "SECS")]
    secs: Option<u64>,
    /// Print one JSON object per point
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter trace alice
  natter trace alice --secs 60 --json | jq -c 'select(.step == \"handed\")'

A point for each step of a message: stored, published (or not), offline (nobody is there to hear it), handed (to a socket) and
acknowledged, with the node, and how long after it was stored, by the nodes' clocks. It shows the user's direct
conversations from both sides; of rooms, what the user sends being stored, and what the user gets. Nothing that is said in
them. Nodes tell at most 1,000 points a second, and only while somebody asks.";

/// Nodes that hear nothing for so long stop by themselves; nodes that start meanwhile are told by the next renewal.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(4);
/// Messages whose time is remembered, to say how long after it a step came.
const KNOWN: usize = 10_000;

/// Runs the command.
///
/// # Errors
/// When the nodes cannot be asked, or none follows the user.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let nodes = args.account.connect(global).await?;
    let asked = TraceAsk { user: args.user.clone(), token: token(), lease_ms: LEASE.as_millis() as u64 };
    let mut told = nodes.operator().hear(&Subject::told("*", &asked.token)).await?;
    let gathered: Gathered<Nothing> = nodes.ask_all(ask::TRACE, &asked).await?;
    gathered.show_refusals();
    if gathered.answers.is_empty() {
        bail!("no node follows {}", args.user);
    }
    let names: Vec<_> = gathered.answers.iter().map(|(node, _)| node.as_str()).collect();
    eprintln!("following {} on {}", args.user, names.join(", "));
    let over = async {
        match args.secs {
            Some(secs) => sleep(Duration::from_secs(secs)).await,
            None => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        done = args.follow(&mut told) => done,
        error = renew(&nodes, &asked) => Err(error),
        () = interrupted() => Ok(()),
        () = over => Ok(()),
    };
    // Without this they would stop by themselves, some seconds later.
    let end = serde_json::to_vec(&TraceAsk { lease_ms: 0, ..asked })?;
    nodes.operator().tell(&Subject::nodes(ask::TRACE), end.into()).await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn renew(nodes: &Nodes, asked: &TraceAsk) -> anyhow::Error {
    let mut often = interval(RENEW);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        often.tick().await;
        let renewed: anyhow::Result<Gathered<Nothing>> = nodes.ask_all(ask::TRACE, asked).await;
        if let Err(error) = renewed {
            return error;
        }
    }
}

/// A point as nodes tell it.
#[derive(Debug, Deserialize)]
struct Point {
    node: String,
    step: String,
    at: u64,
    conv: String,
    seq: u64,
    from: Option<String>,
    cid: Option<String>,
    user: Option<String>,
    device: Option<String>,
    ok: Option<bool>,
    #[serde(default)]
    left_out: u32,
}

impl Args {
    async fn follow(&self, told: &mut Told) -> anyhow::Result<()> {
        let mut stored = HashMap::new();
        while let Some(payload) = told.next().await {
            let text = String::from_utf8_lossy(&payload);
            let point: Point =
                serde_json::from_str(&text).with_context(|| format!("a node of another version told {text}"))?;
            if point.left_out > 0 {
                eprintln!(
                    "natter: {} left out {} points: more came than are told in a second",
                    point.node, point.left_out
                );
            }
            if self.json {
                print(&text)?;
                continue;
            }
            if stored.len() >= KNOWN {
                stored.clear();
            }
            if point.step == "stored" {
                stored.insert((point.conv.clone(), point.seq), point.at);
            }
            print(&printable(&words(&point, stored.get(&(point.conv.clone(), point.seq)).copied())))?;
        }
        bail!("the connection to NATS has ended")
    }
}

fn words(point: &Point, stored: Option<u64>) -> String {
    let Point { node, step, at, conv, seq, from, cid, user, device, ok, .. } = point;
    let mut text = format!("{} {node} {step} {conv} {seq}", clock(*at));
    if let (Some(from), true) = (from, step == "stored") {
        text += &format!(" from {from}");
    }
    if let Some(cid) = cid {
        text += &format!(" cid {cid}");
    }
    if let Some(user) = user {
        text += &format!(" {} {user}", if step == "offline" { "of" } else { "to" });
    }
    if let Some(device) = device {
        text += &format!(" on {device}");
    }
    if *ok == Some(false) {
        text += " (not everywhere: NATS took nothing)";
    }
    match stored.filter(|_| step != "stored") {
        Some(stored) => text + &format!(" +{} ms", at.saturating_sub(stored)),
        None => text,
    }
}

/// The time of day, UTC.
fn clock(millis: u64) -> String {
    let (secs, millis) = (millis / 1_000 % 86_400, millis % 1_000);
    format!("{:02}:{:02}:{:02}.{millis:03}", secs / 3_600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(json: &str) -> Point {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_point_is_one_line_with_the_time_since_it_was_stored() {
        let stored =
            point(r#"{"node":"n1","step":"stored","at":3661001,"conv":"dm:a:b","seq":7,"from":"a","cid":"c"}"#);
        assert_eq!(words(&stored, Some(3_661_001)), "01:01:01.001 n1 stored dm:a:b 7 from a cid c");
        let handed =
            point(r#"{"node":"n2","step":"handed","at":3661005,"conv":"dm:a:b","seq":7,"user":"b","device":"phone"}"#);
        assert_eq!(words(&handed, Some(3_661_001)), "01:01:01.005 n2 handed dm:a:b 7 to b on phone +4 ms");
        let lost = point(r#"{"node":"n1","step":"published","at":1,"conv":"dm:a:b","seq":7,"from":"a","ok":false}"#);
        assert!(words(&lost, None).ends_with("(not everywhere: NATS took nothing)"));
    }
}
