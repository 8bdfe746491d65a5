//! `natter send`, `tail` and `bench` as a person runs them, against nodes in this process; and `migrate` when there is
//! nothing to migrate.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{
    harness::{natter::natter, process::output_of},
    mesh::{SECRET, TestMesh},
};

/// A mesh, and commands that know its secret.
struct Shell {
    mesh: TestMesh,
    folder: tempfile::TempDir,
}

impl Shell {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        Self { mesh: TestMesh::start(2).await, folder }
    }

    fn urls(&self) -> [String; 2] {
        [0, 1].map(|node| self.mesh.nodes[node].url())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = natter(self.folder.path());
        command.args(args).args(["--secret-file", "secret"]);
        command
    }

    /// Runs a command to its end without blocking the nodes.
    async fn run(&self, args: &[&str], input: &str) -> Output {
        output_of(self.command(args), input).await
    }

    async fn good(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {} {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_tailed_once() {
    let shell = Shell::start().await;
    let [one, other] = shell.urls();
    let send = ["send", "--user", "alice", "--to", "@bob", "--url", &one];
    assert_eq!(shell.good(&[&send[..], &["hello"]].concat(), "").await, "dm:alice:bob 1\n");
    assert_eq!(
        shell.good(&[&send[..], &["-"]].concat(), "two\nthree\n").await,
        "dm:alice:bob 2\ndm:alice:bob 3\n",
        "one message for each line, in order"
    );
    for _ in 0..2 {
        let sent = shell.good(&[&send[..], &["--cid", "c", "--json-body", "{\"n\":4}", "--json"]].concat(), "").await;
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap()["seq"], 4, "the same cid is stored once");
    }
    let tail = ["tail", "--user", "bob", "--once", "--json", "--url", &other];
    let bodies = |text: String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].clone()).collect()
    };
    let all = ["hello".into(), "two".into(), "three".into(), serde_json::json!({"n": 4})];
    assert_eq!(bodies(shell.good(&tail, "").await), all);
    assert!(shell.good(&tail, "").await.is_empty(), "what was printed was acknowledged");
    assert_eq!(bodies(shell.good(&[&tail[..], &["--from-start"]].concat(), "").await), all);
    let other_device = shell.good(&[&tail[..], &["--device", "other", "-n", "1"]].concat(), "").await;
    assert_eq!(other_device.lines().count(), 1, "{other_device}");
}

/// A room from its making to its messages, and what the lists show of it.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_made_joined_and_listed() {
    let shell = Shell::start().await;
    let [one, other] = shell.urls();
    let rooms = |user: &'static str, what: &[&'static str]| {
        [&["rooms", "--user", user][..], what].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |user: &'static str, what: &[&'static str]| {
        let args = rooms(user, what);
        let args: Vec<&str> =
            args.iter().map(String::as_str).chain(["--url", if user == "alice" { &one } else { &other }]).collect();
        shell.good(&args, "").await
    };
    assert_eq!(run("alice", &["create", "lobby", "--topic", "all of us", "--public"]).await, "room:lobby 1\n");
    assert_eq!(run("bob", &["join", "lobby"]).await, "room:lobby 2\n");
    assert_eq!(run("bob", &["join", "lobby"]).await, "room:lobby: it is so already\n");
    assert_eq!(
        shell.good(&["send", "--user", "alice", "--to", "#lobby", "hello", "--url", &one], "").await,
        "room:lobby 3\n"
    );
    let tailed = shell.good(&["tail", "--user", "bob", "--once", "--url", &other], "").await;
    assert!(tailed.contains(" room:lobby 3 alice: hello\n"), "{tailed}");
    let listed = run("bob", &["list"]).await;
    for word in ["lobby", "member", "all of us", "unread"] {
        assert!(listed.contains(word), "{word} is missing:\n{listed}");
    }
    let members = run("alice", &["members", "lobby", "--json"]).await;
    let users: Vec<Value> =
        members.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["user"].clone()).collect();
    assert_eq!(users, ["alice", "bob"]);
    let history = shell.good(&["history", "--user", "alice", "room:lobby", "--url", &one, "--json"], "").await;
    let rows: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["body"]["event"], &rows[1]["body"]), (2, &"joined".into(), &"hello".into()));
    let refused = shell.run(&["rooms", "--user", "bob", "kick", "lobby", "alice", "--url", &other], "").await;
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("only an owner or a moderator may do that"), "{words}");
    shell.good(&["send", "--user", "bob", "--to", "@alice", "psst", "--url", &other], "").await;
    let listed = shell.good(&["conversations", "--user", "alice", "--url", &one], "").await;
    assert!(listed.contains("dm:alice:bob") && listed.contains("bob: psst"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_a_failure() {
    let shell = Shell::start().await;
    let [one, _] = shell.urls();
    let cases = [
        (vec!["send", "--user", "alice", "--to", "@b.b", "--url", &one, "x"], "to: may hold only letters"),
        (vec!["send", "--user", "alice", "--to", "@b", "--url", &one, "--json-body", "{"], "is not JSON"),
        (
            vec!["send", "--user", "alice", "--to", "@b", "--url", &one, "--json-body", "{\"n\":18446744073709551616}"],
            "an integer beyond 64 bits (18446744073709551616): put it in quotes",
        ),
        (vec!["send", "--to", "@b", "--url", &one, "x"], "nobody to connect as"),
        (vec!["tail", "--user", "alice", "--url", "ws://127.0.0.1:1/v1/ws"], "is the node running?"),
    ];
    for (args, words) in cases {
        let output = shell.run(&args, "").await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(errors.contains(words) && output.stdout.is_empty(), "{args:?}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_measures_and_finds_nothing_amiss() {
    let shell = Shell::start().await;
    let (urls, pid) = (shell.urls().join(","), std::process::id().to_string());
    let bench = ["bench", "--json", "--url", &urls, "--warmup", "0", "--duration", "1", "--pairs", "4", "--pids", &pid];
    for load in [&["--in-flight", "4"][..], &["--rate", "200", "--encoding", "msgpack", "--mixed"]] {
        let report: Value = serde_json::from_str(&shell.good(&[&bench[..], load].concat(), "").await).unwrap();
        let none = serde_json::json!({"lost": 0, "duplicated": 0, "out_of_order": 0});
        assert_eq!((&report["integrity"], &report["unanswered"]), (&none, &0.into()), "{report}");
        assert_eq!(report["errors"], serde_json::json!({}), "{report}");
        assert!(report["send_to_receive"]["count"].as_u64() > Some(10), "{report}");
        assert_eq!(report["processes"][0]["pid"], std::process::id(), "{report}");
    }
    let idle = ["bench", "--json", "--url", &urls, "--idle", "20", "--pids", &pid];
    let report: Value = serde_json::from_str(&shell.good(&idle, "").await).unwrap();
    assert_eq!((&report["connections"], &report["failed"]), (&20.into(), &0.into()), "{report}");
}

#[tokio::test]
async fn the_embedded_store_has_nothing_to_migrate() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = natter(folder.path());
    command.arg("migrate");
    let output = output_of(command, "").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: set store.kind"), "{output:?}");
}
