//! Figures, not checks: run with `--ignored --nocapture` on a release build, and with `NATTER_FIGURES=1`, so that the
//! server compiles as a real one does.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures_util::{StreamExt as _, stream};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
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

/// What each kind of request takes of the server's processors, many at a time: the parts that a message is made of, alone
/// and gathered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures only"]
async fn what_each_request_costs_the_server() {
    let cassandra = Cassandra::start(1).await;
    let options = cassandra.migrated().await;
    let ks = &options.keyspace;
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let prepare = async |cql: &str| session.prepare(cql.replace('$', ks)).await.unwrap();
    let row = prepare(
        "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, sender, cid, ts, body, w, pw) \
         VALUES (?, 0, 0, ?, '', 'alice', 'c', 1, ?, 1, 1) USING TIMESTAMP 1",
    )
    .await;
    let cid = prepare(
        "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, message_seq) \
         VALUES (?, 0, 1, 0, ?, ?) USING TIMESTAMP 1",
    )
    .await;
    let head = prepare("INSERT INTO $.inbox (user, conv, head, ts) VALUES (?, 'dm:a:b', ?, 1) USING TIMESTAMP ?").await;
    let stamp = prepare("UPDATE $.inbox USING TIMESTAMP ? SET stamps['n1:1'] = ? WHERE user = ?").await;
    let fenced = prepare("SELECT fenced FROM $.nodes WHERE name = 'n1' AND incarnation = 1").await;
    let of = |statements: &[&PreparedStatement]| {
        let mut batch = Batch::new(BatchType::Unlogged);
        statements.iter().for_each(|statement| batch.append_statement((*statement).clone()));
        batch
    };
    let (rows, body) = (of(&[&row, &cid]), vec![b'x'; 200]);
    for _ in 0..3 {
        per_request(&cassandra, "a message row", async |n: i64| {
            session.execute_unpaged(&row, (format!("c{}", n % 100), n, &body)).await.unwrap();
        })
        .await;
        per_request(&cassandra, "message and cid row, one batch", async |n: i64| {
            let conv = format!("c{}", n % 100);
            session.batch(&rows, ((&conv, n, &body), (&conv, format!("alice/{n}"), n))).await.unwrap();
        })
        .await;
        for users in [1, 2, 16] {
            let statements: Vec<_> = std::iter::repeat_n([&head, &stamp], users).flatten().collect();
            let gathered = of(&statements);
            per_request(&cassandra, &format!("heads and stamps of {users}, one batch"), async |n: i64| {
                let names: Vec<_> = (0..users).map(|k| format!("u{}", (n + 7 * k as i64) % 200)).collect();
                let both = |user| [HeadOrStamp::Head((user, n, n)), HeadOrStamp::Stamp((n, n, user))];
                let values: Vec<_> = names.iter().map(String::as_str).flat_map(both).collect();
                session.batch(&gathered, values).await.unwrap();
            })
            .await;
        }
        per_request(&cassandra, "the validation", async |_: i64| {
            session.execute_unpaged(&fenced, &[]).await.unwrap();
        })
        .await;
    }
}

enum HeadOrStamp<'a> {
    Head((&'a str, i64, i64)),
    Stamp((i64, i64, &'a str)),
}

impl SerializeRow for HeadOrStamp<'_> {
    fn serialize(
        &self,
        ctx: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match self {
            Self::Head(values) => values.serialize(ctx, writer),
            Self::Stamp(values) => values.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

async fn per_request(cassandra: &Cassandra, name: &str, request: impl AsyncFn(i64)) {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    const REQUESTS: i64 = 8_000;
    let from = NEXT.fetch_add(REQUESTS, Ordering::Relaxed);
    let (cpu, begin) = (cassandra.cpu(0), Instant::now());
    let requests = stream::iter(from..from + REQUESTS).map(async |n| request(n).await);
    requests.buffer_unordered(100).for_each(async |()| ()).await;
    let (cpu, took) = (cassandra.cpu(0) - cpu, begin.elapsed());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / REQUESTS as f64;
    println!("{name:35} {:5.0} us of the server's, {:6.0}/s", each(cpu), 1e6 / each(took));
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
