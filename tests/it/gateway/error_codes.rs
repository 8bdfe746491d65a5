//! Provokes every error code of the table, so that a new code without a test fails here.

use bytes::Bytes;
use natter::{
    protocol::{Body, ErrorCode, ServerFrame},
    store::{Engine as _, StoreError},
};

use crate::{
    harness::{
        http,
        listing::{says, tests},
        until,
    },
    mesh::{Peer, TestMesh},
};

/// What provokes an error.
enum Provocation {
    /// Each of these frames.
    Say(&'static [&'static str]),
    /// A separate test.
    Test(&'static str),
    /// Nothing in this version.
    Nothing,
}
use Provocation::{Nothing, Say, Test};

/// A code that is added makes the tests fail here: say how to provoke it.
fn provocation(code: ErrorCode) -> Provocation {
    match code {
        ErrorCode::BadFrame => Say(&[
            r"",
            r"{",
            r"[]",
            r#"{"ref":7}"#,
            r#"{"op":"send","to":"@bob"}"#,
            r#"{"op":"send","ref":7,"to":"@bob","cid":"c"}"#,
            r#"{"op":"ack","conv":"dm:alice:bob","seq":-1}"#,
            r#"{"op":"ack","conv":"dm:alice:bob","seq":9007199254740993}"#,
            r#"{"op":"history","conv":"dm:alice:bob","limit":0}"#,
            r#"{"op":"history","conv":"dm:alice:bob","limit":201}"#,
            r#"{"op":"history","conv":"dm:alice:bob","before":2,"after":1}"#,
            r#"{"op":"conversations","after":"not one of ours"}"#,
            r#"{"op":"history","conv":"dm:alice:bob","before":2,"around":1}"#,
            r#"{"op":"end_session"}"#,
            r#"{"op":"end_session","session":"a","device":"b"}"#,
            r#"{"op":"join"}"#,
            r#"{"op":"create","room":"r","public":"yes"}"#,
            r#"{"op":"create","room":"r","history":"none"}"#,
            r#"{"op":"create","room":"r","topic":""}"#,
            r#"{"op":"role","room":"r","user":"bob","role":"king"}"#,
            r#"{"op":"members","room":"r","limit":101}"#,
            r#"{"op":"rooms","after":7}"#,
            r#"{"op":"presence"}"#,
            r#"{"op":"presence","users":[]}"#,
            r#"{"op":"presence","users":"bob"}"#,
            r#"{"op":"presence","users":["bob",1]}"#,
            r#"{"op":"presence","users":["bob"],"watch":"yes"}"#,
            r#"{"op":"blocks","limit":101}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"reply_to":0}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"mentions":["bob","bob"]}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"mentions":"bob"}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"expires":0}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"expires":31536001}"#,
            r#"{"op":"edit","conv":"dm:alice:bob","re":1,"cid":"c"}"#,
            r#"{"op":"delete","conv":"dm:alice:bob","cid":"c"}"#,
            r#"{"op":"react","conv":"dm:alice:bob","re":1,"cid":"c"}"#,
            r#"{"op":"react","conv":"dm:alice:bob","re":1,"cid":"c","reaction":""}"#,
            r#"{"op":"unreact","conv":"dm:alice:bob","re":1,"cid":"c","reaction":"a\nb"}"#,
            r#"{"op":"history","conv":"dm:alice:bob","raw":"yes"}"#,
        ]),
        ErrorCode::UnknownOp => Say(&[r#"{"op":"dance"}"#, r#"{"op":""}"#]),
        ErrorCode::BadName => Say(&[
            r#"{"op":"send","to":"bob","cid":"c","body":1}"#,
            r#"{"op":"send","to":"@b.o.b","cid":"c","body":1}"#,
            r#"{"op":"send","to":"@>","cid":"c","body":1}"#,
            r#"{"op":"send","to":"@bob","cid":"","body":1}"#,
            r#"{"op":"ack","conv":"dm:bob:alice","seq":1}"#,
            r#"{"op":"signal","to":"@bob","type":"a b"}"#,
            r#"{"op":"join","room":"a b"}"#,
            r#"{"op":"kick","room":"r","user":"b.o.b"}"#,
            r#"{"op":"presence","users":["b.o.b"]}"#,
            r#"{"op":"block","user":"b.o.b"}"#,
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"mentions":["b.o.b"]}"#,
            r#"{"op":"delete","conv":"dm:alice:bob","re":1,"cid":""}"#,
        ]),
        ErrorCode::NotMember => Say(&[
            r#"{"op":"ack","conv":"dm:bob:carol","seq":1}"#,
            r#"{"op":"read","conv":"dm:bob:carol","seq":1}"#,
            r#"{"op":"history","conv":"dm:bob:carol"}"#,
            r#"{"op":"delete","conv":"dm:bob:carol","re":1,"cid":"c"}"#,
        ]),
        ErrorCode::NotFound => Say(&[
            r#"{"op":"end_session","session":"00112233445566778899"}"#,
            r#"{"op":"end_session","device":"nobodys"}"#,
        ]),
        ErrorCode::BadAck => Say(&[
            r#"{"op":"ack","conv":"dm:alice:bob","seq":1}"#,
            r#"{"op":"ack","conv":"dm:alice:bob","seq":1000000000}"#,
            r#"{"op":"read","conv":"dm:alice:bob","seq":1}"#,
        ]),
        ErrorCode::BadRef => Say(&[
            r#"{"op":"send","to":"@bob","cid":"c","body":1,"reply_to":1}"#,
            r#"{"op":"edit","conv":"dm:alice:bob","re":1,"cid":"c","body":1}"#,
            r#"{"op":"delete","conv":"dm:alice:bob","re":9007199254740991,"cid":"c"}"#,
            r#"{"op":"react","conv":"dm:alice:bob","re":0,"cid":"c","reaction":"+1"}"#,
        ]),
        ErrorCode::Rejected => Test("mesh::hook::a_service_lets_messages_pass_changes_them_or_refuses_them"),
        ErrorCode::Unauthorized => Say(&[r#"{"op":"token","token":"nonsense"}"#]),
        ErrorCode::Unsupported => Test("what_a_store_does_not_serve_is_unsupported"),
        ErrorCode::NoSuchRoom => Say(&[
            r##"{"op":"send","to":"#nowhere","cid":"c","body":1}"##,
            r##"{"op":"signal","to":"#nowhere","type":"typing"}"##,
            r#"{"op":"join","room":"nowhere"}"#,
            r#"{"op":"room","room":"nowhere"}"#,
            r#"{"op":"members","room":"nowhere"}"#,
            r#"{"op":"history","conv":"room:nowhere"}"#,
            r#"{"op":"unreact","conv":"room:nowhere","re":1,"cid":"c","reaction":"+1"}"#,
            r#"{"op":"read","conv":"room:nowhere","seq":1}"#,
        ]),
        ErrorCode::BadBody | ErrorCode::TooLarge | ErrorCode::CidReused => {
            Test("bodies_that_json_cannot_carry_or_that_are_too_large_are_refused_in_both_encodings")
        }
        ErrorCode::RateLimited => Test("too_many_requests_are_refused_and_the_same_cid_goes_through_later"),
        ErrorCode::Unavailable => Test("without_a_store_everything_is_unavailable_and_nobody_is_thrown_out"),
        ErrorCode::RoomExists | ErrorCode::NotAllowed | ErrorCode::LastOwner => {
            Test("mesh::room_ops::everybody_may_do_what_they_may_and_nothing_else")
        }
        ErrorCode::RoomFull => Test("mesh::room_ops::nobody_is_in_more_rooms_than_the_limit"),
        ErrorCode::Blocked => Test("mesh::blocks::a_block_holds_on_both_nodes_until_it_is_taken_off"),
        // Only what a client makes of the code of a later version.
        ErrorCode::Unknown => Nothing,
        code => panic!("say how {code:?} is provoked"),
    }
}

/// Waits for one error, and checks that it is the expected one, that it has a message, and that the session goes on.
async fn refused(peer: &Peer, code: ErrorCode, reference: Option<u64>) {
    let what = format!("{code:?}");
    let error =
        peer.wait(&what, |frames| frames.iter().find(|frame| matches!(frame, ServerFrame::Error { .. })).cloned());
    let ServerFrame::Error { reference: answered, code: said, message, retry, retry_after_ms } = error.await else {
        unreachable!()
    };
    assert_eq!(retry_after_ms, None, "{message}");
    assert_eq!((said, retry, answered), (code, code.retry(), reference), "{message}");
    assert!(message.len() > 5 && !message.ends_with('.'), "{message}");
    peer.round_trip().await;
    peer.forget();
}

#[tokio::test]
async fn every_error_code_is_provoked_and_hurts_nobody() {
    let mesh = TestMesh::start(1).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    alice.caught_up().await;
    for code in ErrorCode::ALL {
        let Say(frames) = provocation(*code) else { continue };
        for frame in frames {
            println!("{code:?}: {frame}");
            alice.forget();
            alice.say_raw(Bytes::from_static(frame.as_bytes()));
            let with_ref = frame.contains("\"ref\":7").then_some(7);
            refused(&alice, *code, with_ref).await;
        }
    }
    bob.send("@alice", "c", "still there").await;
    alice.message("dm:alice:bob", 1).await;
}

#[test]
fn every_error_code_has_a_test_or_is_never_said() {
    let known = tests();
    for code in ErrorCode::ALL {
        let said = says(&format!("ErrorCode::{code:?}"));
        match provocation(*code) {
            Test(name) => {
                let path = if name.contains("::") { name.to_owned() } else { format!("gateway::error_codes::{name}") };
                assert!(known.contains(&path), "{code:?}: no test {name}");
            }
            Say(frames) => assert!(!frames.is_empty(), "{code:?} is provoked by nothing"),
            Nothing => assert!(said.is_empty(), "{code:?} is said by {said:?} and not tested"),
        }
    }
}

#[test]
fn what_a_store_does_not_serve_is_unsupported() {
    let refused = natter::ops::refused(&StoreError::Unsupported("that"));
    assert_eq!((refused.code, refused.code.retry()), (ErrorCode::Unsupported, false));
}

async fn refuses(peer: &Peer, to: &str, cid: &str, body: &Body, code: ErrorCode) {
    let answer = peer.try_send(to, cid, body).await;
    let ServerFrame::Error { code: said, retry, ref message, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((said, retry), (code, code.retry()), "{message}");
    assert!(code != ErrorCode::TooLarge || message.starts_with("body: over the limit of 1000 bytes"), "{message}");
}

#[tokio::test]
async fn bodies_that_json_cannot_carry_or_that_are_too_large_are_refused_in_both_encodings() {
    let mesh = TestMesh::tuned(1, |config| config.limits.body_bytes = 1000).await;
    let (json, msgpack) = (mesh.json(0, "alice", "d1").await, mesh.msgpack(0, "alice", "d2").await);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    json.forget();
    json.say_raw(format!(r#"{{"op":"send","ref":9,"to":"@bob","cid":"c","body":{deep}}}"#));
    refused(&json, ErrorCode::BadBody, Some(9)).await;
    // {"op":"send","ref":9,"to":"@bob","cid":"c","body":…} with NaN, a key that is a number, and broken UTF-8.
    for body in [&b"\xcb\x7f\xf8\0\0\0\0\0\0"[..], b"\x81\x01\x01", b"\xa1\xff", b"\xc4\x01x", b"\xc7\x01\x01x"] {
        let mut frame = b"\x85\xa2op\xa4send\xa3ref\x09\xa2to\xa4@bob\xa3cid\xa1c\xa4body".to_vec();
        frame.extend(body);
        msgpack.forget();
        msgpack.say_raw(frame);
        refused(&msgpack, ErrorCode::BadBody, Some(9)).await;
    }
    for peer in [&json, &msgpack] {
        refuses(peer, "@bob", "c", &Body::text(&"x".repeat(1001)), ErrorCode::TooLarge).await;
        // Small as MessagePack, large as JSON: six bytes for each character.
        refuses(peer, "@bob", "c", &Body::text(&"\u{1}".repeat(300)), ErrorCode::TooLarge).await;
    }
    let large = "x".repeat(1001);
    json.forget();
    json.say_raw(format!(r#"{{"op":"signal","ref":10,"to":"@bob","type":"typing","body":"{large}"}}"#));
    refused(&json, ErrorCode::TooLarge, Some(10)).await;
    assert_eq!(json.send("@bob", "c", "x").await.1, 1, "nothing refused was stored");
    refuses(&msgpack, "@bob", "c", &Body::text("y"), ErrorCode::CidReused).await;
}

/// A signal is passed on to whoever is there, so it is bounded more tightly than what is stored once.
#[tokio::test]
async fn a_signal_is_bounded_apart() {
    let mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    let signal =
        |size: usize| format!(r#"{{"op":"signal","ref":1,"to":"@bob","type":"typing","body":"{}"}}"#, "x".repeat(size));
    alice.say_raw(signal(4_000));
    alice.round_trip().await;
    assert_eq!(alice.frames().iter().filter(|frame| matches!(frame, ServerFrame::Error { .. })).count(), 0);
    alice.say_raw(signal(4_097));
    let words = alice.error(ErrorCode::TooLarge).await;
    assert!(words.contains("body: over the limit of 4096 bytes"), "{words}");
}

#[tokio::test]
async fn too_many_requests_are_refused_and_the_same_cid_goes_through_later() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.sends_per_sec = 20;
        config.limits.send_burst = 5;
    })
    .await;
    let alice = mesh.json(0, "alice", "d").await;
    let references: Vec<_> = (0..8).map(|i| alice.begin_send("@bob", &format!("c{i}"), &Body::text("x"))).collect();
    let mut refused = Vec::new();
    for (i, reference) in references.into_iter().enumerate() {
        match alice.answer(reference).await {
            ServerFrame::Sent(_) => {}
            ServerFrame::Error { code, retry, retry_after_ms, .. } => {
                assert_eq!((code, retry), (ErrorCode::RateLimited, true));
                assert!(retry_after_ms.is_some_and(|wait| wait <= 50), "one of 20 a second: {retry_after_ms:?}");
                refused.push(i);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((2..=3).contains(&refused.len()), "{refused:?}");
    for i in refused {
        let sent =
            async || matches!(alice.try_send("@bob", &format!("c{i}"), &Body::text("x")).await, ServerFrame::Sent(_));
        until("the rate allows it again", sent).await;
    }
    alice.message("dm:alice:bob", 8).await;
    let order = alice.frames().into_iter().filter_map(|frame| match frame {
        ServerFrame::Message(message) => message.cid.map(|cid| cid.to_string()),
        _ => None,
    });
    assert!(order.eq((0..8).map(|i| format!("c{i}"))), "stored in the order in which they were written");
    // Acknowledgements are not counted: a client may always make room.
    (0..50).for_each(|_| alice.ack("dm:alice:bob", 8));
    alice.round_trip().await;
    assert!(!alice.frames().iter().skip(8).any(|f| matches!(f, ServerFrame::Error { reference: None, .. })));
}

#[tokio::test]
async fn without_a_store_everything_is_unavailable_and_nobody_is_thrown_out() {
    let mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    alice.caught_up().await;
    alice.send("@bob", "c1", "x").await;
    mesh.store.close().await.unwrap();
    refuses(&alice, "@bob", "c2", &Body::text("x"), ErrorCode::Unavailable).await;
    for request in [
        r#"{"op":"history","ref":100,"conv":"dm:alice:bob"}"#,
        r#"{"op":"conversations","ref":101}"#,
        r#"{"op":"ack","conv":"dm:alice:carol","seq":2}"#,
        r#"{"op":"read","conv":"dm:alice:bob","seq":1}"#,
    ] {
        alice.forget();
        alice.say_raw(request);
        let words = alice.error(ErrorCode::Unavailable).await;
        assert!(words.contains("unavailable"), "{request}: {words}");
    }
    assert_eq!(alice.closed_now(), None);
    let ready = http::get(mesh.nodes[0].addr, "/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{}", ready.body);
}
