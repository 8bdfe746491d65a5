//! A peer that stops reading: it is not buffered for, not disconnected, and misses nothing (I6). And peers that ask, or
//! are sent signals, without ever reading (I8).

use natter::{
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, Encoding, ServerFrame, client::Outgoing},
};

use crate::mesh::{Peer, TestMesh, ledger::in_order, serve::ServeProcess};

const COUNT: u64 = 2_000;
const BODY: usize = 8 << 10;
const READERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_costs_no_memory_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    // The window is larger than all of it: only the socket holds the node back.
    let more = "limits.window = 65536\nstore.embedded.cache_bytes = 4194304\n";
    let serve = ServeProcess::start(folder.path(), &nats, more).await;
    let url = serve.url();
    let alice = Peer::join(&url, "alice", "d", Encoding::MsgPack).await;
    let slow: Vec<_> = futures_util::future::join_all((0..READERS).map(|i| slow_peer(&url, i))).await;
    let body = Body::text(&"x".repeat(BODY));
    // The store's own buffers grow first; what slow readers cost comes on top.
    for i in 0..200 {
        alice.try_send("@alice", &format!("w{i}"), &body).await;
    }
    let before = serve.process.rss();
    let mut most = before;
    for start in (0..COUNT).step_by(50) {
        let references: Vec<_> =
            (start..start + 50).map(|i| alice.begin_send("@bob", &format!("c{i}"), &body)).collect();
        for reference in references {
            alice.answer(reference).await;
        }
        most = most.max(serve.process.rss());
    }
    let (grown, buffered) = (most - before, READERS * COUNT * BODY as u64);
    println!("{READERS} slow readers, {buffered} bytes for them: memory grew by {grown} from {before}");
    // All of it would be 62 MiB on top of the store's write buffer, which is less than twice the log.
    assert!(grown < buffered / READERS * 5 / 2, "memory grew by {grown} bytes");
    for peer in &slow {
        peer.read_on();
    }
    for peer in &slow {
        peer.message("dm:alice:bob", COUNT).await;
        in_order(&peer.frames());
        assert_eq!(peer.seqs("dm:alice:bob").len() as u64, COUNT);
        assert_eq!(peer.closed_now(), None);
    }
}

/// Once it is caught up, the peer reads nothing more.
async fn slow_peer(url: &str, number: u64) -> Peer {
    let peer = Peer::join(url, "bob", &format!("d{number}"), Encoding::Json).await;
    peer.caught_up().await;
    peer.stop_reading();
    peer
}

/// Pages are as large as there is room for: what is read and cannot be taken is read again. With large bodies that was
/// several rows for each that was delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_from_a_log_than_the_socket_takes() {
    const LARGE: u64 = 60;
    let mesh = TestMesh::start(1).await;
    let alice = mesh.msgpack(0, "alice", "d").await;
    let body = Body::text(&"x".repeat(60_000));
    for i in 1..=LARGE {
        alice.try_send("@bob", &format!("c{i}"), &body).await;
    }
    alice.message("dm:alice:bob", LARGE).await;
    let rows = async || mesh.nodes[0].metric("natter_fill_rows_total").await as u64;
    let before = rows().await;
    let bob = mesh.json(0, "bob", "d").await;
    bob.message("dm:alice:bob", LARGE).await;
    let read = rows().await - before;
    assert!((LARGE..LARGE + LARGE / 10).contains(&read), "{read} rows were read for {LARGE} messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_without_reading_cost_a_bounded_amount_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let serve = ServeProcess::start(folder.path(), &nats, "store.embedded.cache_bytes = 4194304\n").await;
    let url = serve.url();
    let (alice, bob) = (
        Peer::join(&url, "alice", "d", Encoding::MsgPack).await,
        Peer::join(&url, "bob", "d", Encoding::MsgPack).await,
    );
    let body = Body::text(&"x".repeat(BODY));
    for i in 0..200 {
        alice.try_send("@bob", &format!("c{i}"), &body).await;
    }
    let before = serve.process.rss();
    // Each answer is 1.6 MB: all of them would be 3 GB. What the node has not read stays in the system's buffers and,
    // beyond those, with the client that asks.
    let asking = slow_peer(&url, 0).await;
    for _ in 0..2_000 {
        let conv = "dm:alice:bob";
        asking.say(&Outgoing::History {
            reference: None,
            conv,
            before: None,
            after: None,
            around: None,
            limit: 200,
            raw: true,
        });
    }
    // 160 MB of signals for someone who does not read them.
    for round in 0..200 {
        for _ in 0..100 {
            alice.say(&Outgoing::Signal { to: "@bob", kind: "typing", body: Some(&body) });
        }
        alice.round_trip().await;
        let grown = serve.process.rss().saturating_sub(before);
        assert!(grown < 64 << 20, "memory grew by {grown} bytes after {round} rounds");
    }
    println!("floods: memory grew by {} from {before}", serve.process.rss().saturating_sub(before));
    // Nobody else noticed, and a peer that reads again is served again.
    bob.round_trip().await;
    asking.read_on();
    let answers = asking.wait("ten answers", |frames| {
        let count = frames.iter().filter(|frame| matches!(frame, ServerFrame::History(_))).count();
        (count >= 10).then_some(())
    });
    answers.await;
}
