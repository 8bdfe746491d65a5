//! One message from socket to socket over two nodes, and everything that follows it: echo, receipts, history,
//! listing, signals, retries.

use natter::{
    model::{Cid, ConvId, MAX_SEQ, NewMessage, UserId},
    protocol::{Body, Encoding, ErrorCode, ServerFrame, ask, ask::Conversation, client::Outgoing},
    store::Logs as _,
};

use crate::mesh::{
    Peer, TestMesh,
    ledger::{Ledger, in_order},
};

const CONV: &str = "dm:alice:bob";

fn body(json: &str) -> Body {
    Encoding::Json.decode(json.as_bytes()).unwrap()
}

async fn conversations(peer: &Peer) -> Vec<Conversation> {
    let reference = peer.fresh_ref();
    peer.say(&Outgoing::Conversations { reference: Some(reference), after: None, limit: 10 });
    match peer.answer(reference).await {
        ServerFrame::Conversations(ask::ConversationsPage { items, .. }) => items,
        other => panic!("no conversations: {other:?}"),
    }
}

/// The whole walk; once from JSON to MessagePack and once back.
async fn walk(sender: Encoding, recipient: Encoding) {
    let mesh = TestMesh::start(2).await;
    let phone = mesh.peer(0, "alice", "phone", sender).await;
    let tablet = mesh.peer(1, "alice", "tablet", recipient).await;
    let bob = mesh.peer(1, "bob", "phone", recipient).await;
    for peer in [&phone, &tablet, &bob] {
        peer.caught_up().await;
    }
    let rich = body(r#"{"text":"zażółć \u0000 \"q\"","n":[1,-5,18446744073709551615,1.5,true,null],"deep":{"":[]}}"#);
    let sent = phone.try_send("@bob", "c1", &rich).await;
    let ServerFrame::Sent(ask::Sent { conv, seq: 1, ts, .. }) = sent else { panic!("{sent:?}") };
    assert_eq!(conv.as_str(), CONV);
    for peer in [&bob, &phone, &tablet] {
        let message = peer.message(CONV, 1).await;
        assert_eq!(message.body.as_ref(), Some(&rich));
        assert_eq!((message.from.as_str(), message.ts), ("alice", ts));
        assert_eq!(message.cid.as_ref().map(|cid| cid.as_str()), Some("c1"));
    }
    let delivered = phone.receipt("bob's receipt", |r| r.user.as_str() == "bob" && r.delivered.is_some()).await;
    assert_eq!((delivered.conv.as_str(), delivered.delivered, delivered.read), (CONV, Some(1), None));
    bob.say(&Outgoing::Read { conv: CONV, seq: 1 });
    for peer in [&phone, &tablet, &bob] {
        let read = peer.receipt("bob's read receipt", |r| r.read.is_some()).await;
        assert_eq!((read.user.as_str(), read.read), ("bob", Some(1)));
    }
    bob.say(&Outgoing::Signal { to: "@alice", kind: "typing", body: Some(&rich) });
    for peer in [&phone, &tablet] {
        let signal = peer.wait("the signal", |f| f.iter().find(|f| matches!(f, ServerFrame::Signal(_))).cloned()).await;
        let ServerFrame::Signal(signal) = signal else { unreachable!() };
        assert_eq!((signal.from.as_str(), signal.kind.as_str(), &signal.body), ("bob", "typing", &Some(rich.clone())));
        assert_eq!(signal.conv, Some(ConvId::new(CONV).unwrap()));
    }
    // Once each, though three publishes and a local path could have brought it.
    assert_eq!((phone.seqs(CONV), tablet.seqs(CONV), bob.seqs(CONV)), (vec![1], vec![1], vec![1]));
}

#[tokio::test]
async fn one_message_from_json_to_msgpack_over_two_nodes() {
    walk(Encoding::Json, Encoding::MsgPack).await;
}

#[tokio::test]
async fn one_message_from_msgpack_to_json_over_two_nodes() {
    walk(Encoding::MsgPack, Encoding::Json).await;
}

#[tokio::test]
async fn a_conversation_both_ways_is_in_order_everywhere() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    let ledger = Ledger::default();
    let one = async {
        for i in 0..100 {
            ledger.send(&alice, "alice", "@bob", &format!("a{i}")).await;
        }
    };
    let other = async {
        for i in 0..100 {
            ledger.send(&bob, "bob", "@alice", &format!("b{i}")).await;
        }
    };
    tokio::join!(one, other);
    assert_eq!(ledger.len(), 200);
    ledger.reaches("alice", &[&alice]).await;
    ledger.reaches("bob", &[&bob]).await;
    assert_eq!(alice.seqs(CONV), (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_goes_both_ways_and_says_whether_there_is_more() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    assert_eq!(alice.history(CONV, None, None, 5).await, (vec![], false));
    for i in 1..=10 {
        alice.send("@bob", &format!("c{i}"), "x").await;
    }
    for peer in [&alice, &bob] {
        assert_eq!(peer.history(CONV, None, None, 3).await, (vec![8, 9, 10], true));
        assert_eq!(peer.history(CONV, Some(8), None, 200).await, ((1..=7).collect(), false));
        assert_eq!(peer.history(CONV, None, Some(0), 3).await, (vec![1, 2, 3], true));
        assert_eq!(peer.history(CONV, None, Some(8), 3).await, (vec![9, 10], false));
        assert_eq!(peer.history(CONV, None, Some(MAX_SEQ), 3).await, (vec![], false));
        assert_eq!(peer.history(CONV, Some(1), None, 3).await, (vec![], false));
        assert_eq!(peer.history(CONV, Some(3), None, 1).await, (vec![2], true));
    }
}

/// A send moves the sender's mark only where everything below it was handed to the sender's session: what the window
/// keeps back is not read.
#[tokio::test]
async fn a_send_marks_nothing_as_read_that_was_not_handed_out() {
    let mesh = TestMesh::tuned(1, |config| config.limits.window = 2).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.json(0, "bob", "d").await);
    let read = async |peer: &Peer| conversations(peer).await.into_iter().map(|c| (c.head, c.read)).next();
    bob.hold_acks();
    for seq in 1..=4 {
        alice.send("@bob", &format!("c{seq}"), "x").await;
    }
    assert_eq!(read(&alice).await, Some((4, 4)), "one's own messages, sent one after the other");
    bob.message(CONV, 2).await;
    bob.send("@alice", "b5", "x").await;
    assert_eq!(read(&bob).await, Some((5, 0)), "3 and 4 were never handed to bob");
    bob.ack(CONV, 2);
    bob.message(CONV, 4).await;
    bob.ack(CONV, 4);
    bob.message(CONV, 5).await;
    bob.send("@alice", "b6", "x").await;
    assert_eq!(read(&bob).await, Some((6, 6)));
    // alice has been handed all of it, too, before she answers.
    alice.message(CONV, 6).await;
    alice.send("@bob", "c7", "x").await;
    assert_eq!(read(&alice).await, Some((7, 7)));
}

#[tokio::test]
async fn conversations_count_what_is_unread() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (mesh.json(0, "alice", "d").await, mesh.msgpack(1, "bob", "d").await);
    bob.hold_acks();
    for i in 1..=4 {
        alice.send("@bob", &format!("c{i}"), &i.to_string()).await;
    }
    alice.send("@carol", "c", "to carol").await;
    bob.message(CONV, 4).await;
    bob.say(&Outgoing::Read { conv: CONV, seq: 1 });
    bob.receipt("the read mark is stored", |r| r.read == Some(1)).await;
    bob.ack(CONV, 2);
    alice.receipt("the cursor is stored", |r| r.delivered == Some(2)).await;
    let of_bob = conversations(&bob).await;
    assert_eq!(of_bob.len(), 1);
    let one = &of_bob[0];
    assert_eq!((one.conv.as_str(), one.head, one.read, one.unread), (CONV, 4, 1, 3));
    assert_eq!(one.last.as_ref().map(|m| (m.seq, m.body.clone())), Some((4, Some(Body::text("4")))));
    let of_alice = conversations(&alice).await;
    let names: Vec<_> = of_alice.iter().map(|c| c.conv.as_str()).collect();
    assert_eq!(names, ["dm:alice:carol", CONV], "the most recent first");
    let peer = of_alice[1].peer.unwrap();
    assert_eq!((of_alice[1].unread, peer.delivered, peer.read), (0, 2, 1), "one's own messages are read");
    // bob writes once from where nothing was handed out, so that his mark stays: what he wrote himself is not unread.
    let (bob_id, cid) = (UserId::new("bob").unwrap(), Cid::new("b1").unwrap());
    let own = NewMessage::of_user(bob_id, cid, 1, Body::text("5"));
    let conv = ConvId::new(CONV).unwrap();
    assert_eq!(mesh.store.append(&conv, vec![own]).await[0].as_ref().map(|appended| appended.seq), Ok(5));
    alice.send("@bob", "c5", "6").await;
    bob.message(CONV, 6).await;
    let one = &conversations(&bob).await[0];
    assert_eq!((one.head, one.read, one.unread), (6, 1, 4), "2, 3, 4 and 6 are alice's");
    alice.message(CONV, 6).await;
    alice.say(&Outgoing::Read { conv: CONV, seq: 6 });
    bob.receipt("alice has read it all", |r| r.read == Some(6)).await;
    let of_alice = conversations(&alice).await.into_iter().find(|c| c.conv.as_str() == CONV).unwrap();
    assert_eq!((of_alice.head, of_alice.read, of_alice.unread), (6, 6, 0));
}

#[tokio::test]
async fn conversations_come_in_pages_the_most_recent_first() {
    let mesh = TestMesh::start(1).await;
    let alice = mesh.json(0, "alice", "d").await;
    for i in 0..23 {
        alice.send(&format!("@u{i:02}"), "c", "x").await;
    }
    // One of the first moves to the front.
    alice.send("@u03", "c2", "x").await;
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let reference = alice.fresh_ref();
        alice.say(&Outgoing::Conversations { reference: Some(reference), after: after.as_deref(), limit: 10 });
        let ServerFrame::Conversations(ask::ConversationsPage { items, next, .. }) = alice.answer(reference).await
        else {
            panic!("{alice:?}")
        };
        assert!(items.len() <= 10);
        names.extend(items.iter().map(|item| item.conv.to_string()));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(names[0], "dm:alice:u03");
    names.sort();
    assert_eq!(names, (0..23).map(|i| format!("dm:alice:u{i:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_cid_sent_over_two_nodes_at_once_has_one_seq() {
    let mesh = TestMesh::start(2).await;
    let (one, two) = (mesh.json(0, "alice", "d1").await, mesh.msgpack(1, "alice", "d2").await);
    let bob = mesh.json(1, "bob", "d").await;
    for round in 0..50 {
        let (cid, text) = (format!("c{round}"), round.to_string());
        let (a, b) = tokio::join!(one.send("@bob", &cid, &text), two.send("@bob", &cid, &text));
        assert_eq!(a, b, "{cid}");
        assert_eq!(a.1, round + 1);
    }
    // A late retry, after other messages.
    assert_eq!(two.send("@bob", "c7", "7").await.1, 8);
    bob.message(CONV, 50).await;
    assert_eq!(bob.seqs(CONV), (1..=50).collect::<Vec<_>>());
    in_order(&one.frames());
}

#[tokio::test]
async fn a_cid_with_another_body_is_refused_and_stores_nothing() {
    let mesh = TestMesh::start(2).await;
    let (one, two) = (mesh.json(0, "alice", "d1").await, mesh.json(1, "alice", "d2").await);
    one.send("@bob", "c1", "this").await;
    let refused = two.try_send("@bob", "c1", &Body::text("that")).await;
    let ServerFrame::Error { code, message, retry, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((code, retry), (ErrorCode::CidReused, false));
    assert!(message.contains("seq 1"), "{message}");
    // The same cid to someone else is another message.
    assert_eq!(two.send("@carol", "c1", "that").await.1, 1);
    assert_eq!(two.send("@bob", "c2", "next").await.1, 2);
}

#[tokio::test]
async fn one_may_write_to_oneself() {
    let mesh = TestMesh::start(2).await;
    let (one, two) = (mesh.json(0, "alice", "d1").await, mesh.msgpack(1, "alice", "d2").await);
    assert_eq!(one.send("@alice", "c1", "note").await.0.as_str(), "dm:alice:alice");
    for peer in [&one, &two] {
        assert_eq!(peer.message("dm:alice:alice", 1).await.body, Some(Body::text("note")));
    }
    two.send("@alice", "c2", "more").await;
    one.message("dm:alice:alice", 2).await;
    assert_eq!((one.seqs("dm:alice:alice"), two.seqs("dm:alice:alice")), (vec![1, 2], vec![1, 2]));
}
