//! Scenario 9: bodies that no proper client would send. What was answered `sent` reaches a JSON recipient, and so does
//! everything after it (I8, R14).

use natter::protocol::{ErrorCode, ServerFrame, ask};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::mesh::{Peer, TestMesh, ledger::in_order};

const CONV: &str = "dm:alice:bob";

/// Bytes that usually form one MessagePack value: valid ones, ones that JSON cannot carry, and broken ones.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let number = |marker: u8, width: usize| {
        prop::collection::vec(any::<u8>(), width).prop_map(move |mut bytes| {
            bytes.insert(0, marker);
            bytes
        })
    };
    let leaf = prop_oneof![
        8 => any::<u8>().prop_filter("a lone marker", |b| matches!(b, 0..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..)).prop_map(|b| vec![b]),
        2 => number(0xca, 4),
        4 => number(0xcb, 8),
        2 => number(0xcf, 8),
        2 => number(0xd3, 8),
        1 => Just(vec![0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
        6 => ".{0,12}".prop_map(|text| text_bytes(text.as_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| text_bytes(&bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| [&[0xc4, bytes.len() as u8], &bytes[..]].concat()),
        1 => Just(vec![0xd4, 1, 2]),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let pair =
            (prop_oneof![20 => ".{0,6}".prop_map(|key| text_bytes(key.as_bytes())), 1 => inner.clone()], inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5)
                .prop_map(|items| [vec![0x90 | items.len() as u8], items.concat()].concat()),
            prop::collection::vec(pair, 0..5).prop_map(|pairs| {
                let flat: Vec<_> = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
                [vec![0x80 | pairs.len() as u8], flat.concat()].concat()
            }),
        ]
    })
}

fn text_bytes(text: &[u8]) -> Vec<u8> {
    [&[0xd9, u8::try_from(text.len()).unwrap()], text].concat()
}

fn send_frame(reference: u16, cid: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = b"\x85\xa2op\xa4send\xa2to\xa4@bob\xa3ref\xcd".to_vec();
    frame.extend(reference.to_be_bytes());
    frame.extend(b"\xa3cid");
    frame.extend(text_bytes(cid.as_bytes()));
    frame.extend(b"\xa4body");
    frame.extend(body);
    frame
}

/// Sends the frame and returns the seq if it was accepted.
async fn outcome(alice: &Peer, reference: u16, frame: Vec<u8>) -> Option<u64> {
    alice.forget();
    alice.say_raw(frame);
    let answer = alice.wait("an answer", |frames| {
        frames.iter().find(|f| matches!(f, ServerFrame::Sent(_) | ServerFrame::Error { .. })).cloned()
    });
    match answer.await {
        ServerFrame::Sent(ask::Sent { reference: answered, seq, .. }) => {
            assert_eq!(answered, Some(reference.into()));
            Some(seq)
        }
        ServerFrame::Error { code: ErrorCode::BadBody | ErrorCode::BadFrame, .. } => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_that_was_taken_can_stop_a_json_recipient() {
    let mesh = TestMesh::start(2).await;
    let alice = mesh.msgpack(0, "alice", "d").await;
    let (live, late) = (mesh.json(1, "bob", "live").await, mesh.json(0, "bob", "late").await);
    late.caught_up().await;
    late.vanish();
    let mut runner = TestRunner::new(Config::default());
    let strategy = value();
    let mut taken = Vec::new();
    let (mut refused, mut last) = (0, 0);
    for round in 0..600 {
        let body = strategy.new_tree(&mut runner).unwrap().current();
        let frame = send_frame(round, &format!("c{round}"), &body);
        match outcome(&alice, round, frame).await {
            Some(seq) => {
                assert_eq!(seq, last + 1, "something was stored that was refused: {body:02x?}");
                (last, _) = (seq, taken.push(body));
            }
            None => refused += 1,
        }
    }
    println!("{} bodies taken, {refused} refused", taken.len());
    assert!(taken.len() > 100 && refused > 50, "{} taken, {refused} refused", taken.len());
    alice.send("@bob", "end", "after all that").await;
    let late = mesh.json(0, "bob", "late").await;
    for peer in [&live, &late] {
        peer.message(CONV, last + 1).await;
        assert_eq!(peer.messages().len() as u64, last + 1);
        in_order(&peer.frames());
        // The JSON says the same as the MessagePack: numbers, keys and strings are unchanged.
        for (message, body) in peer.messages().iter().zip(&taken) {
            let json = natter::protocol::json_of(body).unwrap();
            let read: serde_json::Value = message.body.as_ref().unwrap().parse().unwrap();
            assert_eq!(read, serde_json::from_slice::<serde_json::Value>(&json).unwrap(), "{body:02x?}");
        }
    }
}
