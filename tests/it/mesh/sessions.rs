//! A user sees the own devices and sessions, and ends them, wherever they are; nobody else's.

use natter::{
    client::{Client, ClientOptions, RequestError},
    model::{DeviceId, SessionId},
    protocol::{CloseReason, ErrorCode, ServerFrame, ask::EndSession, client::Outgoing},
    store::Store,
};

use super::{Peer, TestMesh, token};
use crate::harness::until;

async fn client(mesh: &TestMesh, user: &str, device: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[0].url(), token(user), device)).await.unwrap()
}

fn session(peer: &Peer) -> SessionId {
    peer.welcome.as_ref().unwrap().session.clone()
}

fn device(name: &str) -> EndSession {
    EndSession::Device(DeviceId::new(name).unwrap())
}

fn is_not_found<T: std::fmt::Debug>(answer: Result<T, RequestError>) {
    assert!(matches!(answer, Err(RequestError::Refused { code: ErrorCode::NotFound, .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_sees_devices_and_sessions_of_all_nodes() {
    let mesh = TestMesh::start(2).await;
    let phone = mesh.json(1, "bob", "phone").await;
    drop(mesh.json(1, "bob", "old").await);
    let _alice = mesh.json(1, "alice", "d").await;
    let bob = client(&mesh, "bob", "desktop").await;
    until("the other node's session is listed", async || {
        let seen = bob.sessions().await.unwrap();
        let mut devices: Vec<_> = seen.devices.iter().map(|seen| seen.device.as_str()).collect();
        devices.sort_unstable();
        assert_eq!(devices, ["desktop", "old", "phone"]);
        let mut live: Vec<_> = seen.sessions.iter().map(|seen| (seen.device.as_str(), seen.node.as_str())).collect();
        live.sort_unstable();
        assert!(seen.sessions.iter().all(|seen| seen.since > 0 && seen.device.as_str() != "d"), "{seen:?}");
        assert!(seen.sessions.iter().all(|seen| seen.device.as_str() != "phone" || seen.session == session(&phone)));
        live == [("desktop", "n1"), ("phone", "n2")]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_ends_sessions_on_any_node() {
    let mesh = TestMesh::start(2).await;
    let bob = client(&mesh, "bob", "desktop").await;
    for node in [0, 1] {
        let phone = mesh.json(node, "bob", "phone").await;
        assert_eq!(bob.end_session(EndSession::Session(session(&phone))).await.unwrap(), [session(&phone)]);
        assert_eq!(phone.closed().await, (4103, CloseReason::Disconnected.text().to_owned()));
        is_not_found(bob.end_session(EndSession::Session(session(&phone))).await);
    }
    let phone = mesh.json(1, "bob", "phone").await;
    assert!(!phone.welcome.as_ref().unwrap().new, "the device is still known");
    assert_eq!(bob.end_session(device("phone")).await.unwrap(), [session(&phone)]);
    assert_eq!(phone.closed().await.0, 4103);
    is_not_found(bob.end_session(device("phone")).await);
    assert!(mesh.json(1, "bob", "phone").await.welcome.as_ref().unwrap().new, "it was forgotten");
}

/// Nobody ends, or sees, what is another one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ends_anothers_session() {
    let mesh = TestMesh::start(2).await;
    let (bob, here) = (mesh.json(1, "bob", "phone").await, mesh.json(0, "bob", "tablet").await);
    let mallory = client(&mesh, "mallory", "phone").await;
    for victim in [&bob, &here] {
        is_not_found(mallory.end_session(EndSession::Session(session(victim))).await);
    }
    is_not_found(mallory.end_session(device("tablet")).await);
    let seen = mallory.sessions().await.unwrap();
    assert_eq!((seen.devices.len(), seen.sessions.len()), (1, 1), "{seen:?}");
    let known = Store::of(mesh.store.clone()).marks.devices(&"bob".parse().unwrap()).await.unwrap();
    assert_eq!(known.len(), 2);
    for peer in [&bob, &here] {
        peer.round_trip().await;
        assert_eq!(peer.closed_now(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_around_a_seq_has_half_before_it() {
    let mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    let mut conv = None;
    for n in 1..=20 {
        conv = Some(alice.send("@bob", &format!("c{n}"), "hi").await.0);
    }
    let conv = conv.unwrap();
    for (around, limit, wanted, more) in [
        (10, 6, 7..=12, true),
        (10, 1, 10..=10, true),
        (2, 8, 1..=5, true),
        (19, 8, 15..=20, false),
        (0, 4, 1..=2, true),
    ] {
        let reference = alice.fresh_ref();
        alice.say(&Outgoing::History {
            reference: Some(reference),
            conv: conv.as_str(),
            before: None,
            after: None,
            around: Some(around),
            limit,
            raw: true,
        });
        let ServerFrame::History(page) = alice.answer(reference).await else { panic!("no page") };
        let seqs: Vec<_> = page.messages.iter().map(|message| message.seq).collect();
        assert_eq!((seqs, page.more), (wanted.collect(), more), "around {around}, at most {limit}");
    }
}
