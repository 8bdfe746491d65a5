//! The NATS services convention (ADR-32), as `nats micro ls`, `info` and `stats` ask it.

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use natter::config::NatsLink;
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout_at};

use super::Site;
use crate::harness::{PATIENCE, links::on_both_links, wait::until_ok};

async fn operator(site: &Site) -> Client {
    let password = site.mesh.nats.passwords().operator.clone();
    let options = ConnectOptions::with_user_and_password("operator".into(), password);
    options.custom_inbox_prefix("_INBOX_operator").connect(site.mesh.nats.client_url()).await.unwrap()
}

/// Who answers a verb within a moment: the protocol has no other end.
async fn asked(client: &Client, subject: &str) -> Vec<Value> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let (until, mut all) = (Instant::now() + Duration::from_millis(300), Vec::new());
    while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
        all.extend(serde_json::from_slice::<Value>(&message.payload));
    }
    all.sort_by_key(|one| one["id"].to_string());
    all
}

/// The same until so many do.
async fn answers(client: &Client, subject: &str, count: usize) -> Vec<Value> {
    until_ok(PATIENCE, subject, async || {
        let all = asked(client, subject).await;
        if all.len() == count { Ok(all) } else { Err(format!("{all:?}")) }
    })
    .await
}

async fn nodes_are_instances_of_one_service(link: NatsLink) {
    let site = Site::start(link, 2).await;
    let client = operator(&site).await;
    for subject in ["$SRV.PING", "$SRV.PING.natter"] {
        for (ping, id) in answers(&client, subject, 2).await.iter().zip(["n1", "n2"]) {
            assert_eq!((&ping["type"], &ping["name"]), (&"io.nats.micro.v1.ping_response".into(), &"natter".into()));
            assert_eq!((&ping["id"], &ping["version"]), (&id.into(), &env!("CARGO_PKG_VERSION").into()));
            assert!(ping["metadata"].is_object(), "{ping}");
        }
    }
    let info = answers(&client, "$SRV.INFO.natter.n2", 1).await.remove(0);
    assert_eq!((&info["id"], &info["type"]), (&"n2".into(), &"io.nats.micro.v1.info_response".into()));
    let endpoint = &info["endpoints"][0];
    assert_eq!((&endpoint["name"], &endpoint["subject"]), (&"send".into(), &"natter.send.>".into()), "{info}");
    assert_eq!(endpoint["queue_group"], "natter");
    assert!(asked(&client, "$SRV.INFO.other").await.is_empty());
    assert!(asked(&client, "$SRV.RUBBISH").await.is_empty());

    let billing = site.mesh.nats.passwords().billing.clone();
    let service =
        ConnectOptions::with_user_and_password("billing".into(), billing).custom_inbox_prefix("_INBOX_billing");
    let service = service.connect(site.mesh.nats.client_url()).await.unwrap();
    for body in [r#"{"cid":"1","body":"paid"}"#, r#"{"cid":"2"}"#] {
        service.request("natter.send.billing.user.bob", body.into()).await.unwrap();
    }
    let stats = answers(&client, "$SRV.STATS.natter", 2).await;
    let sum = |field: &str| -> u64 { stats.iter().map(|one| one["endpoints"][0][field].as_u64().unwrap()).sum() };
    assert_eq!((sum("num_requests"), sum("num_errors")), (2, 1), "{stats:?}");
    assert!(sum("processing_time") > 0 && stats[0]["started"].as_str().unwrap().ends_with('Z'), "{stats:?}");
}

on_both_links!(nodes_are_instances_of_one_service);
