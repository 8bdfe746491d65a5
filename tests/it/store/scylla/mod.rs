//! The ScyllaDB engine on a real CQL server: what only several nodes, or a cluster that fails, can show.
//! Each test has its own keyspace; those that harm a server start their own.

mod backup;
mod cluster;
mod contract;
mod crash;
mod edge;
mod homes;
mod kinds;
mod late;
mod measure;
mod old_stamps;
mod outage;
mod race;
mod rooms;
mod rooms_crash;
mod rules_alone;
mod schema;
mod tls;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use natter::{
    model::{Body, Cid, ConvId, Device, DeviceId, NewMessage, Row, Seq, UserId},
    store::{
        Appended, Engine as _, Inbox as _, Logs as _, Marks as _, Span, StoreError, StoreResult, scylla::ScyllaOptions,
    },
};

use crate::{
    harness::{cassandra::Taking, wait::until_ok},
    store::contract::{mark_at, register},
};

const ALL: Span = Span { rows: 1_000_000, bytes: usize::MAX };
/// Seqs per partition.
const BUCKET: Seq = 4096;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Bob's phone.
fn phone() -> Device {
    Device::new(user("bob"), DeviceId::new("phone").unwrap())
}

/// The conversation of alice and bob.
fn conv() -> ConvId {
    ConvId::direct(&user("alice"), &user("bob"))
}

fn message(sender: &str, cid: &str) -> NewMessage {
    let body = Body::text(&format!("{sender} says {cid}"));
    NewMessage { read_upto: Seq::MAX, ..NewMessage::of_user(user(sender), Cid::new(cid).unwrap(), 1_000, body) }
}

async fn connect(options: &ScyllaOptions) -> Arc<Taking> {
    Taking::connect(options).await
}

async fn append(store: &Taking, message: NewMessage) -> StoreResult<Appended> {
    store.append(&conv(), vec![message]).await.remove(0)
}

/// Sends again with the same cid until it is stored, as clients do.
async fn append_until_stored(store: &Taking, message: NewMessage) -> Appended {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match append(store, message.clone()).await {
            Ok(appended) => return appended,
            Err(StoreError::Unavailable(why)) => assert!(Instant::now() < deadline, "never stored: {why}"),
            Err(e) => panic!("{e}"),
        }
    }
}

/// Reads again while the server does not answer: one that has just started, or whose disk is busy, may take long.
async fn patiently<T>(mut read: impl AsyncFnMut() -> StoreResult<T>) -> T {
    let again = async || match read().await {
        Err(StoreError::Unavailable(why)) => Err(why.to_string()),
        other => Ok(other.unwrap()),
    };
    until_ok(Duration::from_secs(90), "the store answers", again).await
}

/// Brings the log of alice and bob to `top`, whose cids are f1, f2 ….
async fn fill(store: &Taking, top: Seq) {
    let from = store.top(&conv()).await.unwrap();
    for first in (from + 1..=top).step_by(64) {
        let some = first..=top.min(first + 63);
        let batch = some.clone().map(|n| message("bob", &format!("f{n}"))).collect();
        for (seq, answer) in some.zip(store.append(&conv(), batch).await) {
            assert_eq!(answer.unwrap().seq, seq);
        }
    }
}

/// Reads the whole log and checks what must hold for any log: dense from 1, no (sender, cid) twice.
async fn whole_log(store: &Taking) -> Vec<Row> {
    log_of(store, &conv()).await
}

async fn log_of(store: &Taking, conv: &ConvId) -> Vec<Row> {
    let rows = patiently(async || store.read_after(conv, 0, ALL).await).await;
    let mut places = HashMap::new();
    for (row, seq) in rows.iter().zip(1..) {
        assert_eq!(row.seq, seq, "the log must be dense");
        let before = places.insert((row.sender.clone(), row.cid.clone()), seq);
        assert_eq!(before, None, "{}/{} stands at {seq} too", row.sender, row.cid);
    }
    assert_eq!(patiently(async || store.top(conv).await).await, rows.len() as Seq, "the log must be read to its end");
    rows
}

fn place_of(rows: &[Row], cid: &str) -> Option<Seq> {
    rows.iter().find(|row| row.cid.as_str() == cid).map(|row| row.seq)
}

/// The heads of alice and bob, 0 if there is none.
async fn heads(store: &Taking) -> [Seq; 2] {
    let mut heads = [0; 2];
    for (head, name) in heads.iter_mut().zip(["alice", "bob"]) {
        let page = patiently(async || store.conversations(&user(name), None, 10).await).await;
        *head = page.items.iter().find(|item| item.conv == conv()).map_or(0, |item| item.head);
    }
    heads
}
