//! Figures, not checks, for README: `NATTER_FIGURES=1 cargo test --release --test it figures -- --ignored --nocapture
//! --test-threads 1`, on a machine that does nothing else. The variable lets the server compile as a real one does;
//! `NATTER_FIGURES_CONFIG` is added to the nodes' configuration.

use std::{
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use natter::store::scylla::ScyllaOptions;
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::prepared::PreparedStatement,
};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    fleet::{Fleet, QUIET},
    homes::placed,
    people::Person,
    traffic::Traffic,
};
use crate::{
    harness::{cassandra::Cassandra, natter::natter, process::output},
    mesh::SECRET,
};

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(8);

/// The row of a message, inserted as one would insert it who promised nothing else.
struct Inserts {
    session: Session,
    row: PreparedStatement,
    next: AtomicI64,
}

impl Inserts {
    async fn prepare(options: &ScyllaOptions) -> Self {
        let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
        let cql = format!(
            "INSERT INTO {}.messages (conv, bucket, kind, seq, cid_key, sender, cid, ts, body) \
             VALUES (?, 0, 0, ?, '', 'a-sender', 'a-cid', 1, ?) USING TIMESTAMP 1",
            options.keyspace
        );
        let row = session.prepare(cql).await.unwrap();
        Self { session, row, next: AtomicI64::new(1) }
    }

    async fn insert(&self) -> Duration {
        let (n, begin) = (self.next.fetch_add(1, Ordering::Relaxed), Instant::now());
        let values = (format!("plain{}", n % 100), n, vec![b'x'; 200]);
        self.session.execute_unpaged(&self.row, values).await.unwrap();
        begin.elapsed()
    }

    async fn closed_loop(&self, at_once: usize) -> Vec<Duration> {
        let begin = Instant::now();
        let going = stream::repeat(()).take_while(move |()| std::future::ready(begin.elapsed() < TIME));
        going.map(|()| self.insert()).buffer_unordered(at_once).collect().await
    }
}

async fn open_loop(inserts: &std::sync::Arc<Inserts>, per_second: u32) -> Vec<Duration> {
    let mut due = tokio::time::interval(Duration::from_secs(1) / per_second);
    let (mut tasks, begin) = (JoinSet::new(), Instant::now());
    while begin.elapsed() < TIME {
        let at = due.tick().await.into_std();
        let inserts = inserts.clone();
        tasks.spawn(async move {
            inserts.insert().await;
            at.elapsed()
        });
    }
    tasks.join_all().await
}

fn at(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

async fn bench(folder: &Path, fleet: &Fleet, server: u32, load: [&str; 2]) {
    let (urls, nodes) = (fleet.urls(0).join(","), [0, 1]);
    let counted = async || {
        let of = async |name: &str| fleet.metric_of(&nodes, name).await;
        (of("natter_store_requests_total ").await, of("natter_appended_total").await)
    };
    let before = counted().await;
    let mut command = natter(folder);
    std::fs::write(folder.join("secret"), SECRET).unwrap();
    command.args(["bench", "dm", "--json", "--both-ways", "--pairs", "100", "--duration", "8", "--warmup", "3"]);
    command.args(["--ack-every", "32"]);
    command.args(["--url", &urls, "--secret-file", "secret", "--pids", &server.to_string()]).args(load);
    let output = output(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {output:?}"));
    let after = counted().await;
    let requests = (after.0 - before.0) / (after.1 - before.1);
    let latency = &report["send_to_sent"];
    println!(
        "natter {load:?}: {}/s, sent p50 {} p99 {} ms, {} us of the server's, {requests:.2} requests a message, \
         logins included; {}",
        report["sent_per_sec"], latency["p50_ms"], latency["p99_ms"], report["cpu_us_per_message"], report["errors"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures only"]
async fn messages_beside_plain_inserts() {
    let cassandra = Cassandra::start(1).await;
    let options = cassandra.migrated().await;
    let more = QUIET.to_owned() + &std::env::var("NATTER_FIGURES_CONFIG").unwrap_or_default();
    let (fleet, _nats, folder) = Fleet::with(2, &options, &more).await;
    placed(&fleet, &[0, 1]).await;
    let inserts = std::sync::Arc::new(Inserts::prepare(&options).await);
    let server = cassandra.pid(0);
    for _ in 0..ROUNDS {
        bench(folder.path(), &fleet, server, ["--in-flight", "1"]).await;
        bench(folder.path(), &fleet, server, ["--in-flight", "16"]).await;
        let cpu = cassandra.cpu(0);
        let mut took = inserts.closed_loop(100).await;
        let each = (cassandra.cpu(0) - cpu).as_secs_f64() * 1e6 / took.len() as f64;
        let rate = took.len() as f64 / TIME.as_secs_f64();
        let (p50, p99) = (at(&mut took, 50), at(&mut took, 99));
        println!("plain inserts, 100 at once: {rate:.0}/s, p50 {p50:.1} p99 {p99:.1} ms, {each:.0} us of the server's");
        bench(folder.path(), &fleet, server, ["--rate", "1000"]).await;
        let mut took = open_loop(&inserts, 1_000).await;
        println!("plain inserts, 1,000/s: p50 {:.1} p99 {:.1} ms", at(&mut took, 50), at(&mut took, 99));
    }
}

/// The same conversation from one node, from two, and from three: sixteen messages under way on each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures only"]
async fn one_conversation_from_several_nodes() {
    let cassandra = Cassandra::start(1).await;
    let options = cassandra.migrated().await;
    let (fleet, _nats, _folder) = Fleet::with(3, &options, QUIET).await;
    placed(&fleet, &[0, 1, 2]).await;
    for round in 0..ROUNDS {
        for nodes in 1..=3 {
            let mut people = Vec::new();
            for node in 0..nodes {
                let device = format!("r{round}n{nodes}d{node}");
                people.push(Person::join(vec![fleet.nodes[node].url()], "alice", &device).await);
            }
            let mut traffic = Traffic::default();
            for person in &people {
                (0..16).for_each(|_| traffic.lane(person, &["bob"], 0..0));
            }
            traffic.flows(1_000).await;
            let (begin, before) = (Instant::now(), traffic.ledger.len());
            traffic.waits();
            tokio::time::sleep(TIME).await;
            let rate = (traffic.ledger.len() - before) as f64 / begin.elapsed().as_secs_f64();
            println!("{nodes} nodes, 16 senders on each: {rate:.0}/s, {:?}", traffic.waits());
            traffic.stop().await;
        }
    }
}
