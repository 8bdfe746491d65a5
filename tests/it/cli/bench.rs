//! `natter bench`: each scenario in small, against nodes in this process; what it says of a mesh that keeps its promises, and of
//! one that does not.

mod meddler;

use std::process::Command;

use serde_json::{Value, json};

use self::meddler::{Meddling, meddler};
use super::shell::Shell;
use crate::{
    harness::{natter::program, process::output_of},
    mesh::TestMesh,
};

/// A run of `natter bench` with `--json` beside a shell's mesh.
async fn bench(shell: &Shell, args: &[&str]) -> Value {
    let (urls, pid) = (shell.urls().join(","), std::process::id().to_string());
    let common = ["--json", "--url", &urls, "--pids", &pid];
    let text = shell.good(&[&["bench"], args, &common].concat(), "").await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["good"], true, "{report}");
    report
}

/// Everything kept, nothing refused.
fn assert_clean(report: &Value) {
    let none = json!({"lost": 0, "duplicated": 0, "out_of_order": 0});
    assert_eq!((&report["integrity"], &report["unanswered"]), (&none, &0.into()), "{report}");
    assert_eq!(report["errors"], json!({}), "{report}");
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

const SHORT: [&str; 4] = ["--warmup", "0", "--duration", "1"];

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_measured_and_nothing_is_amiss() {
    let shell = Shell::start().await;
    let dm = ["dm", "--pairs", "4", "--in-flight", "4"];
    let runs = [
        (&dm[..], ("/setup/pairs", 4.0)),
        (&["dm", "--pairs", "4", "--rate", "200", "--encoding", "msgpack", "--both-ways"], ("/setup/rate", 200.0)),
        (&["dm", "--pairs", "4", "--ack-every", "16"], ("/setup/ack_every", 16.0)),
        (&["room", "--members", "8", "--writers", "2"], ("/setup/room", 8.0)),
        (&["cold", "--connections", "6", "--rate", "200"], ("/setup/conversations", 36.0)),
    ];
    for (args, (pointer, expected)) in runs {
        let report = bench(&shell, &[args, &SHORT].concat()).await;
        assert_clean(&report);
        assert_eq!(number(&report, pointer), expected);
        assert!(number(&report, "/send_to_receive/count") > 10.0, "{report}");
        assert!(number(&report, "/send_to_sent/p50_ms") <= number(&report, "/send_to_sent/max_ms"), "{report}");
        assert_eq!(report["processes"][0]["pid"], std::process::id(), "{report}");
        assert_eq!(report["scenario"], args[0], "{report}");
    }
    let nothing = shell.good(&["bench", "--url", &shell.urls().join(","), "--json", "--help"], "").await;
    assert!(nothing.contains("storm") && nothing.contains("Examples:"), "{nothing}");
}

/// What the node of the receivers counts shows that `--ack-every` is kept.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_for_each_message_or_for_several() {
    let shell = Shell::start().await;
    let counted = async || {
        let [senders, receivers] = [0, 1].map(|node| &shell.mesh.nodes[node]);
        (receivers.metric("natter_frames_in_total{op=\"ack\"}").await, senders.metric("natter_appended_total").await)
    };
    for (every, least, most) in [("1", 0.9, 1.1), ("32", 0.0, 0.5)] {
        let before = counted().await;
        let run = ["dm", "--pairs", "2", "--in-flight", "64", "--ack-every", every];
        bench(&shell, &[&run[..], &SHORT].concat()).await;
        let after = counted().await;
        let each = (after.0 - before.0) / (after.1 - before.1);
        assert!((least..most).contains(&each), "{each} acknowledgements a message with --ack-every {every}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_counted_and_the_floor_needs_no_mesh() {
    let shell = Shell::start().await;
    let used = ["--rooms", "3", "--after-messages", "2", "--settle", "0"];
    for (more, rooms, messages) in [(&[][..], 0, 0), (&used, 3, 2)] {
        let report = bench(&shell, &[&["idle", "--users", "20"][..], more].concat()).await;
        assert_eq!((&report["connections"], &report["failed"]), (&20.into(), &0.into()), "{report}");
        assert_eq!((&report["rooms"], &report["messages"]), (&rooms.into(), &messages.into()), "{report}");
    }
    let floor = ["bench", "room", "--json", "--members", "8", "--floor", "--duration", "1"];
    let report: Value = serde_json::from_str(&shell.good(&floor, "").await).unwrap();
    assert!(number(&report, "/writes") > 8.0 && number(&report, "/bytes") > 200.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_told_of_who_comes_and_goes() {
    let everybody = TestMesh::tuned(2, |config| config.presence.everybody = true).await;
    let shell = Shell { mesh: everybody, ..Shell::start().await };
    let report = bench(&shell, &["presence", "--users", "6", "--watched", "2", "--duration", "0"]).await;
    assert_eq!(report["phases"].as_array().map(Vec::len), Some(3), "{report}");
    assert!(number(&report, "/phases/0/told") >= 2.0 && number(&report, "/phases/2/told") >= 2.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_catches_up() {
    let shell = Shell::start().await;
    let report = bench(&shell, &["offline", "--users", "10", "--messages", "30"]).await;
    assert_clean(&report);
    assert_eq!((&report["logins"], &report["missing"]), (&10.into(), &0.into()), "{report}");
    assert!(number(&report, "/caught_up_per_sec") > 30.0, "{report}");
    assert!(number(&report, "/welcome_after/p50_ms") <= number(&report, "/caught_up_after/p50_ms"), "{report}");
    // A known device of a user with one conversation that is behind: its messages are pages read from the store.
    assert!(number(&report, "/store/pages") >= 10.0, "{report}");
    assert!(number(&report, "/store/page_rows") >= 300.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_brings_everybody_back() {
    let shell = Shell::start().await;
    let report = bench(&shell, &["storm", "--users", "20", "--rate", "100", "--calm", "1"]).await;
    assert_clean(&report);
    assert_eq!((&report["logins"], &report["missing"]), (&20.into(), &0.into()), "{report}");
    // More than two seconds with a hundred messages each.
    assert!(number(&report, "/messages") > 150.0, "{report}");
    // The first wait is anything up to half a second; what the mesh takes is a part of what the user sees.
    assert!(number(&report, "/caught_up_after/max_ms") >= number(&report, "/caught_up_took/p50_ms"), "{report}");
    assert!(number(&report, "/secs") < 30.0 && number(&report, "/logins_per_sec") > 0.5, "{report}");
    assert!(report["cpu_ms_per_login"].is_number(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_a_mix_of_everything() {
    let shell = Shell::start().await;
    let day =
        ["mixed", "--users", "12", "--room-size", "4", "--rate", "300", "--shares", "reconnect=2", "--drain", "40"];
    let report = bench(&shell, &[&day[..], &["--warmup", "1", "--duration", "3"]].concat()).await;
    assert_eq!((&report["errors"], &report["unanswered"]), (&json!({}), &0.into()), "{report}");
    for (kind, least) in
        [("direct", 100.0), ("room", 60.0), ("read", 20.0), ("history", 10.0), ("typing", 50.0), ("reconnect", 1.0)]
    {
        let of = &report["kinds"][kind];
        assert!(number(of, "/latency/count") >= least && number(of, "/latency/p99_ms") > 0.0, "{kind}: {report}");
        assert_eq!(of["errors"], 0, "{kind}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_promise_is_an_exit_code() {
    let shell = Shell::start().await;
    let scenarios = [
        &["dm", "--pairs", "2", "--warmup", "0", "--duration", "1"][..],
        &["room", "--members", "4", "--writers", "1", "--rate", "50", "--warmup", "0", "--duration", "1"],
        &["cold", "--connections", "2", "--rate", "100", "--warmup", "0", "--duration", "1"],
        &["offline", "--users", "4", "--messages", "20"],
        &["storm", "--users", "8", "--calm", "2"],
        // Without reconnects: what was touched might be on its way to a connection that ends just then.
        &["mixed", "--users", "4", "--room-size", "2", "--shares", "reconnect=0", "--warmup", "0", "--duration", "1"],
    ];
    for args in scenarios {
        // Each with its own users: both at once.
        let run = |meddling| break_promises(&shell, args, meddling);
        tokio::join!(run(Meddling::Drop), run(Meddling::Repeat));
    }
}

async fn break_promises(shell: &Shell, args: &[&str], meddling: Meddling) {
    let proxy = meddler(shell.mesh.nodes[1].addr, meddling).await;
    let urls = format!("{},ws://{}/v1/ws", shell.urls()[0], proxy.addr());
    let common = ["--json", "--url", &urls, "--drain", "1"];
    let output = shell.run(&[&["bench"], args, &common].concat(), "").await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?} {output:?}"));
    assert_eq!((output.status.code(), &report["good"]), (Some(1), &false.into()), "{meddling:?}: {report}");
    let field = if meddling == Meddling::Drop { "out_of_order" } else { "duplicated" };
    assert!(number(&report["integrity"], &format!("/{field}")) >= 1.0, "{meddling:?}: {report}");
    let lost = number(&report["integrity"], "/lost");
    if ["dm", "cold", "offline"].contains(&args[0]) {
        assert_eq!(lost, f64::from(u8::from(meddling == Meddling::Drop)), "{meddling:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_a_run_and_an_earlier_one_beside_it() {
    let shell = Shell::start().await;
    let small = ["dm", "--pairs", "2", "--warmup", "0", "--duration", "2"];
    let before = bench(&shell, &small).await;
    std::fs::write(shell.folder.path().join("before.json"), before.to_string()).unwrap();
    let after = bench(&shell, &[&small[..], &["--html", "page.html", "--beside", "before.json"]].concat()).await;
    let page = std::fs::read_to_string(shell.folder.path().join("page.html")).unwrap();
    assert!(page.contains(after["headline"].as_str().unwrap()) && page.contains("before.json"), "{page}");
    for title in ["Rate", "Latency, send → receive", "Latency, distribution", "CPU", "Memory"] {
        assert!(
            page.contains(&format!("{title} · this run")) && page.contains(&format!("{title} · before.json")),
            "{title}"
        );
    }
    assert_eq!(page.matches("<svg").count(), 10);
    for load in ["http:", "https:", "src=", "href=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(load), "the page loads something: {load}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_said_before_anything_else() {
    let shell = Shell::start().await;
    std::fs::write(shell.folder.path().join("no.json"), "{\"a\": 1}").unwrap();
    let wrong = [
        (&["room", "--members", "3"][..], "--writers must be at most the --members"),
        (&["dm", "--beside", "no.json"], "--html FILE"),
        (&["dm", "--beside", "no.json", "--html", "page.html"], "is not what natter bench --json prints"),
        (&["dm", "--beside", "missing.json", "--html", "page.html"], "cannot read missing.json"),
        (&["dm", "--html", "missing/page.html"], "cannot write missing/page.html"),
        (&["dm", "--body", "31"], "31 is not in 32..=60000"),
        (&["dm", "--ack-every", "257"], "257 is not in 1..=256"),
        (&["mixed", "--shares", "sleep=3"], "there is no kind"),
        (&["dm", "--pids", "4194304"], "there is no process 4194304"),
    ];
    for (args, words) in wrong {
        let output = shell.run(&[&["bench"], args].concat(), "").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(words), "{args:?}: {errors}");
    }
    let command = format!("ulimit -n 150; exec {} bench idle --users 100 --secret-file secret", program().display());
    let mut limited = Command::new("sh");
    limited.args(["-c", &command]).current_dir(shell.folder.path()).env_clear();
    let output = output_of(limited, "").await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("100 connections need 164 descriptors, but this process may open 150"), "{errors}");
}
