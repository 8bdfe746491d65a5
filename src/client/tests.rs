//! The client against a scripted node: covers what a real node does only when it fails.

mod script;

use std::time::Duration;

use futures_util::StreamExt as _;
use script::{Node, Peer};
use tokio::time::{Instant, timeout};

use super::{Client, ClientOptions, ConnectError, Event, RequestError, TokenSource};
use crate::{
    model::{ConvId, Seq},
    protocol::{Ask, Body, ClientFrame, CloseReason, Encoding, ErrorCode, HistoryFrom, ServerFrame, ask},
};

const LONG: Duration = Duration::from_secs(10);

fn conv() -> ConvId {
    ConvId::new("dm:alice:bob").unwrap()
}

/// The next event that is not about the connection itself.
async fn next(client: &Client) -> Event {
    loop {
        match timeout(LONG, client.next()).await.unwrap().unwrap() {
            Event::Connected(_) | Event::Disconnected(_) | Event::Goodbye { .. } | Event::CaughtUp => {}
            event => return event,
        }
    }
}

async fn next_seq(client: &Client) -> Seq {
    match next(client).await {
        Event::Message(message) => message.seq,
        other => panic!("{other:?} instead of a message"),
    }
}

fn spawn_send(client: &Client, cid: &str) -> tokio::task::JoinHandle<Result<Seq, RequestError>> {
    let (client, cid) = (client.clone(), cid.to_owned());
    tokio::spawn(async move { client.send_with_cid("@bob", &cid, Body::text(&cid)).await.map(|info| info.seq) })
}

async fn expect_send(peer: &mut Peer) -> (u64, String) {
    let request = peer.recv().await;
    match request.frame {
        ClientFrame::Ask(Ask::Send(ask::Send { cid, .. })) => (request.reference.unwrap(), cid.to_string()),
        other => panic!("{other:?} instead of a send"),
    }
}

async fn expect_ack(peer: &mut Peer) -> Seq {
    match peer.recv().await.frame {
        ClientFrame::Ack { conv: of, seq } if of == conv() => seq,
        other => panic!("{other:?} instead of an ack"),
    }
}

async fn answered_over_a_reconnect(encoding: Encoding) {
    let node = Node::start().await;
    let options = ClientOptions { encoding, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    let (client, mut peer) = (client.unwrap(), peer);
    let mut sends = Vec::new();
    for cid in ["x", "y", "z"] {
        sends.push(spawn_send(&client, cid));
        let (reference, got) = expect_send(&mut peer).await;
        assert_eq!(got, cid);
        if cid == "x" {
            peer.sent(reference, 1).await;
        }
    }
    assert_eq!(sends.remove(0).await.unwrap(), Ok(1));
    let first = peer.attempt;
    drop(peer);
    let mut peer = node.accept().await;
    assert!(peer.attempt > first, "hello.attempt counts up");
    for (seq, cid) in [(2, "y"), (3, "z")] {
        let (reference, got) = expect_send(&mut peer).await;
        assert_eq!(got, cid, "what was not answered comes again, in order");
        peer.sent(reference, seq).await;
        assert_eq!(sends.remove(0).await.unwrap(), Ok(seq));
    }
}

/// What a node gave with `caught_up` comes back with the next hello, and with all others until there is a newer one.
#[tokio::test]
async fn what_caught_up_brought_is_said_at_the_next_hello() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    assert_eq!(peer.since, None);
    for (told, said) in [(Some("opaque"), Some("opaque")), (None, Some("opaque")), (Some("newer"), Some("newer"))] {
        peer.say(&ServerFrame::CaughtUp { since: told.map(Into::into) }).await;
        drop(peer);
        peer = node.accept().await;
        assert_eq!(peer.since.as_deref(), said);
    }
    drop(client);
}

#[tokio::test]
async fn sends_are_answered_over_a_reconnect() {
    answered_over_a_reconnect(Encoding::Json).await;
    answered_over_a_reconnect(Encoding::MsgPack).await;
}

#[tokio::test]
async fn an_error_that_allows_it_is_tried_again_and_others_wait_behind() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let first = spawn_send(&client, "first");
    let (reference, _) = expect_send(&mut peer).await;
    peer.error(Some(reference), ErrorCode::RateLimited).await;
    // Signals are processed in order, so getting it back shows that the error has been read.
    peer.say(&ServerFrame::Signal(script::signal())).await;
    assert!(matches!(next(&client).await, Event::Signal(_)));
    let second = spawn_send(&client, "second");
    let (reference, cid) = expect_send(&mut peer).await;
    assert_eq!(cid, "first", "the second must not overtake");
    peer.sent(reference, 1).await;
    let (reference, cid) = expect_send(&mut peer).await;
    assert_eq!(cid, "second");
    peer.error(Some(reference), ErrorCode::Blocked).await;
    assert_eq!(first.await.unwrap(), Ok(1));
    let refused = second.await.unwrap().unwrap_err();
    assert!(matches!(refused, RequestError::Refused { code: ErrorCode::Blocked, .. }), "{refused}");
}

#[tokio::test]
async fn duplicates_are_dropped_over_reconnects_and_acknowledged() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    for seq in [1, 2, 2, 1, 3] {
        peer.message(seq).await;
    }
    assert_eq!([next_seq(&client).await, next_seq(&client).await, next_seq(&client).await], [1, 2, 3]);
    while expect_ack(&mut peer).await != 3 {}
    drop(peer);
    let mut peer = node.accept().await;
    assert_eq!(expect_ack(&mut peer).await, 3, "the last acknowledgement may have been lost with the connection");
    peer.message(2).await;
    assert_eq!(expect_ack(&mut peer).await, 3, "a duplicate is acknowledged all the same");
    peer.message(3).await;
    peer.message(4).await;
    assert_eq!(next_seq(&client).await, 4);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_was_taken() {
    let node = Node::start().await;
    let options = ClientOptions { auto_ack: false, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    let (client, mut peer) = (client.unwrap(), peer);
    peer.message(1).await;
    peer.message(2).await;
    assert_eq!([next_seq(&client).await, next_seq(&client).await], [1, 2]);
    // If 1 or 2 were acknowledged automatically, that would come before the read mark.
    client.read(&conv(), 1).await.unwrap();
    assert_eq!(peer.recv().await.frame, ClientFrame::Ask(Ask::Read(ask::Read { conv: conv(), seq: 1, handed: 0 })));
    client.ack(&conv(), 2).await.unwrap();
    assert_eq!(expect_ack(&mut peer).await, 2);
}

#[tokio::test]
async fn closing_writes_the_last_acknowledgements() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    peer.message(1).await;
    assert_eq!(next_seq(&client).await, 1);
    client.close().await;
    assert_eq!(expect_ack(&mut peer).await, 1);
    assert_eq!(peer.closed().await, 1000);
    assert_eq!(client.next().await, None);
    let error = client.send("@bob", Body::text("x")).await.unwrap_err();
    assert_eq!(error, RequestError::Dropped);
}

#[tokio::test]
async fn a_draining_node_says_when_to_come_back() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let said = Instant::now();
    peer.say(&ServerFrame::Goodbye { reason: "drain".into(), reconnect_ms: 700 }).await;
    peer.close(CloseReason::Drain).await;
    let _peer = node.accept().await;
    assert!(said.elapsed() >= Duration::from_millis(700), "came back after {:?}", said.elapsed());
    drop(client);
}

#[tokio::test]
async fn a_final_close_ends_everything() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let send = spawn_send(&client, "x");
    expect_send(&mut peer).await;
    peer.close(CloseReason::Replaced).await;
    let replaced = ConnectError::Closed { code: 4104, reason: CloseReason::Replaced.text().into() };
    assert_eq!(send.await.unwrap(), Err(RequestError::Closed(replaced.clone())));
    assert_eq!(next(&client).await, Event::Closed(replaced));
    assert_eq!(timeout(LONG, client.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_bad_token_fails_the_first_connection() {
    let node = Node::start().await;
    let refuse = async {
        let mut peer = node.accept_silently().await;
        peer.error(None, ErrorCode::Unauthorized).await;
        peer.close(CloseReason::BadToken).await;
    };
    let (client, ()) = tokio::join!(Client::connect(node.options()), refuse);
    let words = client.unwrap_err().to_string();
    assert_eq!(words, "closed by the node: refused by the script (4100)", "the words of the error frame are shown");
}

#[tokio::test]
async fn an_expired_token_is_replaced_when_there_is_a_source() {
    let node = Node::start().await;
    let count = std::sync::atomic::AtomicU32::new(0);
    let token =
        TokenSource::minted(move || Ok(format!("t{}", count.fetch_add(1, std::sync::atomic::Ordering::SeqCst))));
    let options = ClientOptions { token, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    assert_eq!(peer.token, "t0");
    peer.close(CloseReason::TokenExpired).await;
    assert_eq!(node.accept().await.token, "t1");
    drop(client);
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let options = ClientOptions {
        connect_timeout: Duration::from_millis(300),
        ..ClientOptions::new("ws://127.0.0.1:1/v1/ws", "t", "d")
    };
    let error = timeout(LONG, Client::connect(options)).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

/// Both sides write more than the sockets hold, and the node does not read until it has written everything.
#[tokio::test]
async fn a_node_that_does_not_read_does_not_lock_up_the_client() {
    let node = Node::start().await;
    let options = ClientOptions { in_flight: 200, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    let (client, mut peer) = (client.unwrap(), peer);
    let big = "x".repeat(60_000);
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (client, body) = (client.clone(), Body::text(&big));
        sends.spawn(async move { client.send("@bob", body).await });
    }
    for seq in 1..=200 {
        timeout(LONG, peer.big_message(seq, &big)).await.expect("the client no longer reads");
    }
    for seq in 1..=200 {
        assert_eq!(next_seq(&client).await, seq);
    }
    for seq in 1..=200 {
        let (reference, _) = loop {
            let request = peer.recv().await;
            if let ClientFrame::Ask(Ask::Send(ask::Send { cid, .. })) = request.frame {
                break (request.reference.unwrap(), cid);
            }
        };
        peer.sent(reference, 1000 + seq).await;
    }
    while let Some(sent) = timeout(LONG, sends.join_next()).await.unwrap() {
        sent.unwrap().unwrap();
    }
}

#[tokio::test]
async fn too_many_at_once_wait() {
    let node = Node::start().await;
    let options = ClientOptions { in_flight: 2, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    let (client, mut peer) = (client.unwrap(), peer);
    let _sends: Vec<_> = ["a", "b", "c"].map(|cid| spawn_send(&client, cid)).into();
    let (first, a) = expect_send(&mut peer).await;
    let (_, b) = expect_send(&mut peer).await;
    client.read(&conv(), 1).await.unwrap();
    assert!(
        matches!(peer.recv().await.frame, ClientFrame::Ask(Ask::Read(ask::Read { .. }))),
        "the third send must wait"
    );
    peer.sent(first, 1).await;
    let (_, c) = expect_send(&mut peer).await;
    let mut all = [a, b, c];
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
}

#[tokio::test]
async fn pages_and_tokens_are_answered() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let serve = async {
        for _ in 0..3 {
            let request = peer.recv().await;
            peer.answer(request).await;
        }
        peer
    };
    let ask = async {
        let conv = conv();
        let page = client.history(&conv, HistoryFrom::After(0), 10).await.unwrap();
        assert_eq!((page.messages.len(), page.more), (1, true));
        let page = client.conversations(Some("x".into()), 10).await.unwrap();
        assert_eq!((page.items.len(), page.next.as_deref()), (0, Some("y")));
        assert_eq!(client.refresh_token("t2").await, Ok(77));
    };
    tokio::join!(serve, timeout(LONG, ask)).1.unwrap();
}

/// A node that stops, or a proxy without one, hangs up at any moment of the handshake: that is no reason to give up.
#[tokio::test]
async fn a_connection_that_ends_within_the_handshake_is_tried_again() {
    let node = Node::start().await;
    let client = Client::start(node.options());
    node.hang_up(false).await;
    node.hang_up(true).await;
    let _peer = node.accept().await;
    assert!(matches!(timeout(LONG, client.next()).await.unwrap(), Some(Event::Connected(_))));
}

#[tokio::test]
async fn a_node_without_room_says_when_to_come_back() {
    let node = Node::start().await;
    let client = Client::start(node.options());
    let mut peer = node.accept_silently().await;
    peer.say(&ServerFrame::Goodbye { reason: "overloaded".into(), reconnect_ms: 700 }).await;
    let said = Instant::now();
    peer.close(CloseReason::Overloaded).await;
    let _peer = node.accept().await;
    assert!(said.elapsed() >= Duration::from_millis(650), "came back after {:?}", said.elapsed());
    drop(client);
}

/// They have no answer, so what may have been refused is said again.
#[tokio::test]
async fn marks_and_acknowledgements_that_were_refused_for_a_while_are_said_again() {
    let node = Node::start().await;
    let options = ClientOptions { auto_ack: false, ..node.options() };
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    let (client, mut peer) = (client.unwrap(), peer);
    let read = ClientFrame::Ask(Ask::Read(ask::Read { conv: conv(), seq: 7, handed: 0 }));
    client.read(&conv(), 7).await.unwrap();
    assert_eq!(peer.recv().await.frame, read);
    peer.error(None, ErrorCode::RateLimited).await;
    assert_eq!(peer.recv().await.frame, read);
    client.ack(&conv(), 9).await.unwrap();
    assert_eq!(expect_ack(&mut peer).await, 9);
    peer.error(None, ErrorCode::Unavailable).await;
    let again = [peer.recv().await.frame, peer.recv().await.frame];
    assert!(again.contains(&read) && again.contains(&ClientFrame::Ack { conv: conv(), seq: 9 }), "{again:?}");
}

/// Whoever signals faster than the socket takes it keeps the latest only.
#[tokio::test]
async fn signals_that_wait_are_bounded() {
    const MANY: usize = 6_000;
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let body = Body::text(&"x".repeat(4_000));
    for n in 0..MANY {
        client.signal("@bob", &format!("s{n}"), Some(body.clone())).await.unwrap();
    }
    let (mut heard, last) = (0, format!("s{}", MANY - 1));
    loop {
        let ClientFrame::Ask(Ask::Signal(signal)) = peer.recv().await.frame else { panic!("no signal") };
        heard += 1;
        if signal.kind == last {
            break;
        }
    }
    assert!(heard < MANY, "all of them were kept");
}

/// A stream that somebody keeps and does not read takes nothing from the others, and ends with the client.
#[tokio::test]
async fn the_events_are_a_stream_too_and_one_that_is_not_read_holds_nobody_up() {
    let node = Node::start().await;
    let (client, mut peer) = node.connect().await;
    let (mut left, mut read) = (client.events(), client.events());
    while futures_util::FutureExt::now_or_never(left.next()).is_some() {}
    let reading = tokio::spawn(async move {
        let mut seqs = Vec::new();
        while let Some(event) = read.next().await {
            if let Event::Message(message) = event {
                seqs.push(message.seq);
            }
        }
        seqs
    });
    for seq in 1..=3 {
        peer.message(seq).await;
    }
    assert_eq!(expect_ack(&mut peer).await, 3, "all were read");
    client.close().await;
    assert_eq!(timeout(LONG, reading).await.unwrap().unwrap(), [1, 2, 3]);
    assert_eq!(timeout(LONG, left.next()).await.unwrap(), None);
}
