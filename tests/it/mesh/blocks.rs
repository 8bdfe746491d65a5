//! Blocks over two nodes: what passes between two users, and what does not, while one of them blocks the other; and signals to
//! rooms, which respect them.

use natter::{
    client::{Client, ClientOptions, Event, NewRoom, RequestError},
    config::Config,
    model::{ConvId, Reaction, RoomId, UserId},
    protocol::{Body, ErrorCode, ServerFrame, ask},
    store::People as _,
};

use super::{Peer, TestMesh, token};
use crate::harness::{PATIENCE, until};

const CONV: &str = "dm:alice:bob";

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[node].url(), token(name), "c")).await.unwrap()
}

/// What is known of blocks is only ever read again because somebody said so.
fn believed(config: &mut Config) {
    config.timing.blocks_known_ms = 3_600_000;
    config.presence.quiet_ms = 50;
}

fn code(frame: &ServerFrame) -> Option<ErrorCode> {
    if let ServerFrame::Error { code, .. } = frame { Some(*code) } else { None }
}

async fn try_send(peer: &Peer, to: &str, cid: &str) -> Option<ErrorCode> {
    code(&peer.try_send(to, cid, &Body::text("hi")).await)
}

fn signals(peer: &Peer, kind: &str) -> usize {
    peer.frames().iter().filter(|frame| matches!(frame, ServerFrame::Signal(signal) if signal.kind == kind)).count()
}

fn receipts(peer: &Peer) -> usize {
    peer.frames().iter().filter(|frame| matches!(frame, ServerFrame::Receipt(_))).count()
}

fn signal(peer: &Peer, to: &str, kind: &str) {
    peer.say(&natter::protocol::client::Outgoing::Signal { to, kind, body: None });
}

async fn presence(client: &Client, name: &str) -> ask::Presences {
    client.presence(vec![user(name)]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_on_both_nodes_until_it_is_taken_off() {
    let mesh = TestMesh::tuned(2, believed).await;
    let (alice, bob) = (mesh.json(0, "alice", "phone").await, mesh.msgpack(1, "bob", "phone").await);
    let (hers, his) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    // Both nodes know that there is no block.
    for (one, other) in [(&alice, "@bob"), (&bob, "@alice")] {
        assert_eq!(try_send(one, other, "before").await, None);
        signal(one, other, "before");
    }
    until("both got the signal", async || signals(&alice, "before") == 1 && signals(&bob, "before") == 1).await;
    alice.message(CONV, 2).await;
    bob.message(CONV, 2).await;
    let watched = his.watch(vec![user("alice")]).await.unwrap();
    assert_eq!((watched.items[0].online, watched.refused), (Some(true), vec![]));

    hers.block(&user("bob")).await.unwrap();
    until("bob's node knows", async || try_send(&bob, "@alice", "blocked").await == Some(ErrorCode::Blocked)).await;
    let stored = bob.history(CONV, None, Some(0), 10).await.0.len() as u64;
    alice.forget();
    bob.forget();
    signal(&bob, "@alice", "blocked");
    signal(&alice, "@bob", "blocked");
    assert_eq!(presence(&his, "alice").await.refused, [user("alice")]);
    assert_eq!(presence(&hers, "bob").await.refused, [user("bob")], "both ways");
    assert_eq!(mesh.nodes[1].metric("natter_watched_users").await as u64, 0, "what was watched is not any more");
    // Whoever blocks may write, and takes no answer.
    let (_, seq) = alice.send("@bob", "mine", "hi").await;
    assert_eq!(seq, stored + 1);
    bob.message(CONV, seq).await;
    bob.say(&natter::protocol::client::Outgoing::Read { conv: CONV, seq });
    bob.round_trip().await;
    alice.round_trip().await;

    hers.unblock(&user("bob")).await.unwrap();
    until("bob's node knows", async || try_send(&bob, "@alice", "again").await.is_none()).await;
    signal(&bob, "@alice", "again");
    until("alice got the signal", async || signals(&alice, "again") == 1).await;
    assert_eq!((signals(&alice, "blocked"), signals(&bob, "blocked")), (0, 0));
    let read = |frame: &ServerFrame| matches!(frame, ServerFrame::Receipt(receipt) if receipt.user == user("bob") && receipt.read == Some(seq));
    assert!(!alice.frames().iter().any(read), "nobody is told of what the other read");
    assert_eq!(presence(&his, "alice").await.items[0].online, Some(true));
    bob.say(&natter::protocol::client::Outgoing::Read { conv: CONV, seq: seq + 1 });
    until("a receipt comes again", async || receipts(&alice) > 0).await;
}

/// Nobody told this node. It goes by what it read for no longer than it may.
/// A notice says only that something changed: what is so now counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_begun_after_an_unblock_goes_on_when_the_notice_comes() {
    let often = |config: &mut Config| {
        believed(config);
        config.presence.probe_ms = 300;
    };
    let mesh = TestMesh::tuned(2, often).await;
    let (hers, his) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    hers.send("@bob", Body::text("hi")).await.unwrap();
    his.watch(vec![user("alice")]).await.unwrap();
    // The notice of it is that of an unblock that was made before.
    hers.unblock(&user("bob")).await.unwrap();
    hers.close().await;
    let told = async || loop {
        if let Some(Event::Presence(seen)) = his.next().await {
            return seen.online;
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told()).await.unwrap(), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_which_nothing_was_heard_holds_after_a_bounded_time() {
    let mesh = TestMesh::tuned(1, |config| config.timing.blocks_known_ms = 300).await;
    let bob = mesh.json(0, "bob", "phone").await;
    assert_eq!(try_send(&bob, "@alice", "c0").await, None);
    mesh.store.block(&user("alice"), &user("bob"), true).await.unwrap();
    let mut n = 0;
    until("it is read again", async || {
        n += 1;
        try_send(&bob, "@alice", &format!("c{n}")).await == Some(ErrorCode::Blocked)
    })
    .await;
}

/// Written ahead of the answers, while the block is made: what passes is before it, and after the first that is refused all
/// are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_that_race_a_block_are_before_it_or_refused() {
    let mesh = TestMesh::tuned(2, believed).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, mesh.json(1, "bob", "phone").await);
    for round in 0..10 {
        let refs: Vec<_> =
            (0..60).map(|n| bob.begin_send("@alice", &format!("r{round}-{n}"), &Body::text("x"))).collect();
        alice.block(&user("bob")).await.unwrap();
        until("bob's node knows", async || {
            try_send(&bob, "@alice", &format!("r{round}-last")).await == Some(ErrorCode::Blocked)
        })
        .await;
        let mut last = 0;
        let mut refused = false;
        for reference in refs {
            match bob.answer(reference).await {
                ServerFrame::Sent(sent) => {
                    assert!(!refused && sent.seq > last, "stored after one was refused, or out of order");
                    last = sent.seq;
                }
                other => {
                    assert_eq!(code(&other), Some(ErrorCode::Blocked));
                    refused = true;
                }
            }
        }
        alice.unblock(&user("bob")).await.unwrap();
        let through = async || try_send(&bob, "@alice", &format!("r{round}-through")).await.is_none();
        until("bob's node knows that too", through).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_listed_in_pages_and_bounded() {
    let mesh = TestMesh::tuned(1, |config| config.limits.blocks_per_user = 3).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, client(&mesh, 0, "bob").await);
    bob.block(&user("alice")).await.unwrap();
    for name in ["dan", "cleo", "eve"] {
        alice.block(&user(name)).await.unwrap();
    }
    alice.block(&user("dan")).await.unwrap();
    let refused = alice.block(&user("fay")).await.unwrap_err().to_string();
    assert!(refused.contains("limits.blocks_per_user"), "{refused}");
    let page = alice.blocks(None, 2).await.unwrap();
    assert_eq!(page.users, [user("cleo"), user("dan")]);
    let rest = alice.blocks(page.next, 2).await.unwrap();
    assert_eq!((rest.users, rest.next), (vec![user("eve")], None));
    alice.unblock(&user("dan")).await.unwrap();
    alice.block(&user("fay")).await.unwrap();
    assert_eq!(alice.blocks(None, 100).await.unwrap().users, [user("cleo"), user("eve"), user("fay")]);
    assert!(alice.block(&user("alice")).await.is_err());
}

/// Members on both nodes hear it, but for the sender and for those whom a block parts from the sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_a_room_reaches_its_members_and_nobody_a_block_parts() {
    let mesh = TestMesh::tuned(2, believed).await;
    let room = RoomId::new("lobby").unwrap();
    let names = ["alice", "bob", "cleo", "dan"];
    let mut clients = Vec::new();
    for (n, name) in names.into_iter().enumerate() {
        clients.push(client(&mesh, n % 2, name).await);
    }
    clients[0].create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    for other in &clients[1..] {
        other.join_room(&room).await.unwrap();
    }
    clients[2].block(&user("alice")).await.unwrap();
    clients[0].block(&user("dan")).await.unwrap();
    let mut peers = Vec::new();
    for (n, name) in names.into_iter().chain(["eve"]).enumerate() {
        let peer = mesh.json(n % 2, name, "phone").await;
        peer.caught_up().await;
        peers.push(peer);
    }
    signal(&peers[0], "#lobby", "typing");
    until("bob heard it on the other node", async || signals(&peers[1], "typing") == 1).await;
    signal(&peers[1], "#lobby", "after");
    for n in [0, 2, 3] {
        until("what bob said came", async || signals(&peers[n], "after") == 1).await;
    }
    let heard: Vec<_> = peers.iter().map(|peer| signals(peer, "typing")).collect();
    assert_eq!(heard, [0, 1, 0, 0, 0], "neither the sender, nor those who are parted, nor whoever is no member");
    signal(&peers[4], "#lobby", "typing");
    peers[4].error(ErrorCode::NotMember).await;
    clients[0].kick(&room, &user("bob")).await.unwrap();
    signal(&peers[1], "#lobby", "kicked");
    peers[1].error(ErrorCode::NotMember).await;
}

/// Whoever is blocked changes nothing that was said, but may take back what was their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_blocked_neither_edits_nor_reacts() {
    let mesh = TestMesh::tuned(2, believed).await;
    let (hers, his) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    let conv = ConvId::new(CONV).unwrap();
    let of_alice = hers.send("@bob", Body::text("hi")).await.unwrap().seq;
    let of_bob = his.send("@alice", Body::text("ho")).await.unwrap().seq;
    let smile = || ":)".parse::<Reaction>().unwrap();
    his.react(&conv, of_alice, smile()).await.unwrap();
    hers.block(&user("bob")).await.unwrap();
    let refused = async || {
        matches!(
            his.edit(&conv, of_bob, Body::text("!")).await,
            Err(RequestError::Refused { code: ErrorCode::Blocked, .. })
        )
    };
    until("bob's node knows", refused).await;
    let reacted = his.react(&conv, of_alice, ":(".parse().unwrap()).await;
    assert!(matches!(reacted, Err(RequestError::Refused { code: ErrorCode::Blocked, .. })), "{reacted:?}");
    his.unreact(&conv, of_alice, smile()).await.unwrap();
    his.delete(&conv, of_bob).await.unwrap();
    hers.react(&conv, of_alice, smile()).await.unwrap();
}
