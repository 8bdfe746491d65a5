//! The scenarios of `mesh::kinds` on nodes that share a CQL server.

use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use natter::{
    client::{Client, ClientOptions},
    model::ConvId,
    nats_server::NatsServer,
    protocol::{Body, HistoryFrom},
};
use tempfile::TempDir;

use super::fleet::{Fleet, QUIET};
use crate::{
    harness::cassandra::Cassandra,
    mesh::{
        kinds::{Nodes, kind_scenarios},
        token,
    },
    store::contract::user,
};

struct Running {
    fleet: Fleet,
    _nats: NatsServer,
    _folder: TempDir,
}

impl Nodes for Running {
    fn url(&self, node: usize) -> String {
        self.fleet.nodes[node].url()
    }
}

async fn start(nodes: usize) -> Running {
    let options = Cassandra::shared().await.lent().await;
    let (fleet, nats, folder) = Fleet::with(nodes, &options, QUIET).await;
    fleet.until_ready(true).await;
    Running { fleet, _nats: nats, _folder: folder }
}

kind_scenarios!(start);

/// Of the messages of a page …
const MESSAGES: u64 = 50;
/// … each has so many reactions.
const REACTIONS: u64 = 20;

/// What people said about the messages of a page is read with it, and not message by message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_a_thousand_reactions_is_a_few_requests() {
    let running = start(1).await;
    let alice = Client::connect(ClientOptions::new(running.url(0), token("alice"), "c")).await.unwrap();
    let conv = ConvId::direct(&user("alice"), &user("bob"));
    for n in 0..MESSAGES {
        alice.send("@bob", Body::text(&format!("message {n}"))).await.unwrap();
    }
    let all = (1..=MESSAGES).flat_map(|seq| (0..REACTIONS).map(move |n| (seq, n)));
    let reacted =
        stream::iter(all).map(async |(seq, n)| alice.react(&conv, seq, format!("r{n}").parse().unwrap()).await);
    reacted.buffer_unordered(64).try_for_each(|_| std::future::ready(Ok(()))).await.unwrap();
    let requests = async || running.fleet.metric(0, "natter_store_requests_total").await as u64;
    let (mut least, mut shortest) = (u64::MAX, f64::MAX);
    // The node asks the server for this and that by itself.
    for _ in 0..8 {
        let (before, began) = (requests().await, Instant::now());
        let page = alice.history(&conv, HistoryFrom::After(0), MESSAGES as usize).await.unwrap();
        shortest = shortest.min(began.elapsed().as_secs_f64());
        least = least.min(requests().await - before);
        assert_eq!(page.messages.len() as u64, MESSAGES);
        assert!(page.messages.iter().all(|message| message.reactions.len() as u64 == REACTIONS));
    }
    println!("{MESSAGES} messages with {} reactions: {least} requests, {:.1} ms", MESSAGES * REACTIONS, shortest * 1e3);
    // The end of the log, its rows, and their folds, of which a page is not large enough for all.
    assert!(least <= 6, "{least} requests");
}
