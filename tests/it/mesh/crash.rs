//! `natter serve` is killed with kill -9 under traffic and started again, several times; and stopped with SIGTERM.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use natter::{
    client::{Client, ClientOptions, Event},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ServerFrame, ask},
};
use tempfile::TempDir;

use crate::{
    harness::until,
    mesh::{
        Peer,
        ledger::{Ledger, in_order},
        serve::ServeProcess,
        token,
    },
};

const CONV: &str = "dm:alice:bob";

async fn start(more: &str) -> (TempDir, NatsServer, ServeProcess) {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let serve = ServeProcess::start(folder.path(), &nats, more).await;
    (folder, nats, serve)
}

/// Sends until told to stop; the client retries with the same cid until it has an answer.
async fn traffic(client: Client, lane: u64, ledger: Ledger, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    for i in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let cid = format!("c{lane}-{i}");
        let sent = client.send_with_cid("@bob", &cid, Body::text(&cid)).await.unwrap();
        ledger.answered("alice", &cid, sent.conv.as_str(), sent.seq);
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

fn options(serve: &ServeProcess, user: &str) -> ClientOptions {
    ClientOptions::new(serve.url(), token(user), "d")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_loses_nothing_that_was_answered_and_reuses_no_seq() {
    const LANES: u64 = 16;
    let (_folder, _nats, mut serve) = start("").await;
    let alice = Client::connect(options(&serve, "alice")).await.unwrap();
    let bob = Client::connect(options(&serve, "bob")).await.unwrap();
    let heard = tokio::spawn(async move {
        let mut seqs = Vec::new();
        while let Some(event) = bob.next().await {
            if let Event::Message(message) = event {
                seqs.push((message.seq, message.cid.unwrap().to_string()));
                if message.body == Some(Body::text("the end")) {
                    break;
                }
            }
        }
        seqs
    });
    let drain = alice.clone();
    let echoes = tokio::spawn(async move { while drain.next().await.is_some() {} });
    let (ledger, stop, answered) = (Ledger::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| tokio::spawn(traffic(alice.clone(), lane, ledger.clone(), stop.clone(), answered.clone())))
        .collect();
    for _ in 0..4 {
        let before = answered.load(Ordering::Acquire);
        until("some sends were answered", async || answered.load(Ordering::Acquire) >= before + 100).await;
        serve.restart().await;
    }
    stop.store(true, Ordering::Release);
    for lane in lanes {
        lane.await.unwrap();
    }
    let sent = alice.send_with_cid("@bob", "end", Body::text("the end")).await.unwrap();
    ledger.answered("alice", "end", sent.conv.as_str(), sent.seq);
    let seqs = tokio::time::timeout(Duration::from_secs(30), heard).await.expect("bob never heard the end").unwrap();
    assert_eq!(seqs.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=sent.seq).collect::<Vec<_>>());
    // Every stored message was answered in the end, each cid once: the log holds nothing twice.
    assert_eq!(ledger.len() as u64, sent.seq);
    for (seq, cid) in &seqs {
        ledger.answered("alice", cid, CONV, *seq);
    }
    // A new device gets them all from the log, in one session.
    let fresh = Peer::join(&serve.url(), "alice", "fresh", Encoding::Json).await;
    fresh.caught_up().await;
    in_order(&fresh.frames());
    echoes.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_is_in_flight_writes_cursors_and_exits_with_0() {
    const COUNT: u64 = 300;
    let (_folder, _nats, mut serve) = start("").await;
    let alice = Peer::join(&serve.url(), "alice", "d", Encoding::Json).await;
    let bob = Peer::join(&serve.url(), "bob", "d", Encoding::MsgPack).await;
    bob.caught_up().await;
    bob.hold_acks();
    for i in 0..10 {
        alice.send("@bob", &format!("a{i}"), "x").await;
    }
    bob.message(CONV, 10).await;
    // The first is written at once, the second waits for the coalescing time: only the drain writes it.
    bob.ack(CONV, 3);
    alice.receipt("the first cursor", |r| r.delivered == Some(3)).await;
    bob.ack(CONV, 7);
    bob.round_trip().await;
    let references: Vec<_> = (0..COUNT).map(|i| alice.begin_send("@bob", &format!("c{i}"), &Body::text("x"))).collect();
    alice.answer(references[20]).await;
    serve.process.signal(libc::SIGTERM);
    for peer in [&alice, &bob] {
        assert_eq!(peer.closed().await.0, 4000);
        let goodbye = peer.frames().into_iter().find(|frame| matches!(frame, ServerFrame::Goodbye { .. }));
        assert!(matches!(goodbye, Some(ServerFrame::Goodbye { reason, .. }) if reason == "drain"));
    }
    assert_eq!(serve.process.ended().await.code(), Some(0));
    let frames = alice.frames();
    let answers =
        frames.iter().filter(|f| matches!(f, ServerFrame::Sent(ask::Sent { reference: Some(_), .. }))).count() as u64;
    let appended =
        frames.iter().filter_map(|f| if let ServerFrame::Sent(ask::Sent { seq, .. }) = f { Some(*seq) } else { None });
    let top = appended.max().unwrap();
    // The 10 sends before were answered, too. Whatever was accepted was answered: the log ends where the answers end.
    assert_eq!(answers, top);
    serve.restart().await;
    let again = Peer::join(&serve.url(), "bob", "d", Encoding::MsgPack).await;
    again.message(CONV, top).await;
    again.caught_up().await;
    assert_eq!(again.seqs(CONV), (8..=top).collect::<Vec<_>>(), "what was acknowledged does not come again");
}
