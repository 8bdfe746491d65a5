//! Rooms over two nodes: everybody in the room gets everything once and in order, from behind the join up to the leave, whatever
//! races and whoever reconnects.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use natter::{
    client::{Client, ClientOptions},
    model::{
        Cid, ConvId, Device, Kind, RoomId, Seq, UserId,
        room::{Change, Denied, Member, Reach},
    },
    protocol::{Body, Encoding, ErrorCode, ServerFrame},
    store::{Appended, Marks as _, RoomRow, Rooms, Store, StoreError, StoreFuture, StoreResult},
};

use crate::{
    harness::until,
    mesh::{Peer, TestMesh, ledger::in_order, peer::is_caught_up, token},
};

const ROOM: &str = "lobby";
const CONV: &str = "room:lobby";

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn room() -> RoomId {
    RoomId::new(ROOM).unwrap()
}

fn kick(name: &str) -> Change {
    Change::Kicked { user: user(name) }
}

/// A change as a node makes it.
async fn try_change(mesh: &TestMesh, node: usize, by: &str, change: Change) -> StoreResult<Appended> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let cid = Cid::new(&format!("change{}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap();
    let gateway = mesh.nodes[node].weak_gateway().upgrade().unwrap();
    gateway.ops().change(&room(), user(by), cid, &change).await
}

async fn change(mesh: &TestMesh, node: usize, by: &str, change: Change) -> Seq {
    try_change(mesh, node, by, change).await.unwrap().seq
}

/// A public room of ada's, which others have joined. Returns the seq of the last join.
async fn create(mesh: &TestMesh, members: &[&str]) -> Seq {
    let created = Change::Created { topic: None, public: true, history: Reach::Join, lifetime: None };
    let mut last = change(mesh, 0, "ada", created).await;
    for (n, member) in members.iter().enumerate() {
        last = change(mesh, n % mesh.nodes.len(), member, Change::Joined).await;
    }
    last
}

async fn caught_up(mesh: &TestMesh, node: usize, name: &str) -> Peer {
    let encoding = if node == 0 { Encoding::Json } else { Encoding::MsgPack };
    let peer = mesh.peer(node, name, "phone", encoding).await;
    peer.caught_up().await;
    peer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_every_member_on_both_nodes_once_and_in_order() {
    let mesh = TestMesh::start(2).await;
    let joined = create(&mesh, &["bob", "cleo", "dan"]).await;
    let peers = join_all(
        [(0, "ada"), (1, "bob"), (0, "cleo"), (1, "dan"), (1, "eve")].map(|(node, name)| caught_up(&mesh, node, name)),
    )
    .await;
    let send = async |peer: &Peer, name: &str| {
        for n in 0..50 {
            let (conv, _) = peer.send("#lobby", &format!("{name}{n}"), "hi").await;
            assert_eq!(conv.as_str(), CONV);
        }
    };
    tokio::join!(send(&peers[0], "ada"), send(&peers[1], "bob"), send(&peers[2], "cleo"));
    for peer in &peers[..4] {
        peer.message(CONV, joined + 150).await;
        in_order(&peer.frames());
        // dan joined last, and gets nothing of what was before; the others got it when they came.
        let seqs: Vec<_> = peer.seqs(CONV).into_iter().filter(|seq| *seq > joined).collect();
        assert_eq!(seqs, (joined + 1..=joined + 150).collect::<Vec<_>>());
    }
    assert_eq!(peers[3].seqs(CONV)[0], joined + 1);
    let message = peers[3].message(CONV, joined + 1).await;
    assert_eq!((message.kind, message.conv.as_str()), (Kind::Message, CONV));
    peers[4].round_trip().await;
    assert_eq!(peers[4].seqs(CONV), [0; 0], "eve is no member");
    let refused = peers[4].try_send("#lobby", "x", &Body::text("let me in")).await;
    assert!(matches!(refused, ServerFrame::Error { code: ErrorCode::NotMember, .. }), "{refused:?}");
}

/// Who joins while messages are sent starts behind the join, and is told of it; the others get the join as an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_starts_behind_the_join() {
    let mesh = TestMesh::start(2).await;
    create(&mesh, &[]).await;
    let (ada, bob) = (caught_up(&mesh, 0, "ada").await, caught_up(&mesh, 1, "bob").await);
    let sending = async {
        for n in 0..40 {
            ada.send("#lobby", &format!("c{n}"), "hi").await;
        }
    };
    let joining = async {
        ada.message(CONV, 10).await;
        change(&mesh, 0, "bob", Change::Joined).await
    };
    let ((), join) = tokio::join!(sending, joining);
    bob.message(CONV, 42).await;
    assert_eq!(bob.seqs(CONV), (join + 1..=42).collect::<Vec<_>>());
    let told = |frames: &[ServerFrame]| {
        frames
            .iter()
            .find_map(|frame| if let ServerFrame::Member(member) = frame { Some(member.clone()) } else { None })
    };
    let told = bob.wait("the member frame", told).await;
    assert_eq!(
        (told.seq, told.kind, Change::from_body(told.body.as_ref().unwrap())),
        (join, Kind::Event, Ok(Change::Joined))
    );
    let event = ada.message(CONV, join).await;
    assert_eq!((event.kind, event.from.as_str()), (Kind::Event, "bob"));
}

/// A kick races what the victim and others send: for the victim the kick is the last row, and all before it is there; what is
/// sent after it is refused. On both nodes, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_that_races_sends_is_the_last_that_its_victim_gets() {
    let mesh = TestMesh::start(2).await;
    create(&mesh, &[]).await;
    let (ada, bob) = (caught_up(&mesh, 0, "ada").await, caught_up(&mesh, 1, "bob").await);
    for round in 0..30 {
        let join = change(&mesh, round % 2, "bob", Change::Joined).await;
        ada.forget();
        bob.forget();
        let from_ada = (0..8).map(|n| ada.begin_send("#lobby", &format!("a{round}.{n}"), &Body::text("hi")));
        let from_ada: Vec<_> = from_ada.collect();
        let from_bob = (0..8).map(|n| bob.begin_send("#lobby", &format!("b{round}.{n}"), &Body::text("hi")));
        let from_bob: Vec<_> = from_bob.collect();
        let kicked = change(&mesh, 0, "ada", kick("bob")).await;
        for reference in from_ada {
            assert!(matches!(ada.answer(reference).await, ServerFrame::Sent(_)));
        }
        for reference in from_bob {
            match bob.answer(reference).await {
                ServerFrame::Sent(sent) => assert!(sent.seq < kicked, "round {round}: {} after {kicked}", sent.seq),
                ServerFrame::Error { code: ErrorCode::NotMember, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        bob.message(CONV, kicked).await;
        let (_, after) = ada.send("#lobby", &format!("after{round}"), "without bob").await;
        ada.message(CONV, after).await;
        bob.round_trip().await;
        let seqs = bob.seqs(CONV);
        let first = seqs[0];
        assert!(first <= join + 1, "round {round}: starts at {first}, joined at {join}");
        assert_eq!(seqs, (first..=kicked).collect::<Vec<_>>(), "round {round}");
    }
    let gone = try_change(&mesh, 1, "bob", Change::Topic { topic: None }).await;
    assert_eq!(gone, Err(StoreError::Denied(Denied::NotMember)));
}

/// A device that was away while its user was put out and came back gets both parts and nothing between them; and one whose user
/// is out for good gets the rest up to the kick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_away_gets_what_was_for_its_user() {
    let mesh = TestMesh::start(2).await;
    let joined = create(&mesh, &["bob", "cleo"]).await;
    let ada = caught_up(&mesh, 0, "ada").await;
    for name in ["bob", "cleo"] {
        let peer = caught_up(&mesh, 1, name).await;
        peer.vanish();
    }
    let send = async |cid: &str| ada.send("#lobby", cid, "hi").await.1;
    assert_eq!(send("one").await, joined + 1);
    change(&mesh, 0, "ada", kick("bob")).await;
    let out = change(&mesh, 0, "ada", kick("cleo")).await;
    send("two").await;
    let back = change(&mesh, 0, "bob", Change::Joined).await;
    let last = send("three").await;
    let bob = caught_up(&mesh, 1, "bob").await;
    let own = |peer: &Peer| peer.seqs(CONV).into_iter().filter(|seq| *seq > joined).collect::<Vec<_>>();
    assert_eq!(own(&bob), [joined + 1, joined + 2, last]);
    let cut = bob.frames().into_iter().any(
        |frame| matches!(frame, ServerFrame::Truncated { conv, from } if conv.as_str() == CONV && from == back + 1),
    );
    assert!(cut, "{:?}", bob.frames());
    let cleo = caught_up(&mesh, 0, "cleo").await;
    assert_eq!(own(&cleo).last(), Some(&out));
    let (_, live) = ada.send("#lobby", "four", "hi").await;
    bob.message(CONV, live).await;
    cleo.round_trip().await;
    assert_eq!(own(&cleo).last(), Some(&out));
    // What was not for the user cannot be acknowledged, what was can.
    cleo.forget();
    cleo.ack(CONV, live);
    cleo.error(ErrorCode::BadAck).await;
}

/// Rooms that count how often they are asked.
struct Counted {
    inner: Arc<dyn Rooms>,
    rooms: AtomicUsize,
}

impl Rooms for Counted {
    fn rooms<'a>(&'a self, rooms: &'a [RoomId]) -> StoreFuture<'a, Vec<Option<RoomRow>>> {
        self.rooms.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            // Slow, or what is shared would depend on how fast members come.
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.inner.rooms(rooms).await
        })
    }

    fn member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> StoreFuture<'a, Member> {
        self.inner.member(room, user)
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(UserId, Member)>> {
        self.inner.members(room, after, limit)
    }

    fn rooms_of<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Member)>> {
        self.inner.rooms_of(user, after, limit)
    }

    fn room_cursors<'a>(
        &'a self,
        device: &'a Device,
        after: Option<&'a RoomId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(RoomId, Seq)>> {
        self.inner.room_cursors(device, after, limit)
    }
}

/// All members of a room reconnect at once: the room is read for many of them together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_reconnect_together_share_the_reads_of_the_room() {
    const MEMBERS: usize = 100;
    let mut mesh = TestMesh::bare(|_| ()).await;
    let counted = Arc::new(Counted { inner: mesh.store.clone(), rooms: AtomicUsize::new(0) });
    let store = Store { rooms: counted.clone(), ..Store::of(mesh.store.clone()) };
    mesh.add_node_on(mesh.nats.client_url(), store).await;
    let names: Vec<_> = (0..MEMBERS).map(|n| format!("member{n}")).collect();
    let joined = create(&mesh, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let ada = caught_up(&mesh, 0, "ada").await;
    let first = join_all(names.iter().map(|name| caught_up(&mesh, 0, name))).await;
    first.into_iter().for_each(Peer::vanish);
    until("all have gone", async || mesh.nodes[0].sessions() == 1).await;
    let (_, missed) = ada.send("#lobby", "missed", "hi").await;
    let before = counted.rooms.load(Ordering::Acquire);
    let again = join_all(names.iter().map(|name| caught_up(&mesh, 0, name))).await;
    let reads = counted.rooms.load(Ordering::Acquire) - before;
    for peer in &again {
        assert_eq!(peer.seqs(CONV).last(), Some(&missed));
    }
    println!("{MEMBERS} members of a room logged in with {reads} reads of the room");
    // How many share one depends on how many log in at once on this machine; without sharing it is one each at least.
    assert!(reads <= MEMBERS / 2, "{reads} reads for {MEMBERS} members");
    let (_, live) = ada.send("#lobby", "live", "hi").await;
    assert_eq!(live, joined + 2);
    for peer in &again {
        peer.message(CONV, live).await;
    }
}

/// Whoever joins and goes at once leaves nothing behind, and no failure of the store is reported for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_while_its_room_is_read_is_no_failure() {
    let mut mesh = TestMesh::bare(|_| ()).await;
    let counted = Arc::new(Counted { inner: mesh.store.clone(), rooms: AtomicUsize::new(0) });
    let store = Store { rooms: counted.clone(), ..Store::of(mesh.store.clone()) };
    mesh.add_node_on(mesh.nats.client_url(), store).await;
    create(&mesh, &[]).await;
    let bob = Client::connect(ClientOptions::new(mesh.nodes[0].url(), token("bob"), "c")).await.unwrap();
    bob.join_room(&room()).await.unwrap();
    let before = counted.rooms.load(Ordering::Acquire);
    until("the session reads its room", async || counted.rooms.load(Ordering::Acquire) > before).await;
    bob.close().await;
    until("it is gone", async || mesh.nodes[0].sessions() == 0).await;
    // Its read began before those of this one.
    caught_up(&mesh, 0, "ada").await;
    assert_eq!(mesh.nodes[0].metric("natter_store_errors_total").await, 0.0);
}

/// A node that lost what was published in a room finds it by one look at the head for all its members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_tells_all_members_of_what_was_lost() {
    let mesh = TestMesh::tuned(1, |config| config.timing.reconcile_secs = 1).await;
    create(&mesh, &["bob"]).await;
    let (ada, bob) = (caught_up(&mesh, 0, "ada").await, caught_up(&mesh, 0, "bob").await);
    let (_, before) = ada.send("#lobby", "before", "hi").await;
    bob.message(CONV, before).await;
    // Stored by a node of which this one hears nothing.
    let message = natter::model::NewMessage::of_user(user("ada"), Cid::new("lost").unwrap(), 1, Body::text("hi"));
    let conv = ConvId::new(CONV).unwrap();
    let stored = natter::store::Logs::append(&*mesh.store, &conv, vec![message]).await.remove(0).unwrap();
    for peer in [&ada, &bob] {
        peer.message(CONV, stored.seq).await;
    }
}

/// A cursor is not written for each message, and is there when the session has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_acknowledged_in_a_room_is_stored_when_it_ends() {
    let mesh = TestMesh::start(1).await;
    create(&mesh, &["bob"]).await;
    let (ada, bob) = (caught_up(&mesh, 0, "ada").await, caught_up(&mesh, 0, "bob").await);
    let mut last = 0;
    for n in 0..20 {
        last = ada.send("#lobby", &format!("c{n}"), "hi").await.1;
    }
    bob.message(CONV, last).await;
    bob.round_trip().await;
    bob.vanish();
    let device = Device::new(user("bob"), natter::model::DeviceId::new("phone").unwrap());
    let conv = ConvId::new(CONV).unwrap();
    until("the cursor is stored", async || {
        let known = mesh.store.devices(&device.user).await.unwrap().remove(0).device;
        mesh.store.cursor(&known, &conv).await.unwrap() == last
    })
    .await;
    let again = mesh.json(0, "bob", "phone").await;
    again.wait("caught_up", |frames| frames.iter().find(|frame| is_caught_up(frame)).cloned()).await;
    assert_eq!(again.seqs(CONV), [0; 0]);
}
