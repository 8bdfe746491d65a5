//! `natter nodes`: how all nodes of a mesh are, as they say themselves over NATS.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use super::{
    Global,
    operator::{Account, Gathered, Nodes},
    print,
    report::colours,
    table::table,
    tail::interrupted,
};
use crate::operators::{
    ask,
    wire::{Nothing, Quantiles, State, Status},
};

/// Arguments of `natter nodes`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Go on, and show it anew every two seconds; Ctrl-C ends it
    #[arg(long)]
    watch: bool,
    /// Print one JSON object per node
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: Account,
}

const EXAMPLES: &str = "\
Examples:
  natter nodes                            beside a running natter dev
  natter nodes --watch --config /etc/natter.toml
  natter nodes --json | jq -r 'select(.store != \"ok\") | .node'
  NATTER_OPERATOR_PASSWORD=… natter nodes --nats nats://nats-1:4222

Rates and times are of the last ten seconds. `append`: from a send's arrival until its answer, half of them and all but one of
a hundred. `delivery`: until it was handed to a socket, by the clocks of two nodes, so those must agree.
It fails when a node did not answer, where nodes know each other (on a CQL store).";

const EVERY: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// When the nodes cannot be asked, or none answers.
pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let nodes = args.account.connect(global).await?;
    if !args.watch {
        let all_there = show(&nodes, args.json, false).await?;
        return Ok(if all_there { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let redraws = !args.json && io::stdout().is_terminal();
    let watching = async {
        loop {
            show(&nodes, args.json, redraws).await?;
            sleep(EVERY).await;
        }
    };
    tokio::select! {
        done = watching => done,
        () = interrupted() => Ok(ExitCode::SUCCESS),
    }
}

/// Shows them once; false when a node that is known did not answer.
async fn show(nodes: &Nodes, is_json: bool, redraws: bool) -> anyhow::Result<bool> {
    let gathered: Gathered<Status> = nodes.ask_all(ask::STATUS, &Nothing {}).await?;
    gathered.show_refusals();
    let silent = gathered.silent(|status| &status.peers);
    if is_json {
        for (node, status) in &gathered.answers {
            print(&line(node, status)?)?;
        }
        for node in &silent {
            print(&json!({ "node": node, "state": "silent" }).to_string())?;
        }
    } else {
        // From the top left corner, and nothing left of what was there.
        let top = if redraws { "\x1b[H\x1b[2J" } else { "" };
        print(&format!("{top}{}", drawn(&gathered.answers, &silent, colours(&io::stdout()))))?;
    }
    Ok(silent.is_empty())
}

fn line(node: &str, status: &Status) -> anyhow::Result<String> {
    let mut object = json!({ "node": node });
    if let (Some(all), serde_json::Value::Object(more)) = (object.as_object_mut(), serde_json::to_value(status)?) {
        all.extend(more);
    }
    Ok(object.to_string())
}

const HEADINGS: [&str; 13] = [
    "node",
    "state",
    "version",
    "up",
    "sessions",
    "users",
    "stored/s",
    "handed/s",
    "append ms",
    "delivery ms",
    "behind",
    "nats",
    "store",
];

fn drawn(answers: &[(String, Status)], silent: &[String], colours: bool) -> String {
    let rows = answers.iter().map(|(node, status)| row(node, status));
    let missing = silent.iter().map(|node| {
        let mut cells = [const { String::new() }; 13];
        (cells[0], cells[1]) = (node.clone(), "silent".to_owned());
        cells
    });
    let text = table(HEADINGS, rows.chain(missing));
    if !colours {
        return text;
    }
    let paint = answers.iter().map(|(_, status)| colour(status)).chain(silent.iter().map(|_| RED));
    // Above the rows are the upper line, the headings and the line below them.
    let mut paint = [""; 3].into_iter().chain(paint);
    let lines = text.lines().map(|line| match paint.next().unwrap_or_default() {
        "" => line.to_owned(),
        colour => format!("{colour}{line}\x1b[0m"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";

fn colour(status: &Status) -> &'static str {
    if status.store != "ok" || status.nats.contains(&false) {
        RED
    } else if status.state != State::Serving || status.behind > 0 {
        YELLOW
    } else {
        ""
    }
}

fn row(node: &str, status: &Status) -> [String; 13] {
    let Status { version, uptime_secs, sessions, users, behind, recent, nats, store, slots, .. } = status;
    let state = match status.state {
        State::Serving => "serving",
        State::Leaving => "leaving",
        State::Draining => "draining",
    };
    let store = match slots {
        Some(slots) => format!("{store}, {slots} slots"),
        None => store.clone(),
    };
    [
        node.to_owned(),
        state.to_owned(),
        version.clone(),
        duration(*uptime_secs),
        sessions.to_string(),
        users.to_string(),
        format!("{:.1}", recent.stored_per_sec),
        format!("{:.1}", recent.handed_per_sec),
        times(recent.append),
        times(recent.delivery),
        behind.to_string(),
        links(nats),
        store,
    ]
}

fn links(nats: &[bool]) -> String {
    match (nats.iter().filter(|is_there| **is_there).count(), nats.len()) {
        (there, all) if there == all => "ok".to_owned(),
        (0, _) => "away".to_owned(),
        (there, all) => format!("{there} of {all}"),
    }
}

fn times(Quantiles { p50_ms, p99_ms }: Quantiles) -> String {
    match (p50_ms, p99_ms) {
        (Some(half), Some(most)) => format!("{half:.1} / {most:.1}"),
        _ => "–".to_owned(),
    }
}

fn duration(secs: u64) -> String {
    match (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::wire::Recent;

    fn status() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            state: State::Serving,
            uptime_secs: 90_061,
            sessions: 2,
            users: 1,
            behind: 0,
            recent: Recent::default(),
            nats: vec![true, true],
            store: "ok".to_owned(),
            slots: Some(512),
            peers: Vec::new(),
        }
    }

    #[test]
    fn a_row_is_coloured_for_what_is_wrong_and_only_where_colours_are_wanted() {
        let away = Status { nats: vec![true, false], ..status() };
        let leaving = Status { state: State::Leaving, ..status() };
        let all = [("n1", status()), ("n2", away), ("n3", leaving)].map(|(node, status)| (node.to_owned(), status));
        let silent = ["n4".to_owned()];
        let plain = drawn(&all, &silent, false);
        assert!(!plain.contains('\x1b') && plain.contains("1 d 1 h") && plain.contains("ok, 512 slots"), "{plain}");
        let painted = drawn(&all, &silent, true);
        for (node, colour) in [("n1", None), ("n2", Some(RED)), ("n3", Some(YELLOW)), ("n4", Some(RED))] {
            let line = painted.lines().find(|line| line.contains(node)).unwrap();
            let found = line.find('\x1b').map(|at| &line[at..at + 5]);
            assert_eq!(found, colour, "{line:?}");
        }
        assert!(plain.contains("1 of 2") && plain.contains("silent"), "{plain}");
    }
}
