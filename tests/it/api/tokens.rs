//! `mint`: tokens for users whom a service has signed in.

use natter::{
    client::{Client, ClientOptions},
    config::{SendAs, Service, Star},
    model::now_millis,
    protocol::Body,
};
use serde_json::json;

use super::{Caller, problem, user};
use crate::mesh::TestMesh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_hands_out_tokens_to_whom_it_has_signed_in() {
    let mesh = TestMesh::tuned(1, |config| {
        let may_act_for = SendAs::Anyone(Star::Star);
        let mints = Service { may_act_for, http: true, mints_tokens: true, ..Service::default() };
        config.services.insert(user("shop"), Service { mints_tokens: false, ..mints.clone() });
        config.services.insert(user("portal"), mints);
    })
    .await;
    let (node, portal) = (&mesh.nodes[0], Caller::of("portal"));
    let mint = async |ttl: u64| portal.ask(node, "mint", &json!({"from": "alice", "ttl": ttl})).await;
    let before = now_millis() / 1000;
    let minted = mint(600).await.json();
    assert_eq!(minted["user"], "alice");
    assert!((before + 600..=now_millis() / 1000 + 600).contains(&minted["exp"].as_u64().unwrap()), "{minted}");
    let token = minted["token"].as_str().unwrap();
    let alice = Client::connect(ClientOptions::new(node.url(), token.to_owned(), "phone")).await.unwrap();
    let sent = alice.send("@bob", Body::text("hi")).await.unwrap();
    assert_eq!(sent.conv.as_str(), "dm:alice:bob");
    assert_eq!(
        problem(&Caller::with(token).ask(node, "rooms", &json!({})).await, 401),
        "unauthorized",
        "a user is no service"
    );

    for ttl in [59, 86_401] {
        assert_eq!(problem(&mint(ttl).await, 400), "bad_frame");
    }
    assert_eq!(mint(60).await.status, 200);
    let of_a_service = portal.ask(node, "mint", &json!({"from": "shop"})).await;
    assert_eq!(problem(&of_a_service, 403), "not_allowed");
    assert_eq!(
        problem(&portal.ask(node, "mint", &json!({})).await, 403),
        "unauthorized",
        "it has no name of its own to log in"
    );
    let shop = Caller::of("shop").ask(node, "mint", &json!({"from": "alice"})).await;
    assert_eq!(problem(&shop, 403), "unauthorized");
    assert!(shop.json()["detail"].as_str().unwrap().contains("services.shop.mints_tokens"), "{shop:?}");
}
