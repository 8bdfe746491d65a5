//! One message at a time of each subject: what is kept, what is repeated, what is poison, what fails and is tried again.

use natter::store::Store;
use serde_json::json;

use super::{Billing, Inside, cids, failing::Failing, queued, rows};
use crate::{harness::until, mesh::TestMesh};

#[tokio::test]
async fn what_is_published_while_no_node_runs_is_stored_once_and_in_order_when_one_does() {
    let mut mesh = TestMesh::bare(queued).await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    for n in 0..20 {
        billing.say("bob", &format!("c{n}")).await;
    }
    // A publisher that heard no acknowledgement publishes again.
    billing.say("bob", "c3").await;
    mesh.add_node(mesh.nats.client_url()).await;
    inside.is_empty().await;
    let stored: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
    assert_eq!(cids(&*mesh.store, "dm:billing:bob").await, stored);
    // From now on it comes at once, to those who are connected.
    let bob = mesh.json(0, "bob", "d").await;
    billing.say("bob", "live").await;
    let message = bob.message("dm:billing:bob", 21).await;
    assert_eq!((message.from.as_str(), message.cid.map(|cid| cid.to_string())), ("billing", Some("live".to_owned())));
    assert_eq!(inside.dead().await, []);
}

#[tokio::test]
async fn the_cid_is_the_bodys_or_the_id_of_the_publish_or_made_of_its_place() {
    let mesh = TestMesh::tuned(1, queued).await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    billing.publish("user.bob", r#"{"cid":"body","body":1}"#, Some("other")).await;
    billing.publish("user.bob", r#"{"body":2}"#, Some("message-id")).await;
    let place = billing.publish("user.bob", r#"{"body":3}"#, None).await["seq"].as_u64().unwrap();
    billing.publish("user.bob", r#"{"body":3}"#, None).await;
    inside.is_empty().await;
    let cids = cids(&*mesh.store, "dm:billing:bob").await;
    assert_eq!(cids[..2], ["body", "message-id"]);
    assert!(cids[2].starts_with(&format!("queue-{place}-")), "{cids:?}");
    assert!(cids.len() == 4 && cids[3] != cids[2], "two that name no cid are two: {cids:?}");
}

#[tokio::test]
async fn what_is_poison_is_kept_with_the_reason_and_holds_nothing_up() {
    let mut mesh = TestMesh::bare(queued).await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    let large = json!({ "cid": "large", "body": "x".repeat(mesh.config.limits.body_bytes + 1) }).to_string();
    let poison = [
        ("user.bob", "nonsense", "bad_frame", "the request is not JSON"),
        ("user.bob", r#"{"cid":"x","body":1,"from":"eve"}"#, "unauthorized", "services.billing.may_send_as"),
        ("user.bob", r#"{"cid":"c0","body":"another"}"#, "cid_reused", "cid"),
        ("user.bob", large.as_str(), "too_large", "body"),
        ("user.b$b", r#"{"cid":"x","body":1}"#, "bad_name", "natter.queue.billing.user.b$b"),
        ("user.bob.more", r#"{"cid":"x","body":1}"#, "bad_name", "natter.queue.billing.user.bob.more"),
        ("bob", r#"{"cid":"x","body":1}"#, "bad_name", "natter.queue.billing.bob"),
    ];
    billing.say("bob", "c0").await;
    for (n, (to, payload, ..)) in poison.iter().enumerate() {
        billing.publish(to, payload, None).await;
        billing.say("bob", &format!("c{}", n + 1)).await;
    }
    // More than could ever be taken is refused to its publisher.
    let refused = billing.publish("user.bob", &"x".repeat(300_000), None).await;
    assert!(refused["error"]["description"].as_str().unwrap().contains("size"), "{refused}");
    let node = mesh.add_node(mesh.nats.client_url()).await;
    inside.is_empty().await;
    assert_eq!(node.metric("natter_queue_messages_total{outcome=\"dead\"").await, poison.len() as f64);
    assert_eq!(node.metric("natter_queue_messages_total{outcome=\"again\"").await, 0.0);
    let good: Vec<_> = (0..=poison.len()).map(|n| format!("c{n}")).collect();
    assert_eq!(cids(&*mesh.store, "dm:billing:bob").await, good);
    let dead = inside.dead().await;
    assert_eq!(dead.len(), poison.len());
    for (to, payload, code, words) in poison {
        let subject = format!("natter.queue.billing.{to}");
        let found = dead.iter().find(|dead| (dead.subject.as_str(), dead.body.as_str()) == (&subject, payload));
        let found = found.unwrap_or_else(|| panic!("{payload:.60} is not kept"));
        assert_eq!((found.code.as_str(), found.tries), (code, 1), "{}", found.message);
        assert!(found.message.contains(words) && found.sequence > 1, "{found:?}");
    }
}

/// The server answers a publish wherever the publisher says.
#[tokio::test]
async fn an_acknowledgement_that_goes_to_a_users_subject_moves_nothing() {
    let mesh = TestMesh::tuned(2, queued).await;
    let billing = Billing::connect(&mesh.nats).await;
    let bob = mesh.json(1, "bob", "d").await;
    bob.caught_up().await;
    let subject = "natter.queue.billing.user.bob";
    for (n, reply) in ["natter.user.bob", "natter.log.17", "natter.node.n1.answer.1"].into_iter().enumerate() {
        let payload = json!({ "cid": format!("c{n}"), "body": n }).to_string();
        billing.0.publish_with_reply(subject, reply, payload.into()).await.unwrap();
    }
    billing.say("bob", "end").await;
    bob.message("dm:billing:bob", 4).await;
    assert_eq!(bob.seqs("dm:billing:bob"), [1, 2, 3, 4]);
    assert_eq!(bob.closed_now(), None);
}

#[tokio::test]
async fn what_fails_holds_back_its_subject_alone_and_goes_on_in_order() {
    let mut mesh = TestMesh::bare(queued).await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    let failing = Failing::before(&Store::of(mesh.store.clone()));
    failing.refuse("c1");
    mesh.add_node_on(mesh.nats.client_url(), failing.store()).await;
    for cid in ["c0", "c1", "c2", "c3"] {
        billing.say("bob", cid).await;
        billing.say("carol", cid.replace('c', "k").as_str()).await;
    }
    until("the others are stored", async || cids(&*mesh.store, "dm:billing:carol").await.len() == 4).await;
    until("it was tried again", async || failing.refused() > 3).await;
    assert_eq!(cids(&*mesh.store, "dm:billing:bob").await, ["c0"]);
    until("nothing else waits", async || inside.waiting().await == 3).await;
    failing.allow();
    inside.is_empty().await;
    assert_eq!(cids(&*mesh.store, "dm:billing:bob").await, ["c0", "c1", "c2", "c3"]);
    assert_eq!(inside.dead().await, []);
}

#[tokio::test]
async fn what_fails_again_and_again_while_the_store_is_well_is_given_up() {
    let mut mesh = TestMesh::bare(|config| {
        queued(config);
        config.queue.tries = 4;
    })
    .await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    let failing = Failing::before(&Store::of(mesh.store.clone()));
    failing.refuse("c1");
    let node = mesh.add_node_on(mesh.nats.client_url(), failing.store()).await;
    let addr = node.addr;
    for cid in ["c0", "c1", "c2"] {
        billing.say("bob", cid).await;
    }
    inside.is_empty().await;
    assert_eq!(cids(&*mesh.store, "dm:billing:bob").await, ["c0", "c2"]);
    let dead = inside.dead().await;
    let [dead] = &dead[..] else { panic!("{dead:?}") };
    assert_eq!((dead.code.as_str(), dead.tries, dead.sequence), ("unavailable", 4, 2));
    assert!(dead.cid.starts_with("queue-2-") && dead.body.contains("c1") && failing.refused() == 4, "{dead:?}");
    let again = crate::harness::http::metric(addr, "natter_queue_messages_total{outcome=\"again\"").await;
    assert_eq!(again, 3.0);
}

#[tokio::test]
async fn a_store_that_is_away_counts_no_tries() {
    let mut mesh = TestMesh::bare(|config| {
        queued(config);
        config.queue.tries = 2;
    })
    .await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    let failing = Failing::before(&Store::of(mesh.store.clone()));
    let node = mesh.add_node_on(mesh.nats.client_url(), failing.store()).await;
    let addr = node.addr;
    failing.go_away();
    for n in 0..10 {
        billing.say("bob", &format!("c{n}")).await;
        billing.say("carol", &format!("c{n}")).await;
    }
    until("both were tried far more often", async || failing.refused() > 10).await;
    assert!(crate::harness::http::get(addr, "/readyz").await.is_some_and(|answer| answer.status == 503));
    failing.come_back();
    inside.is_empty().await;
    let all: Vec<_> = (0..10).map(|n| format!("c{n}")).collect();
    for conv in ["dm:billing:bob", "dm:billing:carol"] {
        assert_eq!(cids(&*mesh.store, conv).await, all);
    }
    assert_eq!(inside.dead().await, []);
}

#[tokio::test]
async fn a_service_that_asks_for_too_much_waits_and_loses_nothing() {
    use natter::{config::Service, model::UserId};
    let mut mesh = TestMesh::bare(|config| {
        queued(config);
        config.queue.tries = 1;
        let rules = Service { requests_per_sec: 10, ..Service::default() };
        config.services.insert(UserId::new("billing").unwrap(), rules);
    })
    .await;
    let (inside, billing) = (Inside::of_mesh(&mesh).await, Billing::connect(&mesh.nats).await);
    for n in 0..60 {
        billing.say(&format!("u{}", n % 20), &format!("c{n}")).await;
    }
    mesh.add_node(mesh.nats.client_url()).await;
    inside.is_empty().await;
    let again = mesh.nodes[0].metric("natter_queue_messages_total{outcome=\"again\"").await;
    assert!(again > 0.0, "nothing was too much: this shows nothing");
    assert_eq!(inside.dead().await, []);
    for user in 0..20 {
        assert_eq!(rows(&*mesh.store, &format!("dm:billing:u{user}")).await.len(), 3);
    }
}
