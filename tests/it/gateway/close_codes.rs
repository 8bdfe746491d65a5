//! Provokes every way a connection is closed: code, message, the preceding error frame, and the metric.

use std::time::Duration;

use natter::{
    client::{ConnectError, Endpoint},
    protocol::{CloseReason, Encoding, ServerFrame, client::Outgoing},
    store::Engine as _,
};

use super::raw::{BINARY, CLOSE, RawSocket, TEXT, framed};
use crate::{
    harness::{
        listing::{says, tests},
        until,
    },
    mesh::{Peer, TestMesh, token, token_for},
};

/// The tests that provoke a reason. Adding a reason makes this match fail to compile: name its test here.
fn tested_by(reason: CloseReason) -> &'static [&'static str] {
    match reason {
        CloseReason::Gone => &["gateway::close_codes::whoever_closes_is_answered_and_counted"],
        CloseReason::Protocol | CloseReason::NotUtf8 | CloseReason::FrameTooLarge => {
            &["gateway::close_codes::broken_frames_close"]
        }
        CloseReason::Drain => &[
            "gateway::close_codes::a_drain_says_goodbye",
            "gateway::close_codes::a_drain_of_many_sessions_is_spread_and_reaches_all",
            "mesh::crash::sigterm_answers_what_is_in_flight_writes_cursors_and_exits_with_0",
        ],
        CloseReason::Internal => &["mesh::panics::a_panic_costs_its_own_session_only"],
        CloseReason::HelloTimeout => &["gateway::close_codes::silence_instead_of_hello"],
        CloseReason::Overloaded => &[
            "gateway::close_codes::too_many_sessions",
            "gateway::logins::logins_wait_in_line_and_beyond_it_are_told_when_to_come_back",
        ],
        CloseReason::Idle => &["gateway::close_codes::a_peer_that_answers_no_pings"],
        CloseReason::StoreDown => &["gateway::close_codes::no_store_no_session"],
        CloseReason::Retired => &["mesh::devices::a_session_whose_device_is_retired_is_closed_when_it_looks"],
        CloseReason::BadToken => &["gateway::close_codes::bad_tokens"],
        CloseReason::TokenExpired => &["gateway::close_codes::expired_tokens"],
        CloseReason::Violation => {
            &["gateway::close_codes::violations", "gateway::close_codes::who_keeps_sending_rubbish_is_closed"]
        }
        CloseReason::Disconnected => &["mesh::sessions::a_user_ends_sessions_on_any_node"],
        CloseReason::Replaced => &["mesh::replaced::delayed_and_crossed_announcements_close_only_the_earlier"],
        CloseReason::Superseded => &["mesh::replaced::the_later_connection_stays_on_one_node_and_across_nodes"],
    }
}

/// The close reached the peer as the table says, and was counted.
async fn closed_as(mesh: &TestMesh, code: u16, words: &str, reason: CloseReason) {
    assert_eq!((code, words), (reason.code(), reason.text()), "{reason:?}");
    counted(mesh, reason).await;
}

async fn counted(mesh: &TestMesh, reason: CloseReason) {
    let label = format!("natter_sessions_closed_total{{reason=\"{}\"", reason.label());
    until("the close was counted", async || mesh.nodes[0].metric(&label).await > 0.0).await;
}

/// A client that was connected but had not said hello when the drain began is told like the others, and does not delay
/// the drain.
#[tokio::test]
async fn whoever_says_hello_during_a_drain_is_told() {
    let mut mesh = TestMesh::start(1).await;
    let node = mesh.nodes.remove(0);
    let mut raw = RawSocket::open(node.addr).await;
    let gateway = node.weak_gateway();
    let draining = tokio::spawn(node.drain());
    until("the drain began", async || gateway.upgrade().is_some_and(|gateway| gateway.is_draining())).await;
    raw.text(&hello(&token("alice"))).await;
    assert_eq!(raw.closed().await.1, CloseReason::Drain.code());
    assert!(draining.await.unwrap(), "everything ended within the drain time");
}

fn hello(token: &str) -> String {
    format!(r#"{{"op":"hello","ref":1,"token":"{token}","device":"d"}}"#)
}

#[test]
fn every_close_reason_is_spoken_for() {
    let known = tests();
    for reason in CloseReason::ALL {
        for name in tested_by(*reason) {
            assert!(known.contains(*name), "{reason:?} is tested by {name}, which is no test");
        }
        let said = says(&format!("CloseReason::{reason:?}"));
        assert_eq!(said.is_empty(), tested_by(*reason).is_empty(), "{reason:?} is said by {said:?}");
    }
}

#[tokio::test]
async fn whoever_closes_is_answered_and_counted() {
    let mesh = TestMesh::start(1).await;
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&hello(&token("alice"))).await;
    assert_eq!(raw.next().await.unwrap().0, TEXT);
    raw.frame(CLOSE, &1000u16.to_be_bytes()).await;
    let (_, code, _) = raw.closed().await;
    assert_eq!(code, 1000);
    counted(&mesh, CloseReason::Gone).await;
    until("the session is gone", async || mesh.nodes[0].sessions() == 0).await;
}

/// A client that gave up waiting for its `welcome` has made another session meanwhile: that one stays (R11).
#[tokio::test]
async fn who_closes_before_the_welcome_replaces_nobody() {
    let mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    alice.caught_up().await;
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    let hello = framed(TEXT, hello(&token("alice")).as_bytes());
    let close = framed(CLOSE, &1000u16.to_be_bytes());
    // In one piece, so that the end is there before the node can answer.
    raw.bytes(&[hello, close].concat()).await;
    let (texts, code, _) = raw.closed().await;
    assert_eq!((texts, code), (vec![], 1000));
    counted(&mesh, CloseReason::Gone).await;
    until("one session is left", async || mesh.nodes[0].sessions() == 1).await;
    alice.round_trip().await;
    assert_eq!(alice.closed_now(), None);
}

#[tokio::test]
async fn broken_frames_close() {
    let mesh = TestMesh::start(1).await;
    let addr = mesh.nodes[0].addr;
    let bob = mesh.json(0, "bob", "d").await;
    for greeted in [false, true] {
        let open = async || {
            let mut raw = RawSocket::open(addr).await;
            if greeted {
                raw.text(&hello(&token("alice"))).await;
            }
            raw
        };
        let mut raw = open().await;
        raw.bytes(b"\x81\x02{}").await; // not masked
        let (_, code, words) = raw.closed().await;
        closed_as(&mesh, code, &words, CloseReason::Protocol).await;
        let mut raw = open().await;
        raw.frame(TEXT, b"{\"op\":\"\xff\"}").await;
        let (_, code, words) = raw.closed().await;
        closed_as(&mesh, code, &words, CloseReason::NotUtf8).await;
        let mut raw = open().await;
        raw.bytes(b"\x81\xff\0\0\0\0\x7f\xff\xff\xff\0\0\0\0").await; // 2 GiB announced
        let (_, code, words) = raw.closed().await;
        closed_as(&mesh, code, &words, CloseReason::FrameTooLarge).await;
    }
    bob.send("@bob", "c", "untouched").await;
}

#[tokio::test]
async fn a_drain_says_goodbye() {
    let mut mesh = TestMesh::start(1).await;
    let peers = [mesh.json(0, "alice", "d").await, mesh.msgpack(0, "bob", "d").await];
    let node = mesh.nodes.remove(0);
    let addr = node.addr;
    assert!(node.drain().await, "not everything ended in time");
    for peer in &peers {
        let (code, words) = peer.closed().await;
        assert_eq!((code, words.as_str()), (4000, CloseReason::Drain.text()));
        let goodbye = peer.frames().pop().unwrap();
        let ServerFrame::Goodbye { reason, reconnect_ms } = goodbye else { panic!("{goodbye:?}") };
        assert!(reason == "drain" && reconnect_ms < 2_000, "{reason} {reconnect_ms}");
    }
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "a drained node still listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_many_sessions_is_spread_and_reaches_all() {
    const MANY: usize = 200;
    let mut mesh = TestMesh::tuned(1, |config| config.timing.drain_secs = 4).await;
    let join = async |i: usize| mesh.json(0, &format!("u{i}"), "d").await;
    let peers = futures_util::future::join_all((0..MANY).map(join)).await;
    let begin = std::time::Instant::now();
    assert!(mesh.nodes.remove(0).drain().await, "not everything ended in time");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let mut moments = std::collections::BTreeSet::new();
    for peer in &peers {
        assert_eq!(peer.closed().await.0, 4000);
        let told = peer.frames().into_iter().find_map(|frame| match frame {
            ServerFrame::Goodbye { reconnect_ms, .. } => Some(reconnect_ms),
            _ => None,
        });
        moments.insert(told.expect("closed without a goodbye"));
    }
    assert!(moments.len() > MANY / 2, "they would all come back at once: {moments:?}");
}

#[tokio::test]
async fn who_keeps_sending_rubbish_is_closed() {
    let mesh = TestMesh::start(1).await;
    let other = mesh.json(0, "bob", "d").await;
    // No frame, no op, a ping, and a fragment of nothing.
    let rubbish = [(TEXT, &b"rubbish"[..]), (TEXT, br#"{"op":"dance"}"#), (0x89, b""), (0x00, b"")];
    for (first, payload) in rubbish {
        let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
        raw.text(&hello(&token("alice"))).await;
        if first == 0x00 {
            raw.frame(0x01, b"begun").await;
        }
        for _ in 0..1_200 {
            raw.frame(first, payload).await;
        }
        let (_, code, words) = raw.closed().await;
        closed_as(&mesh, code, &words, CloseReason::Violation).await;
    }
    other.round_trip().await;
}

/// What a client wrote and nobody reads any more must not turn the close into a reset, which takes back the code and
/// all that the client has not read yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_right_after_a_burst_says_its_code() {
    let mut mesh = TestMesh::tuned(1, |config| config.limits.sends_per_sec = 0).await;
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&hello(&token("alice"))).await;
    // More answers than fit into the buffers on the client's side, which reads none of them for now.
    for reference in 0..20_000 {
        raw.text(&format!(r#"{{"op":"ping","ref":{reference}}}"#)).await;
    }
    let node = mesh.nodes.remove(0);
    let gateway = node.weak_gateway();
    let draining = tokio::spawn(node.drain());
    until("the session ended", async || gateway.upgrade().is_none_or(|gateway| gateway.sessions() == 0)).await;
    for reference in 0..100 {
        raw.text(&format!(r#"{{"op":"ping","ref":{reference}}}"#)).await;
    }
    let (texts, code, words) = raw.closed().await;
    assert_eq!((code, words.as_str()), (4000, CloseReason::Drain.text()));
    assert!(texts.last().is_some_and(|text| text.contains("goodbye")), "{:?}", texts.last());
    drop(raw);
    assert!(draining.await.unwrap(), "everything ended within the drain time");
}

#[tokio::test]
async fn silence_instead_of_hello() {
    let mesh = TestMesh::tuned(1, |config| config.timing.hello_timeout_ms = 200).await;
    let begin = std::time::Instant::now();
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    let (texts, code, words) = raw.closed().await;
    assert!(begin.elapsed() >= Duration::from_millis(200) && texts.is_empty());
    closed_as(&mesh, code, &words, CloseReason::HelloTimeout).await;
}

#[tokio::test]
async fn too_many_sessions() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.sessions_per_user = 2;
        config.limits.sessions_per_node = 3;
    })
    .await;
    let url = mesh.nodes[0].url();
    let refused = async |user: &str| {
        let refused = Peer::join_as(&url, &token(user), "late", Encoding::Json, 0).await;
        let Err(ConnectError::Closed { code, reason }) = refused else { panic!("{refused:?}") };
        closed_as(&mesh, code, &reason, CloseReason::Overloaded).await;
    };
    let _one = mesh.json(0, "alice", "d1").await;
    let two = mesh.json(0, "alice", "d2").await;
    refused("alice").await;
    // Who is here already may come again: its old connection may be dead, and is replaced.
    let again = Peer::join_as(&url, &token("alice"), "d2", Encoding::Json, 1).await.unwrap();
    assert_eq!(two.closed().await.0, CloseReason::Replaced.code());
    let two = again;
    until("the old one is gone", async || mesh.nodes[0].sessions() == 2).await;
    let _three = mesh.json(0, "bob", "d").await;
    refused("carol").await;
    // A session that ends makes room.
    two.vanish();
    until("there is room again", async || mesh.nodes[0].sessions() == 2).await;
    mesh.json(0, "carol", "d").await.caught_up().await;
}

#[tokio::test]
async fn a_peer_that_answers_no_pings() {
    let mesh = TestMesh::tuned(1, |config| {
        config.timing.ping_secs = 1;
        config.timing.idle_secs = 3;
    })
    .await;
    let alive = mesh.json(0, "bob", "d").await;
    let mut dead = RawSocket::open(mesh.nodes[0].addr).await;
    dead.text(&hello(&token("alice"))).await;
    let mut pings = 0;
    let (code, words) = loop {
        match dead.next().await.unwrap() {
            (0x89, _) => pings += 1,
            (CLOSE, payload) => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                break (code, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
            _ => {}
        }
    };
    assert!((2..=3).contains(&pings), "{pings} pings");
    closed_as(&mesh, code, &words, CloseReason::Idle).await;
    alive.round_trip().await;
}

#[tokio::test]
async fn no_store_no_session() {
    let mesh = TestMesh::start(1).await;
    mesh.store.close().await.unwrap();
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&hello(&token("alice"))).await;
    let (texts, code, words) = raw.closed().await;
    assert!(texts.len() == 1 && texts[0].contains(r#""ref":1,"code":"unavailable""#), "{texts:?}");
    closed_as(&mesh, code, &words, CloseReason::StoreDown).await;
}

#[tokio::test]
async fn bad_tokens() {
    let mesh = TestMesh::start(1).await;
    let minter = natter::auth::Minter::new(&natter::config::Secret::new("x".repeat(32))).unwrap();
    let foreign = minter.mint(&natter::model::UserId::new("alice").unwrap(), Duration::from_secs(60)).unwrap();
    for (token, words) in [("nonsense", "token: "), (foreign.as_str(), "signature"), ("", "token: ")] {
        let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
        raw.text(&hello(token)).await;
        let (texts, code, reason) = raw.closed().await;
        assert!(texts.len() == 1 && texts[0].contains("unauthorized") && texts[0].contains(words), "{texts:?}");
        assert!(texts[0].contains("\"ref\":1"), "{texts:?}");
        closed_as(&mesh, code, &reason, CloseReason::BadToken).await;
    }
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(r#"{"op":"hello","device":"d"}"#).await;
    let (texts, code, _) = raw.closed().await;
    assert!(code == 4100 && texts[0].contains("Authorization header"), "{texts:?}");
}

#[tokio::test]
async fn a_token_may_come_in_the_header_and_hello_is_the_stronger() {
    let mesh = TestMesh::start(1).await;
    let mut endpoint = Endpoint::new(mesh.nodes[0].url(), Encoding::Json);
    endpoint.bearer = Some(token("alice"));
    for (token, user) in [(None, "alice"), (Some(token("bob")), "bob")] {
        let peer = Peer::silent(&endpoint).await;
        peer.say(&Outgoing::Hello { token: token.as_deref(), device: "d", client: "test/1", attempt: 0, since: None });
        let welcomed = peer.wait("welcome", |frames| match frames.first() {
            Some(ServerFrame::Welcome(welcome)) => Some(welcome.user.to_string()),
            _ => None,
        });
        assert_eq!(welcomed.await, user);
    }
}

#[tokio::test]
async fn expired_tokens() {
    let mesh = TestMesh::tuned(1, |config| config.auth.leeway_secs = 0).await;
    let url = mesh.nodes[0].url();
    let short = token_for("alice", Duration::ZERO);
    let join = async |device| {
        Peer::join_as(&url, &token_for("alice", Duration::from_secs(2)), device, Encoding::Json, 0).await.unwrap()
    };
    let (fresh, stale, wrong) = (join("fresh").await, join("stale").await, join("wrong").await);
    let exp = fresh.welcome.as_ref().unwrap().exp;
    fresh.say(&Outgoing::Token { reference: Some(1), token: &token("alice") });
    let ServerFrame::TokenOk { exp: later, .. } = fresh.answer(1).await else { panic!("{fresh:?}") };
    assert!(later > exp + 3_000_000, "{exp} {later}");
    // Another user's token changes nothing: the session lives until its own token expires.
    wrong.say(&Outgoing::Token { reference: Some(1), token: &token("bob") });
    let answer = wrong.answer(1).await;
    assert!(matches!(&answer, ServerFrame::Error { message, .. } if message.contains("another user")), "{answer:?}");
    assert_eq!(wrong.closed_now(), None);
    for peer in [&stale, &wrong] {
        let (code, words) = peer.closed().await;
        assert!(natter::model::now_millis() >= exp, "closed before its time");
        closed_as(&mesh, code, &words, CloseReason::TokenExpired).await;
    }
    fresh.round_trip().await;
    let refused = Peer::join_as(&url, &short, "d", Encoding::Json, 0).await;
    assert!(matches!(refused, Err(ConnectError::Closed { code: 4101, .. })), "{refused:?}");
}

#[tokio::test]
async fn violations() {
    let mesh = TestMesh::start(1).await;
    let addr = mesh.nodes[0].addr;
    for (first, error) in [
        (r#"{"op":"conversations","ref":5}"#, "the first frame must be hello"),
        ("nonsense", "bad_frame"),
        (r#"{"op":"hello","device":"a b"}"#, "bad_name"),
        (r#"{"op":"dance"}"#, "unknown_op"),
    ] {
        let mut raw = RawSocket::open(addr).await;
        raw.text(first).await;
        let (texts, code, words) = raw.closed().await;
        assert!(texts.iter().any(|text| text.contains(error)), "{first}: {texts:?}");
        closed_as(&mesh, code, &words, CloseReason::Violation).await;
    }
    let mut raw = RawSocket::open(addr).await;
    raw.frame(BINARY, b"\x80").await;
    assert_eq!(raw.closed().await.1, 4102, "a binary frame on a JSON connection before hello");
    let twice = mesh.json(0, "alice", "d").await;
    twice.say(&Outgoing::Hello { token: None, device: "d", client: "", attempt: 0, since: None });
    let (code, words) = twice.closed().await;
    closed_as(&mesh, code, &words, CloseReason::Violation).await;
}

#[tokio::test]
async fn a_frame_of_the_wrong_kind_is_an_error_and_no_end() {
    let mesh = TestMesh::start(1).await;
    let mut raw = RawSocket::open(mesh.nodes[0].addr).await;
    raw.text(&hello(&token("alice"))).await;
    raw.frame(BINARY, b"\x80").await;
    loop {
        let (first, payload) = raw.next().await.unwrap();
        assert_ne!(first, CLOSE);
        let text = String::from_utf8(payload).unwrap();
        if text.contains(r#""op":"error""#) {
            assert!(text.contains("bad_frame") && text.contains("natter.json.v1"), "{text}");
            break;
        }
    }
}
