//! `natter trace`: the points of a message, and that nodes tell none when nobody asks any more.

use std::time::Duration;

use natter::{config::NatsLink, model::UserId};
use serde_json::Value;

use super::Site;
use crate::{
    harness::{links::on_both_links, process::Process, until},
    mesh::TestNode,
};

fn is_on(node: &TestNode) -> bool {
    node.weak_gateway().upgrade().is_some_and(|gateway| gateway.ops().router().traces().is_on())
}

/// The next points until one is of this step and device.
async fn points_until(trace: &mut Process, step: &str, device: Option<&str>) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let line = trace.line().await.unwrap_or_else(|| panic!("it ended after {all:?}: {}", trace.log()));
        let point: Value = serde_json::from_str(&line).unwrap();
        all.push(point.clone());
        if point["step"] == step && point["device"].as_str() == device {
            return all;
        }
    }
}

fn has(points: &[Value], step: &str, node: &str, user: Option<&str>) -> bool {
    points.iter().any(|point| point["step"] == step && point["node"] == node && point["user"].as_str() == user)
}

async fn a_message_is_followed_from_node_to_node(link: NatsLink) {
    let site = Site::start(link, 2).await;
    let (alice, bob) = (site.mesh.json(0, "alice", "laptop").await, site.mesh.json(1, "bob", "phone").await);
    let (carol, _dave) = (site.mesh.json(0, "carol", "d").await, site.mesh.json(1, "dave", "d").await);
    bob.caught_up().await;
    let mut trace = Process::reading(site.command(&["trace", "alice", "--json"]));
    trace.says("following alice on n1, n2").await;
    carol.send("@dave", "c", "of others nothing is told").await;
    let (conv, seq) = alice.send("@bob", "hello", "hi").await;
    let mut points = points_until(&mut trace, "acknowledged", Some("phone")).await;
    if !points.iter().any(|point| point["step"] == "acknowledged" && point["device"] == "laptop") {
        points.extend(points_until(&mut trace, "acknowledged", Some("laptop")).await);
    }
    assert!(points.iter().all(|point| point["conv"] == conv.as_str() && point["seq"] == seq), "{points:?}");
    for (step, node, user) in [
        ("stored", "n1", None),
        ("published", "n1", None),
        ("handed", "n1", Some("alice")),
        ("handed", "n2", Some("bob")),
        ("acknowledged", "n2", Some("bob")),
    ] {
        assert!(has(&points, step, node, user), "no {step} of {user:?} on {node}: {points:?}");
    }
    assert_eq!(
        (&points[0]["step"], &points[0]["cid"], &points[0]["from"]),
        (&"stored".into(), &"hello".into(), &"alice".into())
    );
    assert!(!points.iter().any(|point| point.to_string().contains("hi\"")), "no bodies: {points:?}");
    alice.send("@erin", "lost", "is anybody there?").await;
    let points = points_until(&mut trace, "offline", None).await;
    assert!(has(&points, "offline", "n1", Some("erin")), "{points:?}");

    trace.signal(libc::SIGINT);
    assert_eq!(trace.ended().await.code(), Some(0), "{}", trace.log());
    until("nobody is followed any more", async || !site.mesh.nodes.iter().any(is_on)).await;
}

/// Whoever asked is gone without a word: the lease ends, and with the next message the node is as if nobody had asked.
async fn a_lease_ends_by_itself(link: NatsLink) {
    let site = Site::start(link, 1).await;
    let alice = site.mesh.json(0, "alice", "d").await;
    let node = &site.mesh.nodes[0];
    let user = UserId::new("alice").unwrap();
    let follow = |lease| {
        let gateway = node.weak_gateway().upgrade().unwrap();
        gateway.ops().router().traces().follow(user.clone(), "gone", Duration::from_millis(lease))
    };
    follow(60_000).unwrap();
    alice.send("@bob", "c", "hi").await;
    assert!(is_on(node));
    // Prolonged, and so ended, by the same name.
    follow(1).unwrap();
    let mut count = 0;
    until("it ended", async || {
        count += 1;
        alice.send("@bob", &format!("c{count}"), "hi").await;
        !is_on(node)
    })
    .await;
}

on_both_links!(a_message_is_followed_from_node_to_node, a_lease_ends_by_itself);
