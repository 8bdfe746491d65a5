//! How fast the store appends. Run in release, alone:
//! `cargo test --release --test it store::embedded::load -- --ignored --nocapture`

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use natter::{
    model::{Body, NewMessage},
    store::Logs,
};

use super::open;
use crate::harness::process::rss_of;
use crate::store::contract::{append, dm, message};

const TIME: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn appends_per_second() {
    println!("\nwriters x batch   appends/s   CPU us/append   us per answer   RSS MB");
    for (writers, batch) in [(1, 1), (64, 1), (1_024, 1), (1, 64), (64, 16), (1, 1_024)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (cpu, start) = (cpu_micros(), Instant::now());
        let answers = run(store.clone(), writers, batch).await;
        let (elapsed, cpu) = (start.elapsed(), cpu_micros() - cpu);
        let appends = answers * batch as u64;
        let per_second = appends as f64 / elapsed.as_secs_f64();
        let cpu = cpu as f64 / appends as f64;
        let wait = elapsed.as_micros() as f64 * writers as f64 / answers as f64;
        println!("{writers:>7} x {batch:<5} {per_second:>12.0} {cpu:>15.2} {wait:>15.0} {:>8}", rss_mib());
    }
}

/// Every writer has its own conversation, as the appender of a node does.
async fn run(store: Arc<dyn Logs>, writers: usize, batch: usize) -> u64 {
    let answers = Arc::new(AtomicU64::new(0));
    let (start, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for writer in 0..writers {
        let (store, answers) = (store.clone(), answers.clone());
        tasks.spawn(async move {
            let conv = dm(&format!("sender{writer}"), "somebody");
            let body = Body::text(&"x".repeat(238));
            for round in 0.. {
                let one = |n| NewMessage {
                    body: body.clone(),
                    ..message(&format!("sender{writer}"), &format!("0123456789abcdef-{round}-{n}"))
                };
                for answer in store.append(&conv, (0..batch).map(one).collect()).await {
                    answer.unwrap();
                }
                answers.fetch_add(1, Ordering::Relaxed);
                if start.elapsed() > TIME {
                    break;
                }
            }
        });
    }
    tasks.join_all().await;
    answers.load(Ordering::Relaxed)
}

/// What a cold conversation costs: the same appends over few pairs and over many, taken at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn few_pairs_and_many() {
    println!("\npairs   appends/s   CPU us/append   rows looked up/append   RSS MB");
    for pairs in [100, 50_000] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        // Twice: each pair has messages, some of them in tables.
        let rounds = 2 * 50_000 / PAIR_WRITERS;
        let mut figures = (0.0, 0.0, 0.0);
        for _ in 0..2 {
            let (begin, cpu, before) = (Instant::now(), cpu_micros(), store.written());
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..PAIR_WRITERS {
                let store = store.clone();
                tasks.spawn(async move {
                    for _ in 0..rounds {
                        let (pair, cid) = (rand::random_range(0..pairs), rand::random::<u64>().to_string());
                        let message = NewMessage { body: Body::text(&"x".repeat(238)), ..message("cold", &cid) };
                        append(&*store, &dm("cold", &format!("peer{pair}")), message).await.unwrap();
                    }
                });
            }
            tasks.join_all().await;
            let (after, cpu) = (store.written(), cpu_micros() - cpu);
            let appends = (after.messages - before.messages) as f64;
            let lookups = (after.lookups - before.lookups) as f64;
            figures = (appends / begin.elapsed().as_secs_f64(), cpu as f64 / appends, lookups / appends);
        }
        let (per_second, cpu, lookups) = figures;
        println!("{pairs:>6} {per_second:>10.0} {cpu:>15.2} {lookups:>23.2} {:>8}", rss_mib());
    }
}

const PAIR_WRITERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_long_log_and_its_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (start, cpu) = (Instant::now(), cpu_micros());
    let mut appends = 0;
    while start.elapsed() < 5 * TIME {
        appends += run_cold(store.clone(), appends).await;
    }
    let elapsed = start.elapsed();
    let cpu = (cpu_micros() - cpu) as f64 / appends as f64;
    println!("\ncold conversations: {:.0} appends/s, {cpu:.2} us CPU each", appends as f64 / elapsed.as_secs_f64());
    let start = Instant::now();
    for n in 0..2_000 {
        store.top(&dm("cold", &format!("peer{}", n * 7_919 % appends))).await.unwrap();
    }
    println!("top of a random one of {appends} logs: {:.0} us", start.elapsed().as_micros() as f64 / 2_000.0);
    let start = Instant::now();
    for _ in 0..2_000 {
        append(&*store, &dm("alice", "bob"), message("alice", &rand::random::<u64>().to_string())).await.unwrap();
    }
    println!("a lone append: {:.0} us, RSS {} MB", start.elapsed().as_micros() as f64 / 2_000.0, rss_mib());
    let start = Instant::now();
    drop(store);
    println!("closed in {:?}", start.elapsed());
    let start = Instant::now();
    drop(open(dir.path()));
    println!("opened and closed in {:?}", start.elapsed());
}

/// One message into each of 16,384 conversations that have no messages yet.
async fn run_cold(store: Arc<dyn Logs>, first: u64) -> u64 {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..256 {
                let peer = format!("peer{}", first + task * 256 + n);
                let message = NewMessage { body: Body::text(&"x".repeat(238)), ..message("cold", "0123456789abcdef") };
                append(&*store, &dm("cold", &peer), message).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    64 * 256
}

fn cpu_micros() -> u64 {
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

fn rss_mib() -> u64 {
    rss_of("self") >> 20
}
