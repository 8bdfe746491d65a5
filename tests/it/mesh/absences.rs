//! Devices that come back after a month: to more conversations than a node keeps in memory for them, and to more messages of
//! one conversation than they are handed. The scenarios run on both stores.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use natter::{
    model::{Body, Cid, ConvId, Device, NewMessage, Seq, room::Change},
    protocol::{Encoding, ServerFrame, client::Outgoing},
    store::Store,
};

use super::{
    Peer, TestMesh,
    peer::{is_caught_up, messages},
    resumed::{device, told},
};
use crate::{
    harness::until,
    store::contract::{rooms, user},
};

/// What is missed in all: so many conversations …
const CONVS: usize = 5_000;
/// … with so many messages each.
const EACH: u64 = 10;
/// The bound of the tests below, as a node's configuration has it.
pub const BACKLOG: u64 = 100;
/// Room for all of what is handed out, so that nothing has to be acknowledged.
pub const WINDOW: u64 = 1_000;

async fn append(store: &Store, conv: &ConvId, sender: &str, seqs: std::ops::RangeInclusive<u64>) {
    let message = |n: u64| {
        let cid = Cid::new(&format!("c{n}")).unwrap();
        NewMessage::of_user(user(sender), cid, n, Body::text(&format!("message {n}")))
    };
    for appended in store.logs.append(conv, seqs.map(message).collect()).await {
        appended.unwrap();
    }
}

/// Fifty thousand messages that nobody was there for.
pub async fn miss_everything(store: &Store, device: &Device) {
    store.marks.enter(device, 32).await.unwrap();
    let miss = |n: usize| async move {
        let peer = format!("peer{n}");
        append(store, &ConvId::direct(&user(&peer), &device.user), &peer, 1..=EACH).await;
    };
    stream::iter((0..CONVS).map(miss)).buffer_unordered(64).collect::<()>().await;
}

/// The device comes back and is handed all of it, each conversation in order, before it is told that it has everything.
pub async fn catch_up(url: &str, device: &Device) {
    let (user, id) = (device.user.as_str(), device.device.as_str());
    let peer = Peer::join(url, user, id, Encoding::MsgPack).await;
    // However long that takes on a busy machine: as long as something comes.
    let mut seen = 0;
    while !peer.has(is_caught_up) {
        until("more comes", async || peer.heard() > seen || peer.has(is_caught_up)).await;
        seen = peer.heard();
    }
    let frames = peer.frames();
    let before = frames.iter().take_while(|frame| !is_caught_up(frame)).cloned().collect::<Vec<_>>();
    let mut handed = BTreeMap::<&str, Vec<Seq>>::new();
    for message in messages(&before) {
        handed.entry(message.conv.as_str()).or_default().push(message.seq);
    }
    assert_eq!(handed.len(), CONVS);
    let whole: Vec<Seq> = (1..=EACH).collect();
    for (conv, seqs) in handed {
        assert_eq!(seqs, whole, "{conv}");
    }
    assert!(!frames.iter().any(|frame| matches!(frame, ServerFrame::Truncated { .. })), "nothing is left out");
    drop(peer);
    // And all of it is acknowledged: the next login has nothing to hand out.
    let since = told(url, user, id).await;
    let peer = Peer::resume(url, user, id, Encoding::Json, Some(&since)).await;
    peer.caught_up().await;
    assert_eq!(peer.messages().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_everything_is_caught_up_in_order() {
    let mesh = TestMesh::start(1).await;
    let device = device("bob", "phone");
    miss_everything(&Store::of(mesh.store.clone()), &device).await;
    catch_up(&mesh.nodes[0].url(), &device).await;
}

const ROOM: &str = "room:lobby";
/// In the room's log before the messages.
const JOINS: u64 = 2;
/// Missed in the room and in one direct conversation.
const MISSED: u64 = 250;

/// A room and a direct conversation in which the device misses more than it is handed, and a conversation in which it misses
/// just as much as that.
pub async fn miss_too_much(store: &Store, device: &Device) {
    store.marks.enter(device, 32).await.unwrap();
    let room = rooms::room("lobby");
    for (who, change) in [("alice", rooms::created(true)), ("bob", Change::Joined)] {
        rooms::change(store, &room, who, &change).await.unwrap();
    }
    append(store, &ConvId::room(&room), "alice", 1..=MISSED).await;
    append(store, &ConvId::direct(&user("alice"), &device.user), "alice", 1..=MISSED).await;
    append(store, &ConvId::direct(&user("carol"), &device.user), "carol", 1..=BACKLOG).await;
}

/// It gets the newest part of each, and is told where that begins.
pub async fn begin_late(url: &str) {
    let peer = Peer::join_quiet(url, "bob", "phone", Encoding::Json).await;
    let last = [(ROOM, JOINS + MISSED), ("dm:alice:bob", MISSED), ("dm:bob:carol", BACKLOG)];
    peer.caught_up().await;
    for (conv, last) in last {
        let newest: Vec<_> = (last - BACKLOG + 1..=last).collect();
        assert_eq!(peer.seqs(conv), newest, "{conv}");
        let frames = peer.frames();
        let cut = frames.iter().find_map(|frame| match frame {
            ServerFrame::Truncated { conv: cut, from } if cut.as_str() == conv => Some(*from),
            _ => None,
        });
        assert_eq!(cut, (newest[0] > 1).then_some(newest[0]), "{conv}");
        let told = frames
            .iter()
            .position(|frame| matches!(frame, ServerFrame::Truncated { conv: cut, .. } if cut.as_str() == conv));
        let handed = frames
            .iter()
            .position(|frame| matches!(frame, ServerFrame::Message(message) if message.conv.as_str() == conv));
        assert!(told < handed, "{conv}: told before anything comes");
    }
    // What was left out is still unread, and in the history.
    assert_eq!(unread(&peer, "dm:alice:bob").await, MISSED);
    assert_eq!(unread_in_room(&peer, "lobby").await, MISSED);
    let (seqs, more) = peer.history("dm:alice:bob", Some(MISSED - BACKLOG + 1), None, 50).await;
    assert_eq!((seqs.first(), seqs.last(), more), (Some(&101), Some(&150), true));
    drop(peer);

    // Nothing was acknowledged, so it begins there again; what is acknowledged moves the cursor over all before it.
    let peer = Peer::join(url, "bob", "phone", Encoding::MsgPack).await;
    peer.caught_up().await;
    assert_eq!(peer.seqs("dm:alice:bob").len() as u64, BACKLOG);
    drop(peer);
    let since = told(url, "bob", "phone").await;
    // Which says nothing of rooms: a cursor there is written rarely, and at last when its session ends.
    until("what was acknowledged in the room is stored, too", async || {
        let peer = Peer::resume(url, "bob", "phone", Encoding::Json, Some(&since)).await;
        peer.caught_up().await;
        let messages = peer.messages();
        assert!(messages.iter().all(|message| message.conv.is_room()), "{messages:?}");
        messages.is_empty()
    })
    .await;
}

async fn unread(peer: &Peer, conv: &str) -> u64 {
    let reference = peer.fresh_ref();
    peer.say(&Outgoing::Conversations { reference: Some(reference), after: None, limit: 10 });
    match peer.answer(reference).await {
        ServerFrame::Conversations(page) => {
            page.items.iter().find(|item| item.conv.as_str() == conv).unwrap_or_else(|| panic!("{page:?}")).unread
        }
        other => panic!("no conversations: {other:?}"),
    }
}

async fn unread_in_room(peer: &Peer, room: &str) -> u64 {
    let reference = peer.fresh_ref();
    peer.say(&Outgoing::Room { reference: Some(reference), room });
    match peer.answer(reference).await {
        ServerFrame::Room(room) => room.view.log.expect("bob is a member").unread,
        other => panic!("no room: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_misses_more_than_the_bound_gets_the_newest_part() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.backlog_per_conversation = BACKLOG as u32;
        config.limits.window = WINDOW as u32;
    })
    .await;
    miss_too_much(&Store::of(mesh.store.clone()), &device("bob", "phone")).await;
    begin_late(&mesh.nodes[0].url()).await;
    assert!(mesh.nodes[0].metric("natter_backlogs_cut_total").await >= 4.0);
    assert_eq!(mesh.nodes[0].metric("natter_truncated_total").await, 0.0, "that one is for damaged logs");
}
