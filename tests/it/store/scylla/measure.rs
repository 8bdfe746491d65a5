//! Figures, not checks: run with `--ignored --nocapture` on a release build.

use std::sync::atomic::{AtomicUsize, Ordering};

use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::batch::{Batch, BatchType},
};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::harness::cassandra::Cassandra;

const ROUNDS: usize = 1_500;

/// Median and 99th percentile in milliseconds, without the first fifth.
fn percentiles(mut took: Vec<Duration>) -> String {
    took.drain(..took.len() / 5);
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
}

/// What the conditions cost: the same two rows, with `IF NOT EXISTS` and without, and the whole append.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures only"]
async fn a_conditional_append_against_a_plain_insert() {
    let options = Cassandra::shared().await.migrated().await;
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    for (name, condition) in [("plain", ""), ("conditional", " IF NOT EXISTS"), ("plain again", "")] {
        println!("two rows, {name}: {}", percentiles(two_rows(&session, &options.keyspace, name, condition).await));
    }
    let store = connect(&options).await;
    let mut took = Vec::new();
    for n in 0..ROUNDS {
        let asked = Instant::now();
        append(&store, message("alice", &n.to_string())).await.unwrap();
        took.push(asked.elapsed());
    }
    println!("append, with two heads and a read mark: {}", percentiles(took));
}

async fn two_rows(session: &Session, ks: &str, name: &str, condition: &str) -> Vec<Duration> {
    let row = format!(
        "INSERT INTO {ks}.messages (conv, bucket, kind, seq, cid_key, sender, cid, ts, body) \
         VALUES (?, 0, 0, ?, '', 'alice', ?, 1, ?){condition}"
    );
    let cid = format!(
        "INSERT INTO {ks}.messages (conv, bucket, kind, seq, cid_key, message_seq) VALUES (?, 0, 1, 0, ?, ?){condition}"
    );
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.append_statement(session.prepare(row).await.unwrap());
    batch.append_statement(session.prepare(cid).await.unwrap());
    let mut took = Vec::new();
    for n in 0..ROUNDS {
        let (seq, cid) = (i64::try_from(n).unwrap() + 1, format!("alice/{n}"));
        let asked = Instant::now();
        let values = ((name, seq, &cid, b"a body of a usual size".as_slice()), (name, &cid, seq));
        session.batch(&batch, values).await.unwrap();
        took.push(asked.elapsed());
    }
    took
}

type Send = (NewMessage, oneshot::Sender<StoreResult<Appended>>);

/// Senders in one conversation at its home, each sending its next message when the last is answered. A node
/// gathers what waits while an append is in flight, as the appender does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures only"]
async fn senders_in_one_hot_conversation() {
    for senders in [1, 4, 16] {
        let options = Cassandra::shared().await.migrated().await;
        let (took, batches) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let (queue, waiting) = mpsc::channel(64);
        tokio::spawn(gather(connect(&options).await, waiting, batches.clone()));
        let send = |sender: usize| tokio::spawn(send_much(queue.clone(), sender.to_string(), Arc::clone(&took)));
        for task in (0..senders).map(send).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let took: Vec<Duration> = std::mem::take(&mut *took.lock().await);
        let rate = took.len() as f64 / started.elapsed().as_secs_f64();
        let per_batch = took.len() as f64 / batches.load(Ordering::Relaxed) as f64;
        let all = percentiles(took);
        println!("{senders:2} senders: {rate:6.0}/s, {per_batch:.1} messages per append, {all}");
    }
}

async fn gather(store: Arc<Taking>, mut waiting: mpsc::Receiver<Send>, batches: Arc<AtomicUsize>) {
    let mut some = Vec::new();
    while waiting.recv_many(&mut some, 64).await > 0 {
        let (batch, answers): (Vec<_>, Vec<_>) = some.drain(..).unzip();
        batches.fetch_add(1, Ordering::Relaxed);
        for (answer, appended) in answers.into_iter().zip(store.append(&conv(), batch).await) {
            let _ = answer.send(appended);
        }
    }
}

async fn send_much(queue: mpsc::Sender<Send>, name: String, took: Arc<tokio::sync::Mutex<Vec<Duration>>>) {
    let until = Instant::now() + Duration::from_secs(8);
    for n in 0.. {
        let asked = Instant::now();
        if asked > until {
            break;
        }
        loop {
            let (answer, appended) = oneshot::channel();
            queue.send((message("alice", &format!("{name}-{n}")), answer)).await.unwrap();
            if appended.await.unwrap().is_ok() {
                break;
            }
        }
        took.lock().await.push(asked.elapsed());
    }
}
