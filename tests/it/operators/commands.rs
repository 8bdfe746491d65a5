//! `natter nodes`, `disconnect` and `drain`.

use natter::config::NatsLink;
use serde_json::Value;

use super::{Site, objects};
use crate::{
    harness::{PATIENCE, links::on_both_links, until, wait::until_ok},
    mesh::Peer,
};

async fn all_nodes_say_how_they_are(link: NatsLink) {
    let site = Site::start(link, 2).await;
    let (alice, bob) = (site.mesh.json(0, "alice", "d").await, site.mesh.msgpack(1, "bob", "d").await);
    bob.caught_up().await;
    for n in 1..=5 {
        let (conv, seq) = alice.send("@bob", &format!("c{n}"), "hi").await;
        bob.message(conv.as_str(), seq).await;
    }
    let nodes: Vec<Value> = until_ok(PATIENCE, "both nodes answer", async || {
        let found = objects(site.good(&["nodes", "--json"]).await.as_bytes());
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    for (node, name) in nodes.iter().zip(["n1", "n2"]) {
        let wanted = [("/node", name.into()), ("/state", "serving".into()), ("/store", "ok".into())];
        for (field, value) in
            wanted.into_iter().chain([("/sessions", 1.into()), ("/users", 1.into()), ("/nats/0", true.into())])
        {
            assert_eq!(node.pointer(field), Some::<&Value>(&value), "{field} of {node}");
        }
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    }
    let number = |node: usize, field: &str| nodes[node].pointer(field).and_then(Value::as_f64);
    let some = |value: Option<f64>| value.is_some_and(|value| value > 0.0);
    assert!(some(number(0, "/recent/stored_per_sec")) && !some(number(1, "/recent/stored_per_sec")), "{nodes:?}");
    assert!(some(number(0, "/recent/append/p50_ms")) && some(number(1, "/recent/handed_per_sec")), "{nodes:?}");
    assert!(number(1, "/recent/delivery/p99_ms").is_some(), "{nodes:?}");
    let table = site.good(&["nodes"]).await;
    for word in ["n1", "n2", "serving", "append ms", "stored/s"] {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
    assert!(!table.contains('\x1b'), "colours are for terminals: {table:?}");
}

async fn a_users_sessions_are_ended_everywhere_and_nobody_elses(link: NatsLink) {
    let site = Site::start(link, 2).await;
    let join = async |node: usize, user: &str, device: &str| {
        let peer = site.mesh.json(node, user, device).await;
        peer.caught_up().await;
        peer
    };
    let (phone, desk, tablet) =
        (join(0, "alice", "phone").await, join(1, "alice", "desk").await, join(1, "alice", "tablet").await);
    let bob = join(0, "bob", "phone").await;
    let text = site.good(&["disconnect", "alice", "--device", "phone", "--wait", "5000"]).await;
    assert_eq!(text, "1 session of alice ended: phone on n1\n");
    assert_eq!(phone.closed().await.0, 4103);
    assert!(desk.closed_now().is_none() && tablet.closed_now().is_none());
    let ended =
        objects(site.good(&["disconnect", "alice", "--code", "4000", "--json", "--wait", "5000"]).await.as_bytes());
    let mut devices: Vec<_> =
        ended.iter().map(|one| (one["node"].as_str().unwrap(), one["device"].as_str().unwrap())).collect();
    devices.sort_unstable();
    assert_eq!(devices, [("n2", "desk"), ("n2", "tablet")]);
    assert_eq!((desk.closed().await.0, tablet.closed().await.0), (4000, 4000));
    let none = site.run(&["disconnect", "alice"]).await;
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stdout).starts_with("alice has no such session on n"), "{none:?}");
    let usage = site.run(&["disconnect", "alice", "--code", "4100"]).await;
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    assert!(String::from_utf8_lossy(&usage.stderr).contains("must be one of 4103 (disconnected)"), "{usage:?}");
    bob.round_trip().await;
    assert_eq!(bob.closed_now(), None);
}

async fn a_node_is_drained_and_the_last_one_is_not(link: NatsLink) {
    let mut site = Site::start(link, 2).await;
    let (alice, bob) = (site.mesh.json(0, "alice", "d").await, site.mesh.json(1, "bob", "d").await);
    let drain = |node: &'static str| ["drain", node, "--wait", "5000"];
    let words = site.bad(&drain("n9")).await;
    assert!(words.contains("no node called n9 answers") && words.contains("n1, n2"), "{words}");
    assert_eq!(site.run(&["drain", "*"]).await.status.code(), Some(2), "one node, never all");
    // While it is drained, and before it is: the process that watches it.
    let drained = site.good(&drain("n1")).await;
    assert!(drained.starts_with("n1 drains: 1 sessions") && drained.ends_with("came to its end\n"), "{drained}");
    assert_eq!(alice.closed().await.0, 4000);
    assert!(site.mesh.nodes.remove(0).drain().await, "it had ended, in time");
    bob.round_trip().await;
    let words = site.bad(&drain("n2")).await;
    assert!(words.contains("n2 is the only node that takes connections") && words.contains("--last"), "{words}");
    bob.round_trip().await;
    site.good(&["drain", "n2", "--last", "--quiet", "--wait", "5000"]).await;
    assert_eq!(bob.closed().await.0, 4000);
    let words = site.bad(&["nodes"]).await;
    assert!(words.contains("no node answered"), "{words}");
}

/// A session that does not end in time: the command says so, and its exit code does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stopping_is_shown_and_not_drained_twice() {
    let site = Site::tuned(2, |config| config.timing.drain_min_secs = 3_600).await;
    let _alice: Peer = site.mesh.json(0, "alice", "d").await;
    let mut draining = crate::harness::process::Process::reading(site.command(&["drain", "n1", "--wait", "5000"]));
    draining.line_after("n1 drains: 1 sessions").await;
    until("it is shown", async || site.good(&["nodes"]).await.contains("leaving")).await;
    let words = site.bad(&["drain", "n1", "--wait", "5000"]).await;
    assert!(words.contains("n1 is stopping already"), "{words}");
}

on_both_links!(
    all_nodes_say_how_they_are,
    a_users_sessions_are_ended_everywhere_and_nobody_elses,
    a_node_is_drained_and_the_last_one_is_not,
);
