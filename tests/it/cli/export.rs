//! `natter export`, `natter erase`: all that there is of a user, and nothing any more.

use serde_json::{Value, json};

use super::shell::Shell;
use crate::harness::{dev::Dev, natter::natter, process::output_of};

async fn lines(shell: &Shell, url: &str, more: &[&str]) -> Vec<Value> {
    let text = shell.good(&[&["export", "--url", url][..], more].concat(), "").await;
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The bodies of the messages of an export, by conversation.
fn bodies(lines: &[Value]) -> Vec<(&str, &Value)> {
    let messages = lines.iter().filter(|line| line["line"] == "message");
    messages.map(|line| (line["conv"].as_str().unwrap(), &line["body"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_all_that_a_user_may_read_and_says_when_it_is_whole() {
    let shell = Shell::start().await;
    let [one, other] = shell.urls();
    let send = async |user: &str, to: &str, text: &str| {
        shell.good(&["send", "--user", user, "--to", to, "--url", &one, "-"], text).await;
    };
    // More than a page.
    let many: String = (0..450).map(|n| format!("message {n}\n")).collect();
    send("alice", "@bob", &many).await;
    send("bob", "@alice", "an answer\n").await;
    send("bob", "@carol", "not hers\n").await;
    shell.good(&["rooms", "--user", "alice", "create", "den", "--url", &one], "").await;
    send("alice", "#den", "in the room\n").await;

    let all = lines(&shell, &other, &["alice"]).await;
    assert_eq!((&all[0]["line"], &all[0]["user"]), (&json!("export"), &json!("alice")));
    let end = all.last().unwrap();
    assert_eq!(end, &json!({"line": "end", "conversations": 2, "messages": 452}));
    let said = bodies(&all);
    assert_eq!(said.len(), 452);
    assert_eq!(said.iter().filter(|(conv, _)| *conv == "room:den").count(), 1);
    assert!(
        said.contains(&("dm:alice:bob", &json!("message 449")))
            && said.contains(&("dm:alice:bob", &json!("an answer")))
    );
    assert!(!said.iter().any(|(_, body)| **body == json!("not hers")));
    let count = |kind: &str| all.iter().filter(|line| line["line"] == kind).count();
    assert_eq!((count("room"), count("conversation"), count("blocked")), (1, 1, 0));
    assert!(all.iter().any(|line| line["line"] == "device"), "{:?}", &all[..4]);
    let own = lines(&shell, &other, &["alice", "--own"]).await;
    assert_eq!(own.last().unwrap()["messages"], 451, "all but the answer");

    let file = shell.folder.path().join("alice.jsonl");
    let to_file = ["export", "--user", "alice", "--url", &one, "--out", file.to_str().unwrap()];
    shell.good(&to_file, "").await;
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), all.len());
    let again = shell.run(&to_file, "").await;
    let errors = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && errors.contains("cannot write") && errors.contains("alice.jsonl"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_by_an_operator_has_said_nothing() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = cache.path().to_str().unwrap();
    let _mesh = Dev::start_with(folder.path(), 2, 0, &[("NATTER_CACHE", cache), ("NATTER_SEALING__ON", "true")]).await;
    let run = async |args: &[&str]| {
        let mut command = natter(folder.path());
        command.args(args).env("NATTER_CACHE", cache);
        output_of(command, "").await
    };
    let sent = run(&["send", "--user", "alice", "--to", "@bob", "words"]).await;
    assert!(sent.status.success(), "{sent:?}");
    let doubtful = run(&["erase", "alice"]).await;
    assert!(!doubtful.status.success() && String::from_utf8_lossy(&doubtful.stderr).contains("--yes"), "{doubtful:?}");
    let erased = run(&["erase", "alice", "--yes", "--json"]).await;
    let said: Value = serde_json::from_slice(&erased.stdout).unwrap_or_else(|_| panic!("{erased:?}"));
    assert_eq!((&said["user"], &said["months"]), (&json!("alice"), &json!(1)), "{said}");
    let history = run(&["history", "--user", "bob", "dm:alice:bob", "--json"]).await;
    let message: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!((&message["body"], &message["deleted"]), (&Value::Null, &json!("alice")), "{message}");
}
