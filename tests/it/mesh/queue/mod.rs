//! The durable way in: what services publish to the queue is stored once each, in order, whatever dies in between (R27).

mod failing;
mod order;
mod shared;
mod without;

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap};
use natter::{
    bus::{
        NatsOptions,
        queue::{Buried, QueueLink},
    },
    config::{Config, Secret, ServerUrl},
    model::{ConvId, Row},
    nats_server::NatsServer,
    store::{Logs, Span},
};
use serde_json::{Value, json};

use super::TestMesh;
use crate::harness::{until, wait::until_within};

/// The queue is on, and what is tried again is tried soon.
pub(super) fn queued(config: &mut Config) {
    config.queue.enabled = true;
    config.queue.retry_ms = 20;
    config.queue.retry_max_ms = 200;
}

/// The service billing.
pub(super) struct Billing(Client);

impl Billing {
    pub(super) async fn connect(nats: &NatsServer) -> Self {
        let password = nats.passwords().billing.clone();
        let options = ConnectOptions::with_user_and_password("billing".into(), password);
        Self(options.custom_inbox_prefix("_INBOX_billing").connect(nats.client_url()).await.unwrap())
    }

    /// Publishes to what follows the service's name in the subject, and returns what the stream said.
    pub(super) async fn publish(&self, to: &str, payload: &str, id: Option<&str>) -> Value {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
        }
        let subject = format!("natter.queue.billing.{to}");
        let answer = self.0.request_with_headers(subject, headers, payload.to_owned().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Publishes a message with this cid and text to a user, and waits until it is kept.
    pub(super) async fn say(&self, user: &str, text: &str) {
        let kept = self.publish(&format!("user.{user}"), &json!({ "cid": text, "body": text }).to_string(), None).await;
        assert!(kept["seq"].is_u64() && kept["error"].is_null(), "{kept}");
    }
}

/// The queue as a node sees it.
pub(super) struct Inside {
    link: QueueLink,
    config: Config,
}

impl Inside {
    /// Makes the streams as well.
    pub(super) async fn of(nats: &NatsServer, config: &Config) -> Self {
        let mut config = config.clone();
        config.nats.urls = vec![ServerUrl::new(nats.client_url())];
        config.nats.user = Some("node".to_owned());
        config.nats.password = Some(Secret::new(nats.passwords().node.clone()));
        let link = QueueLink::connect(&NatsOptions::from_config("outside", &config.nats)).await.unwrap();
        link.prepare(&config).await.unwrap();
        Self { link, config }
    }

    pub(super) async fn of_mesh(mesh: &TestMesh) -> Self {
        Self::of(&mesh.nats, &mesh.config).await
    }

    /// How many messages wait.
    pub(super) async fn waiting(&self) -> u64 {
        self.link.examine(&self.config).await.unwrap()[0].1.as_ref().unwrap().messages
    }

    pub(super) async fn is_empty(&self) {
        until("the queue is empty", async || self.waiting().await == 0).await;
    }

    pub(super) async fn is_empty_within(&self, patience: Duration) {
        until_within(patience, "the queue is empty", async || self.waiting().await == 0).await;
    }

    pub(super) async fn dead(&self) -> Vec<Buried> {
        self.link.buried(0, 1_000).await.unwrap()
    }
}

/// All of a conversation.
pub(super) async fn rows(store: &dyn Logs, conv: &str) -> Vec<Row> {
    let conv = ConvId::new(conv).unwrap();
    let mut all: Vec<Row> = Vec::new();
    loop {
        let after = all.last().map_or(0, |row| row.seq);
        let page = store.read_after(&conv, after, Span { rows: 500, bytes: 1 << 20 }).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The cids of a conversation, in the order of its log.
pub(super) async fn cids(store: &dyn Logs, conv: &str) -> Vec<String> {
    rows(store, conv).await.into_iter().map(|row| row.cid.to_string()).collect()
}
