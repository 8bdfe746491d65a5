//! `send_many`: one message to many users, with an answer for each.

use async_nats::ConnectOptions;
use natter::client::{Client, ClientOptions};
use serde_json::{Value, json};

use super::{Caller, mesh, problem, services, user};
use crate::{
    harness::until,
    mesh::{TestMesh, token},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_of_a_batch_has_an_answer_of_its_own() {
    let mesh = TestMesh::tuned(2, |config| {
        services(config);
        config.timing.blocks_known_ms = 300;
    })
    .await;
    let billing = Caller::of("billing");
    let (bob, carol) = (mesh.json(0, "bob", "d").await, mesh.json(1, "carol", "d").await);
    let dave = Client::connect(ClientOptions::new(mesh.nodes[0].url(), token("dave"), "c")).await.unwrap();
    dave.block(&user("billing")).await.unwrap();
    // Erin has a message under this cid already, with another body.
    let other = json!({"to": "@erin", "cid": "notice", "body": "else"});
    assert_eq!(billing.ask(&mesh.nodes[0], "send", &other).await.status, 200);
    let fields =
        json!({"users": ["carol", "dave", "bob", "erin"], "cid": "notice", "body": {"text": "we close at six"}});
    let mut first = None;
    until("the block is known here", async || {
        let answer = billing.ask(&mesh.nodes[0], "send_many", &fields).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        first = Some(answer.json());
        first.as_ref().is_some_and(|answer| answer["items"][1]["error"]["code"] == "blocked")
    })
    .await;
    let first = first.unwrap();
    let items = first["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|item| item["user"].as_str().unwrap()).collect();
    assert_eq!(names, ["carol", "dave", "bob", "erin"], "in the order of the request");
    for (item, conv) in [(&items[0], "dm:billing:carol"), (&items[2], "dm:billing:bob")] {
        assert!(
            item["conv"] == conv && item["seq"] == 1 && item["ts"].is_u64() && item.get("error").is_none(),
            "{item}"
        );
    }
    assert_eq!(items[3]["error"]["code"], "cid_reused");
    assert_eq!(items[3]["error"]["retry"], false);
    bob.message("dm:billing:bob", 1).await;
    carol.message("dm:billing:carol", 1).await;
    // Again, on the other node and over NATS: nothing is stored twice.
    let again = billing.ask(&mesh.nodes[1], "send_many", &fields).await.json();
    assert_eq!((&again["items"][0], &again["items"][2]), (&items[0], &items[2]));
    let nats = ConnectOptions::with_user_and_password("billing".into(), mesh.nats.passwords().billing.clone())
        .custom_inbox_prefix("_INBOX_billing")
        .connect(mesh.nats.client_url())
        .await
        .unwrap();
    let reply = nats.request("natter.do.billing.send_many", fields.to_string().into()).await.unwrap().payload;
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!((&reply["items"][0], &reply["items"][2]), (&items[0], &items[2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_to_a_thousand_users_and_no_more() {
    let mesh = mesh(1).await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    let users: Vec<String> = (0..1000).map(|n| format!("{n:04}{}", "x".repeat(60))).collect();
    let answer = billing.ask(node, "send_many", &json!({"users": users, "cid": "c", "body": "hi"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let stored = answer["items"].as_array().unwrap().iter().filter(|item| item["seq"] == 1).count();
    assert_eq!(stored, 1000);
    assert_eq!(node.metric("natter_appended_total").await, 1000.0);
    let more: Vec<String> = (0..1001).map(|n| format!("u{n}")).collect();
    for (users, code) in [
        (json!(more), "bad_frame"),
        (json!([]), "bad_frame"),
        (json!(["bob", "bob"]), "bad_frame"),
        (json!(["bob", "b b"]), "bad_name"),
        (json!("bob"), "bad_frame"),
    ] {
        let answer = billing.ask(node, "send_many", &json!({"users": users, "cid": "c", "body": "hi"})).await;
        assert_eq!(problem(&answer, 400), code);
        assert_eq!(answer.json()["field"], "users", "{answer:?}");
    }
    let large = json!({"users": ["bob"], "cid": "c", "body": "x".repeat(mesh.config.limits.body_bytes)});
    assert_eq!(problem(&billing.ask(node, "send_many", &large).await, 413), "too_large");
}

#[tokio::test]
async fn no_client_asks_for_a_batch() {
    let mesh = mesh(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    let reference = alice.fresh_ref();
    alice.say_raw(format!(r#"{{"op":"send_many","ref":{reference},"users":["bob"],"cid":"c","body":1}}"#));
    let answer = format!("{:?}", alice.answer(reference).await);
    assert!(answer.contains("UnknownOp"), "{answer}");
}
