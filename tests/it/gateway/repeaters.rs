//! Whoever repeats what costs the node something: logins, new devices, refused requests.

use natter::{
    client::ConnectError,
    protocol::{CloseReason, Encoding, ErrorCode, ServerFrame},
};

use super::raw::{CLOSE, RawSocket};
use crate::{
    harness::until,
    mesh::{Peer, TestMesh, token},
};

/// Requests that are written before their answers are read.
const ROUND: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hellos_and_new_devices_of_one_user_are_limited() {
    let mesh = TestMesh::tuned(1, |config| config.limits.sessions_per_user = 1_000).await;
    let url = mesh.nodes[0].url();
    let join = async |device: String| Peer::join_as(&url, &token("alice"), &device, Encoding::Json, 1).await;
    let mut devices = Vec::new();
    let code = loop {
        match join(format!("d{}", devices.len())).await {
            Ok(peer) => devices.push(peer),
            Err(ConnectError::Closed { code, .. }) => break code,
            Err(other) => panic!("{other:?}"),
        }
        assert!(devices.len() < 400, "each new device costs as much as eleven hellos of a burst of 400");
    };
    assert_eq!(code, CloseReason::Overloaded.code());
    assert!(devices.len() >= 36, "only {} devices", devices.len());
    devices[0].round_trip().await;
    mesh.json(0, "bob", "d").await.round_trip().await;
    until("a device that is known gets in after a while", async || join("d1".into()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_after_thousands_of_refusals_is_closed() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.sends_per_sec = 1;
        config.limits.send_burst = 1;
    })
    .await;
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&format!(r#"{{"op":"hello","token":"{}","device":"d"}}"#, token("alice"))).await;
    let mut asked = 0;
    let code = 'closed: loop {
        for _ in 0..ROUND {
            raw.text(r#"{"op":"conversations","limit":1}"#).await;
        }
        asked += ROUND;
        // An answer for each, so that neither side is kept from writing.
        for _ in 0..ROUND {
            match raw.next().await.expect("the end without a close frame") {
                (CLOSE, words) => break 'closed u16::from_be_bytes([words[0], words[1]]),
                _ => assert!(asked < 100_000, "it may go on for ever"),
            }
        }
    };
    assert_eq!(code, CloseReason::Violation.code());
    assert!(asked > 10_000, "a client that writes ahead is told many times before: {asked}");
}

/// An acknowledgement of what was handed out costs nothing; one that the store must judge counts like a request.
#[tokio::test]
async fn acknowledgements_that_the_store_must_judge_are_limited() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.sends_per_sec = 1;
        config.limits.send_burst = 3;
    })
    .await;
    let alice = mesh.json(0, "alice", "d").await;
    for n in 0..10 {
        alice.ack(&format!("dm:alice:b{n}"), 1);
    }
    let words = alice.error(ErrorCode::RateLimited).await;
    assert!(words.contains("retry_after_ms"), "{words}");
    let judged =
        alice.frames().iter().filter(|f| matches!(f, ServerFrame::Error { code: ErrorCode::BadAck, .. })).count();
    assert!(judged <= 4, "{judged} of ten were judged");
}

/// Whoever acknowledges what does not exist is stopped long before the store feels it, and nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_what_does_not_exist_costs_only_whoever_does_it() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.sends_per_sec = 10;
        config.limits.send_burst = 400;
    })
    .await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    for n in 0..1_000 {
        alice.ack(&format!("dm:alice:nobody{n}"), 1);
        alice.ack(&format!("dm:carol:nobody{n}"), 1);
        alice.ack(&format!("dm:alice:nobody{n}"), 0);
    }
    let errors =
        |code| alice.frames().iter().filter(|f| matches!(f, ServerFrame::Error { code: c, .. } if *c == code)).count();
    until("each was answered", async || {
        errors(ErrorCode::BadAck) + errors(ErrorCode::NotMember) + errors(ErrorCode::RateLimited) == 2_000
    })
    .await;
    let judged = errors(ErrorCode::BadAck) + errors(ErrorCode::NotMember);
    assert!((5..=100).contains(&judged), "{judged} were judged; one costs forty of a burst of 400");
    bob.send("@carol", "c1", "hello").await;
    assert_eq!(mesh.nodes[0].metric("natter_work_refused_total").await, 0.0);
}
