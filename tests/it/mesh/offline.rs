//! What a user missed waits in the log: long backlogs, cursors at different places, new devices, `caught_up`.

use natter::protocol::{Encoding, client::Outgoing};

use crate::mesh::{
    Peer, TestMesh,
    ledger::{Ledger, in_order},
    peer::{is_caught_up, messages},
    token,
};

const CONV: &str = "dm:alice:bob";
const COUNT: u64 = 1_000;

/// Sends `count` messages from alice to bob without waiting for each answer.
async fn send_many(alice: &Peer, ledger: &Ledger, first: u64, count: u64) {
    let cids: Vec<_> = (first..first + count).map(|i| format!("c{i}")).collect();
    let sends = cids.iter().map(|cid| ledger.send(alice, "alice", "@bob", cid));
    futures_util::future::join_all(sends).await;
}

/// The first seq that a session was handed; checks that everything up to `last` followed before `caught_up`, which came
/// once.
async fn backlog(peer: &Peer, last: u64) -> u64 {
    peer.message(CONV, last).await;
    peer.caught_up().await;
    let frames = peer.frames();
    in_order(&frames);
    let end = frames.iter().position(is_caught_up).unwrap();
    assert_eq!(messages(&frames[..end]).last().map(|m| m.seq), Some(last), "caught_up before the backlog's end");
    assert_eq!(frames.iter().filter(|f| is_caught_up(f)).count(), 1);
    peer.seqs(CONV)[0]
}

/// A session of bob that does not acknowledge automatically.
async fn quiet(mesh: &TestMesh, node: usize, device: &str) -> Peer {
    Peer::join_quiet(&mesh.nodes[node].url(), "bob", device, Encoding::MsgPack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_messages_wait_for_three_devices_at_different_places() {
    let mesh = TestMesh::start(2).await;
    let ledger = Ledger::default();
    // Three devices are known before anything is sent; one of them acknowledges part of it.
    for device in ["zero", "some", "read"] {
        mesh.json(0, "bob", device).await.caught_up().await;
    }
    let alice = mesh.json(0, "alice", "d").await;
    send_many(&alice, &ledger, 0, 100).await;
    let some = quiet(&mesh, 1, "some").await;
    some.message(CONV, 100).await;
    some.ack(CONV, 40);
    alice.receipt("the cursor is stored", |r| r.delivered == Some(40)).await;
    some.say(&Outgoing::Read { conv: CONV, seq: 70 });
    alice.receipt("the read mark is stored", |r| r.read == Some(70)).await;
    drop(some);
    send_many(&alice, &ledger, 100, COUNT - 100).await;
    alice.message(CONV, COUNT).await;

    let zero = mesh.json(1, "bob", "zero").await;
    let some = mesh.msgpack(0, "bob", "some").await;
    let fresh = mesh.json(0, "bob", "fresh").await;
    assert_eq!(backlog(&zero, COUNT).await, 1);
    assert_eq!(backlog(&some, COUNT).await, 41, "a device goes on at its cursor");
    assert_eq!(backlog(&fresh, COUNT).await, 71, "a new device starts at the read mark");
    ledger.reaches("bob", &[&zero]).await;
    // And live from here on, on all of them.
    alice.send("@bob", "live", "live").await;
    for peer in [&zero, &some, &fresh] {
        peer.message(CONV, COUNT + 1).await;
        in_order(&peer.frames());
    }
}

#[tokio::test]
async fn no_more_than_the_window_is_handed_out_and_an_ack_opens_it() {
    let mesh = TestMesh::tuned(1, |config| config.limits.window = 16).await;
    mesh.json(0, "bob", "d").await.caught_up().await;
    let alice = mesh.json(0, "alice", "d").await;
    send_many(&alice, &Ledger::default(), 0, 100).await;
    let bob = quiet(&mesh, 0, "d").await;
    assert_eq!(bob.welcome.as_ref().unwrap().limits.window, 16);
    bob.message(CONV, 16).await;
    bob.round_trip().await;
    assert_eq!(bob.seqs(CONV), (1..=16).collect::<Vec<_>>());
    bob.ack(CONV, 10);
    bob.message(CONV, 26).await;
    bob.round_trip().await;
    assert_eq!(bob.seqs(CONV).len(), 26);
    assert!(!bob.frames().iter().any(is_caught_up), "the backlog is not handed out yet");
    for seq in (20..=100).step_by(10) {
        bob.message(CONV, seq).await;
        bob.ack(CONV, seq);
    }
    assert_eq!(backlog(&bob, 100).await, 1);
}

#[tokio::test]
async fn one_long_backlog_does_not_hold_up_the_others() {
    let mesh = TestMesh::tuned(1, |config| config.limits.window = 32).await;
    mesh.json(0, "zoe", "d").await.caught_up().await;
    let alice = mesh.json(0, "alice", "d").await;
    for i in 0..200 {
        alice.begin_send("@zoe", &format!("c{i}"), &natter::protocol::Body::text("x"));
    }
    alice.message("dm:alice:zoe", 200).await;
    let bob = mesh.json(0, "bob", "d").await;
    bob.send("@zoe", "c", "short").await;
    // Nothing is acknowledged: the long backlog may take half of the window, and no more while the other waits.
    let zoe = Peer::join_quiet(&mesh.nodes[0].url(), "zoe", "d", Encoding::Json).await;
    zoe.message("dm:bob:zoe", 1).await;
    let before = zoe.messages().iter().take_while(|message| message.conv.as_str() != "dm:bob:zoe").count();
    assert!(before <= 16, "the short one came after {before} messages");
}

#[tokio::test]
async fn acknowledged_messages_do_not_come_again_and_others_do() {
    let mesh = TestMesh::start(2).await;
    mesh.json(0, "bob", "d").await.caught_up().await;
    let alice = mesh.json(0, "alice", "d").await;
    let ledger = Ledger::default();
    send_many(&alice, &ledger, 0, 20).await;
    let bob = quiet(&mesh, 0, "d").await;
    bob.message(CONV, 20).await;
    bob.ack(CONV, 12);
    // The second ack comes within the coalescing time: it is written when the session ends.
    bob.ack(CONV, 15);
    alice.receipt("the first cursor", |r| r.delivered == Some(12)).await;
    bob.vanish();
    alice.receipt("the cursor that the end writes", |r| r.delivered == Some(15)).await;
    let again = Peer::join_as(&mesh.nodes[1].url(), &token("bob"), "d", Encoding::Json, 1).await.unwrap();
    assert_eq!(backlog(&again, 20).await, 16);
}

#[tokio::test]
async fn caught_up_comes_at_once_where_nothing_waits() {
    let mesh = TestMesh::start(1).await;
    let bob = mesh.json(0, "bob", "d").await;
    bob.caught_up().await;
    mesh.json(0, "alice", "d").await.send("@bob", "c", "x").await;
    bob.message(CONV, 1).await;
    assert!(is_caught_up(&bob.frames()[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_conversations_come_within_a_small_window() {
    const SENDERS: usize = 400;
    let mesh = TestMesh::tuned(2, |config| config.limits.window = 16).await;
    mesh.json(0, "bob", "d").await.caught_up().await;
    let ledger = Ledger::default();
    for round in 0..2 {
        for chunk in (0..SENDERS).collect::<Vec<_>>().chunks(50) {
            let sends = chunk.iter().map(async |i| {
                let (name, cid) = (format!("u{i:03}"), format!("c{round}"));
                let peer = mesh.msgpack(i % 2, &name, "d").await;
                ledger.send(&peer, &name, "@bob", &cid).await;
            });
            futures_util::future::join_all(sends).await;
        }
    }
    let bob = mesh.json(1, "bob", "d").await;
    // Live ones arrive in between, in conversations that are behind and in new ones.
    let late = mesh.json(0, "u007", "d").await;
    ledger.send(&late, "u007", "@bob", "late").await;
    let fresh = mesh.json(0, "zoe", "d").await;
    ledger.send(&fresh, "zoe", "@bob", "fresh").await;
    bob.caught_up().await;
    let behind = bob.frames().iter().position(is_caught_up).unwrap();
    assert!(messages(&bob.frames()[..behind]).count() >= 2 * SENDERS);
    ledger.reaches("bob", &[&bob]).await;
    // Nothing comes twice, though positions were forgotten in between (R8).
    assert_eq!(bob.messages().len(), ledger.len());
}
