//! The one server freezes, and dies, under traffic. Nothing answered is lost, and nodes heal by themselves.

use std::sync::atomic::{AtomicUsize, Ordering};

use natter::store::{
    STORE_DEADLINE,
    slots::{Slot, Slots as _},
};

use super::*;
use crate::harness::{
    cassandra::Cassandra,
    proxy::{Filter, Proxy},
    until,
    wait::until_within,
};

type Stop = tokio::sync::watch::Receiver<bool>;

/// Sends as a client does until told to stop: the same cid until it is stored. Returns what was answered.
async fn traffic(store: Arc<Taking>, conv: ConvId, name: &'static str, mut stop: Stop) -> Traffic {
    let mut all = Traffic::default();
    for n in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let cid = format!("{name}-{n}");
        loop {
            let asked = Instant::now();
            let answer = store.append(&conv, vec![message("alice", &cid)]).await.remove(0);
            all.longest = all.longest.max(asked.elapsed());
            match answer {
                Ok(appended) => break all.stored.push((cid, appended.seq)),
                Err(StoreError::Unavailable(why)) => {
                    all.refused.push(format!("{cid} after {:?}: {why}", asked.elapsed()));
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
    all
}

/// Messages before a test's traffic starts.
const WARM: usize = 20;

#[derive(Default)]
struct Traffic {
    stored: Vec<(String, Seq)>,
    refused: Vec<String>,
    longest: Duration,
}

async fn until_stored_more(store: &Taking, conv: &ConvId) {
    let top = store.top(conv).await.unwrap_or_default();
    let stored = async || store.top(conv).await.unwrap_or_default() >= top + 5;
    until_within(Duration::from_secs(90), "more is stored", stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_and_dies() {
    let mut server = Cassandra::start(1).await;
    let options = server.migrated().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers =
        [(&a, "a"), (&b, "b")].map(|(store, name)| tokio::spawn(traffic(store.clone(), conv(), name, stopped.clone())));
    until_stored_more(&a, &conv()).await;

    server.pause(0);
    let frozen = Instant::now();
    assert!(a.health().await.is_err(), "a frozen server is not ready");
    assert!(frozen.elapsed() < STORE_DEADLINE, "health must answer fast, took {:?}", frozen.elapsed());
    let read = b.read_after(&conv(), 0, ALL).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "a frozen server cannot be read");
    // The length of the freeze is what this is about.
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(frozen.elapsed())).await;
    server.resume(0);
    until_stored_more(&a, &conv()).await;
    until_stored_more(&b, &conv()).await;

    server.kill9(0);
    until("both nodes notice", async || a.health().await.is_err() && b.health().await.is_err()).await;
    server.restart(0).await;
    until_stored_more(&a, &conv()).await;
    until_stored_more(&b, &conv()).await;

    stop.send_replace(true);
    let done = futures_util::future::join_all(writers).await;
    let fresh = connect(&options).await;
    let rows = whole_log(&fresh).await;
    let (mut answered, mut refused) = (0, 0);
    for all in done.into_iter().map(Result::unwrap) {
        for (cid, seq) in &all.stored {
            assert_eq!(place_of(&rows, cid), Some(*seq), "{cid} was answered and is not there");
        }
        answered += all.stored.len();
        refused += all.refused.len();
        // Of the three calls that one append may make here (a try, taking the slot, a try), each keeps to the deadline.
        assert!(all.longest < STORE_DEADLINE * 3, "an answer took {:?}", all.longest);
    }
    assert!(refused > 0, "ten frozen seconds must have been noticed");
    assert_eq!(rows.len(), answered, "what was stored is what was answered: retries do not double");
    assert_eq!(heads(&fresh).await, [answered as Seq; 2]);
}

/// Three servers, three replicas: one that freezes or dies costs latency and nothing else. Each node writes to a
/// conversation of its own: nodes that take a slot from each other again and again starve each other, whatever the servers do.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_servers_is_not_missed() {
    let mut servers = Cassandra::start(3).await;
    let options = servers.migrated().await;
    let (a, b) = (connect(&options).await, connect(&options).await);
    let convs = ["bob", "carol"].map(|peer| ConvId::direct(&user("alice"), &user(peer)));
    let [of_a, of_b] = &convs;
    assert_ne!(Slot::of(of_a), Slot::of(of_b));
    let writers = [(&a, of_a, "a"), (&b, of_b, "b")];
    // Servers that have just started are slow at everything they do for the first time.
    for n in 0..WARM {
        for (store, conv, _) in writers {
            patiently(async || store.append(conv, vec![message("alice", &format!("warm-{n}"))]).await.remove(0)).await;
        }
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers =
        writers.map(|(store, conv, name)| tokio::spawn(traffic(store.clone(), conv.clone(), name, stopped.clone())));
    until_stored_more(&a, of_a).await;
    servers.pause(1);
    for _ in 0..10 {
        until_stored_more(&a, of_a).await;
        until_stored_more(&b, of_b).await;
    }
    servers.resume(1);
    until_stored_more(&b, of_b).await;
    servers.kill9(2);
    for _ in 0..10 {
        until_stored_more(&b, of_b).await;
        until_stored_more(&a, of_a).await;
    }
    stop.send_replace(true);
    let fresh = connect(&options).await;
    for (writer, conv) in writers.into_iter().zip(&convs) {
        let all = writer.await.unwrap();
        println!("longest {:?}, stored {}", all.longest, all.stored.len());
        assert!(all.refused.is_empty(), "clients must not notice: {:#?}", all.refused);
        assert_eq!(log_of(&fresh, conv).await.len(), WARM + all.stored.len());
    }
}

/// Passes on what the server says, but for the first answer that `is_it`, and counts those.
fn loses_the_first(asked: Arc<AtomicUsize>, is_it: fn(&str) -> bool) -> Filter {
    Box::new(move |bytes| {
        // A small RESULT frame comes in one piece.
        let is_it = bytes.len() < 300 && is_it(&String::from_utf8_lossy(bytes));
        if is_it && asked.fetch_add(1, Ordering::SeqCst) == 0 { Vec::new() } else { bytes.to_vec() }
    })
}

/// Connects through a proxy that loses such an answer.
async fn connect_although_one_is_lost(is_it: fn(&str) -> bool) -> Arc<Taking> {
    let options = Cassandra::shared().await.migrated().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::filtered(Cassandra::shared().await.addr(0), {
        let asked = asked.clone();
        move |_| loses_the_first(asked.clone(), is_it)
    })
    .await;
    let store = connect(&ScyllaOptions { contact_points: vec![proxy.addr().to_string()], ..options }).await;
    assert!(asked.load(Ordering::SeqCst) >= 2, "no answer was lost");
    store
}

/// One answer that is lost while a node starts costs it a time-out and not its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_although_an_answer_is_lost() {
    // Another table's answer names its own columns.
    connect_although_one_is_lost(|text| text.contains("schema_version") && !text.contains("table_name")).await;
}

/// The number that the lost answer was about is taken, and not used.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_although_the_number_of_its_life_is_lost() {
    let store = connect_although_one_is_lost(|text| text.contains("[applied]")).await;
    assert_eq!(store.incarnation().number, 2);
}
