//! Users who are erased (R29), on both stores: what they have said is shown as deleted everywhere, to who had it and to who had
//! not, and nothing else changes.

use std::net::SocketAddr;

use natter::{
    client::{Client, ClientOptions, Event},
    config::{Config, SendAs, Service, Star},
    model::{ConvId, MAX_SEQ},
    protocol::{Body, HistoryFrom, Message},
};
use serde_json::json;

use super::{TestMesh, service_token, token};
use crate::{
    harness::{
        http::{self, Answer},
        until,
    },
    store::contract::user,
};

/// How long a node goes by what it knew.
pub const KNOWN_MS: u64 = 500;

/// What the scenarios need of a configuration.
pub fn sealed(config: &mut Config) {
    config.sealing.on = true;
    config.sealing.known_ms = KNOWN_MS;
    let may_act_for = SendAs::Anyone(Star::Star);
    let rules = Service { may_act_for, http: true, erases_users: true, ..Service::default() };
    config.services.insert(user("dpo"), Service { erases_users: true, ..rules.clone() });
    config.services.insert(user("shop"), Service { erases_users: false, ..rules });
}

pub async fn client(url: &str, name: &str) -> Client {
    Client::connect(ClientOptions::new(url, token(name), "phone")).await.unwrap()
}

/// Has a service ask a node to erase somebody.
pub async fn ask_to_erase(node: SocketAddr, service: &str, whom: &str) -> Answer {
    let bearer = format!("Bearer {}", service_token(service));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    http::request(node, "POST", "/v1/erase", &headers, json!({"from": whom}).to_string().as_bytes()).await.unwrap()
}

async fn page(client: &Client, conv: &ConvId) -> Vec<Message> {
    client.history(conv, HistoryFrom::Before(MAX_SEQ), 50).await.unwrap().messages
}

fn texts(messages: &[Message]) -> Vec<Option<String>> {
    messages.iter().filter(|one| one.kind.is_message()).map(|one| one.body.as_ref()?.parse().ok()).collect()
}

/// Alice speaks to bob, who reads on both nodes, and to carol, who is away; then she is erased. `urls` of two nodes; `erase` has
/// her erased through the first.
pub async fn an_erased_user_is_silent_everywhere(urls: [String; 2], erase: impl AsyncFnOnce()) {
    let alice = client(&urls[0], "alice").await;
    // Carol is known, and away.
    client(&urls[1], "carol").await.close().await;
    let bobs = [
        client(&urls[0], "bob").await,
        Client::connect(ClientOptions::new(&*urls[1], token("bob"), "desk")).await.unwrap(),
    ];
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    alice.send("@bob", Body::text("one")).await.unwrap();
    let two = alice.send("@bob", Body::text("two")).await.unwrap().seq;
    alice.edit(&conv, two, Body::text("second")).await.unwrap();
    bobs[0].send("@alice", Body::text("mine")).await.unwrap();
    alice.send("@carol", Body::text("for carol")).await.unwrap();
    for bob in &bobs {
        assert_eq!(texts(&page(bob, &conv).await), ["one", "second", "mine"].map(|text| Some(text.to_owned())));
    }

    erase().await;

    // The node that was asked knows at once, the other one soon.
    let gone = [None, None, Some("mine".to_owned())];
    assert_eq!(texts(&page(&bobs[0], &conv).await), gone);
    until("the other node has forgotten the key", async || texts(&page(&bobs[1], &conv).await) == gone).await;
    for bob in &bobs {
        let messages = page(bob, &conv).await;
        assert!(
            messages[..2].iter().all(|one| one.deleted == Some(user("alice")) && one.edited.is_none()),
            "{messages:?}"
        );
        let raw = bob.raw_history(&conv, HistoryFrom::Before(MAX_SEQ), 50).await.unwrap().messages;
        assert_eq!(raw.iter().filter(|one| one.body.is_some()).count(), 1, "of the edit as well: {raw:?}");
    }
    // She is put off, and her device is forgotten; what she says from now on is said.
    until("her session has ended", async || matches!(alice.next().await, None | Some(Event::Closed(_)))).await;
    let alice = client(&urls[1], "alice").await;
    alice.send("@bob", Body::text("again")).await.unwrap();
    let with_her = [None, None, Some("mine".to_owned()), Some("again".to_owned())];
    for bob in &bobs {
        until("what she says now is read", async || texts(&page(bob, &conv).await) == with_her).await;
    }
    let list = bobs[0].conversations(None, 10).await.unwrap();
    assert_eq!(list.items[0].last.as_ref().and_then(|last| last.body.as_ref()), Some(&Body::text("again")));
    // Whoever was away is handed what there was, without its words.
    let carol = client(&urls[1], "carol").await;
    let handed = carol_gets(&carol).await;
    assert_eq!((handed.seq, handed.body, handed.deleted), (1, None, Some(user("alice"))));
}

async fn carol_gets(carol: &Client) -> Message {
    loop {
        if let Some(Event::Message(message)) = carol.next().await {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_erased_user_has_said_is_gone_on_all_nodes() {
    let mesh = TestMesh::tuned(2, sealed).await;
    let urls = [mesh.nodes[0].url(), mesh.nodes[1].url()];
    an_erased_user_is_silent_everywhere(urls, async || {
        let refused = ask_to_erase(mesh.nodes[0].addr, "shop", "alice").await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("unauthorized")));
        let erased = ask_to_erase(mesh.nodes[0].addr, "dpo", "alice").await.json();
        assert_eq!(erased, json!({"user": "alice", "months": 1, "devices": 1}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_sealed_nothing_can_be_erased() {
    let mesh = TestMesh::tuned(1, |config| {
        sealed(config);
        config.sealing.on = false;
    })
    .await;
    let refused = ask_to_erase(mesh.nodes[0].addr, "dpo", "alice").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("not_allowed")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("sealing.on"), "{refused:?}");
}
