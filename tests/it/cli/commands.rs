//! `natter send`, `tail` and others as a person runs them, against nodes in this process; and `migrate` when there is
//! nothing to migrate.

use serde_json::Value;

use super::shell::Shell;
use crate::harness::{natter::natter, process::output_of};

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

/// A message is changed, reacted to and deleted, each by who may; and one room is followed beside everything else.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_edited_reacted_to_and_deleted() {
    let shell = Shell::start().await;
    let [one, other] = shell.urls();
    let run = async |args: &[&str]| shell.good(&[args, &["--url", &one]].concat(), "").await;
    let history = async |user: &str| run(&["history", "--user", user, "dm:alice:bob"]).await;
    for text in ["helo", "oops"] {
        run(&["send", "--user", "alice", "--to", "@bob", text]).await;
    }
    assert_eq!(run(&["edit", "--user", "alice", "dm:alice:bob", "1", "hello"]).await, "dm:alice:bob 3\n");
    let reacted = run(&["react", "--user", "bob", "dm:alice:bob", "1", "+1", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&reacted).unwrap()["seq"], 4);
    let shown = history("bob").await;
    assert!(shown.contains("hello") && shown.contains("+1") && !shown.contains("helo\n"), "{shown}");
    run(&["react", "--user", "bob", "dm:alice:bob", "1", "+1", "--remove"]).await;
    run(&["delete", "--user", "alice", "dm:alice:bob", "2"]).await;
    let shown = history("bob").await;
    assert!(!shown.contains("+1") && !shown.contains("oops"), "{shown}");
    let refused = shell.run(&["edit", "--user", "bob", "dm:alice:bob", "1", "mine", "--url", &other], "").await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && words.contains("not done") && words.contains("somebody else wrote"),
        "{words}"
    );
    let refused = shell.run(&["react", "--user", "bob", "dm:alice:bob", "99", "+1", "--url", &other], "").await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("re: there is no message at 99"), "{words}");

    run(&["rooms", "--user", "alice", "create", "lobby"]).await;
    run(&["send", "--user", "alice", "--to", "#lobby", "first"]).await;
    let tail = ["tail", "--user", "alice", "--once", "--room", "lobby", "--url", &other];
    let tailed = shell.good(&tail, "").await;
    assert!(tailed.contains("room:lobby 2 alice: first\n") && !tailed.contains("dm:"), "{tailed}");
    run(&["send", "--user", "alice", "--to", "#lobby", "second"]).await;
    let tailed = shell.good(&tail, "").await;
    assert_eq!(tailed.lines().count(), 1, "what was printed was acknowledged: {tailed}");
    let all = shell.good(&[&tail[..], &["--from-start"]].concat(), "").await;
    assert!(all.contains("first") && all.contains("second") && !all.contains("dm:"), "{all}");
    let rest = shell.good(&["tail", "--user", "alice", "--once", "--url", &other], "").await;
    assert!(
        rest.contains("dm:alice:bob 6 alice deleted 2") && !rest.contains("room:lobby"),
        "the others were left: {rest}"
    );
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

#[tokio::test]
async fn the_embedded_store_has_nothing_to_migrate() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = natter(folder.path());
    command.arg("migrate");
    let output = output_of(command, "").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: set store.kind"), "{output:?}");
}
