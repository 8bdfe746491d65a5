//! Rooms that are large: many members on two nodes, and a member that was away for a long time.

use futures_util::{StreamExt as _, future::join_all, stream};
use natter::{
    model::{ConvId, NewMessage, Seq, room::Change},
    protocol::Encoding,
    store::{Logs as _, Marks as _},
};

use crate::{
    harness::{until, wait::until_within},
    mesh::{Peer, TestMesh, ledger::in_order},
    store::contract::{
        entered, message,
        rooms::{created, event, kicked},
    },
};

const CONV: &str = "room:hall";
/// What waits for this many members on a loaded machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Stored at once, of which no node hears anything. Returns the last seq.
async fn store(mesh: &TestMesh, rows: Vec<NewMessage>) -> Seq {
    let conv = ConvId::new(CONV).unwrap();
    let mut last = 0;
    for some in rows.chunks(500) {
        for answer in mesh.store.append(&conv, some.to_vec()).await {
            last = answer.unwrap().seq;
        }
    }
    last
}

/// A public room of ada's with these members. Returns the seq of the last join.
async fn create(mesh: &TestMesh, members: &[String]) -> Seq {
    let created = event("ada", "create", &created(true));
    let joins = members.iter().map(|name| event(name, "join", &Change::Joined));
    store(mesh, [created].into_iter().chain(joins).collect()).await
}

async fn logged_in(mesh: &TestMesh, node: usize, name: &str, encoding: Encoding) -> Peer {
    let peer = mesh.peer(node, name, "phone", encoding).await;
    until_within(PATIENCE, "it is caught up", async || peer.frames().iter().any(crate::mesh::peer::is_caught_up)).await;
    peer
}

const MEMBERS: usize = 2_000;
const SENDERS: usize = 4;
const EACH: usize = 10;

/// Two thousand members on two nodes, half of them in each encoding: everybody gets everything once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_members_on_two_nodes_get_everything() {
    let mesh = TestMesh::start(2).await;
    let names: Vec<String> = (0..MEMBERS).map(|n| format!("member{n}")).collect();
    let joined = create(&mesh, &names).await;
    for name in &names {
        // Each has acknowledged the joins of the others: two million rows are no part of this.
        let phone = entered(&*mesh.store, name, "phone").await;
        mesh.store.raise_cursor(&phone, &ConvId::new(CONV).unwrap(), joined).await.unwrap();
    }
    let logins = names.iter().enumerate().map(|(n, name)| {
        let encoding = if n % 4 < 2 { Encoding::Json } else { Encoding::MsgPack };
        logged_in(&mesh, n % 2, name, encoding)
    });
    let members: Vec<Peer> = stream::iter(logins).buffered(16).collect().await;
    let sending = members[..SENDERS].iter().enumerate().map(async |(n, peer)| {
        for number in 0..EACH {
            peer.send("#hall", &format!("s{n}.{number}"), "hi").await;
        }
    });
    join_all(sending).await;
    let last = joined + (SENDERS * EACH) as Seq;
    let wanted: Vec<Seq> = (joined + 1..=last).collect();
    for (n, peer) in members.iter().enumerate() {
        until_within(PATIENCE, &format!("member {n} has everything"), async || peer.seqs(CONV).len() >= wanted.len())
            .await;
        assert_eq!(peer.seqs(CONV), wanted, "member {n}");
    }
}

const MISSED: usize = 9_900;

/// A member that was away for thousands of messages, while others talked and one was put out, gets all of it in order while
/// new ones come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_for_thousands_of_messages_gets_all_of_them() {
    let mesh = TestMesh::start(2).await;
    let joined = create(&mesh, &["bob".to_owned(), "eve".to_owned()]).await;
    logged_in(&mesh, 1, "bob", Encoding::Json).await.vanish();
    until("bob has gone", async || mesh.nodes[1].sessions() == 0).await;
    let mut missed: Vec<_> = (0..MISSED).map(|n| message(["ada", "eve"][n % 2], &format!("m{n}"))).collect();
    missed.push(event("ada", "kick", &kicked("eve")));
    let stored = store(&mesh, missed).await;
    let ada = logged_in(&mesh, 0, "ada", Encoding::MsgPack).await;
    let bob = mesh.peer(1, "bob", "phone", Encoding::Json).await;
    let mut last = stored;
    for n in 0..20 {
        last = ada.send("#hall", &format!("live{n}"), "hi").await.1;
    }
    assert_eq!(last, stored + 20);
    until_within(PATIENCE, "bob has everything", async || bob.seqs(CONV).last() == Some(&last)).await;
    in_order(&bob.frames());
    let seqs = bob.seqs(CONV);
    // Of eve's join the acknowledgement may have been on its way when he went.
    assert!(seqs[0] == joined || seqs[0] == joined + 1, "it begins at {}", seqs[0]);
    assert_eq!(seqs, (seqs[0]..=last).collect::<Vec<_>>());
}
