//! `natter conform`: the clients in four languages keep all rules, and clients with a defect are found out, by the rule that they
//! break.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::harness::{
    example::example,
    natter::natter,
    node::node,
    process::{output, output_within},
    python::python_with,
    skip::skip,
};

/// For all scenarios: each starts a program, and Node takes a second of the processor for it when much else runs.
const LIMIT: Duration = Duration::from_secs(300);

fn here(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

fn text(path: impl Into<PathBuf>) -> String {
    path.into().to_str().unwrap().to_owned()
}

/// `natter conform` with these arguments, and the client behind them. Programs look for their files in the environment.
fn conform(arguments: &[&str], client: &[String]) -> Command {
    let mut command = natter(&std::env::temp_dir());
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"));
    command.arg("conform").args(arguments).arg("--").args(client);
    command
}

/// Puts a client through all scenarios; what it did wrong.
async fn faults_of(client: Vec<String>) -> Option<String> {
    let output = output_within(LIMIT, conform(&["--patience", "30", "--jobs", "12"], &client), "").await;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Some(format!("{client:?}\n{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let scenarios = said.split_whitespace().next().and_then(|count| count.parse::<usize>().ok());
    (scenarios < Some(100)).then(|| said.into_owned())
}

fn python() -> Result<String, String> {
    python_with("websockets", "websockets>=14").map(text)
}

/// The client in Go, built; `Err` says why there is none.
fn go() -> Result<String, String> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conform-go");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&built).arg(".");
    let output = build.current_dir(here("examples/go")).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("go: {error}"))?;
    if output.status.success() { Ok(text(built)) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Each with its program and arguments, or with the reason why it cannot be run here.
fn clients() -> [(&'static str, Result<Vec<String>, String>); 4] {
    let javascript = node().map(|node| {
        let command = [node.get_program()].into_iter().chain(node.get_args()).map(text);
        command.chain(["--no-warnings".into(), here("examples/js/client.mjs")]).collect()
    });
    [
        ("Python", python().map(|python| vec![python, here("examples/python/conform.py")])),
        ("Go", go().map(|client| vec![client])),
        ("natter.js", javascript),
        ("Rust", Ok(vec![text(example("client"))])),
    ]
}

/// One after the other: each has a dozen programs running as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_in_four_languages_keep_all_rules() {
    let mut faults = Vec::new();
    for (name, client) in clients() {
        match client {
            Ok(client) => faults.extend(faults_of(client).await),
            Err(reason) => skip(&format!("natter conform with {name}"), &reason),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_client_in_python_has_150_lines() {
    let source = std::fs::read_to_string(here("examples/python/client.py")).unwrap();
    assert!(source.lines().count() <= 150 && source.lines().all(|line| line.chars().count() <= 132));
}

/// Each defect of `conform/broken.py`: a scenario that shows it, and the rule.
const DEFECTS: [(&str, &str, u64); 29] = [
    ("BadFrames", "send-one", 0),
    ("NewDevice", "device-stays", 1),
    ("Eager", "nothing-before-welcome", 2),
    ("TellsTwice", "duplicate-of-old", 3),
    ("NeverAcks", "one-message", 4),
    ("AcksEach", "steady-stream", 4),
    ("AcksAhead", "one-message", 5),
    ("IgnoresGaps", "gap-filled-late", 6),
    ("CountedCid", "answers-late", 7),
    ("SameCid", "same-text", 7),
    ("NewCid", "answer-lost", 8),
    ("GivesUp", "unavailable-and-cut", 8),
    ("IgnoresEchoes", "echo-only", 9),
    ("ForgetsUnanswered", "answer-lost", 10),
    ("Reverses", "three-without-an-answer", 10),
    ("IgnoresRetryAfter", "rate-limited", 11),
    ("Overtakes", "rate-limited-and-more-is-written", 11),
    ("SteadyRetries", "unavailable-five-times", 12),
    ("ForgetsRefused", "final-rooms", 13),
    ("NeverWaits", "closed-by-the-network", 14),
    ("NeverGivesUp", "over-4104", 14),
    ("ForgetsSince", "since-is-said", 15),
    ("StartsOver", "dropped-at-once", 16),
    ("IgnoresGoodbye", "goodbye-long", 17),
    ("OneAddress", "next-address-drained", 17),
    ("NeverNotices", "dead-while-sending", 18),
    ("NeverRenews", "token-while-sending", 19),
    ("DiesOfNews", "unknown-op-with-ref", 20),
    ("IgnoresTruncated", "truncated-in-the-middle", 21),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_defect_is_told_which_rule_it_breaks() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip("natter conform with clients that have a defect", &reason),
    };
    let broken = here("tests/it/clients/conform/broken.py");
    let found = stream::iter(DEFECTS).map(|(defect, scenario, rule)| {
        let client = [python.clone(), broken.clone(), defect.to_owned()];
        // Cids are compared with those of other scenarios.
        let scenarios = if defect == "CountedCid" { vec![scenario, "send-one"] } else { vec![scenario] };
        let command = conform(&[&scenarios[..], &["--patience", "3", "--json"]].concat(), &client);
        async move {
            let output = output(command).await;
            assert_eq!(output.status.code(), Some(1), "{defect}: {output:?}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let ran = report["scenarios"].as_array().unwrap();
            let shown = ran.iter().filter(|ran| ran["broken"].is_object()).any(|ran| ran["broken"]["rule"] == rule);
            (!shown).then(|| format!("{defect} should break rule {rule}: {report:#}"))
        }
    });
    let unseen: Vec<_> = found.buffer_unordered(8).filter_map(async |unseen| unseen).collect().await;
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
