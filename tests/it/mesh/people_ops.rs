//! Every op that is about another user, by everybody: whoever must not gets what says so, in both encodings.

use natter::{
    client::{Client, ClientOptions, NewRoom},
    model::{RoomId, UserId},
    protocol::{Body, Encoding, ErrorCode, Op, ServerFrame, ask},
};

use super::{Peer, TestMesh, token};
use crate::harness::until;

/// How a user stands to the one whom the op is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Friend,
    Fellow,
    Former,
    Stranger,
    Blocked,
    Blocking,
    Oneself,
}

use Who::{Blocked, Blocking, Fellow, Former, Friend, Oneself, Stranger};

const EVERYBODY: [Who; 7] = [Friend, Fellow, Former, Stranger, Blocked, Blocking, Oneself];
/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Done,
    /// A presence that may not be known.
    Hidden,
    Refused(ErrorCode),
}

/// What an op says of a user; none where it is about nobody else. A new op does not compile before it is here.
fn tried(op: Op, target: &str, reference: u64) -> Option<String> {
    let about = |more: &str| format!(r#"{{"op":"{}","ref":{reference},"user":"{target}"{more}}}"#, op.word());
    Some(match op {
        Op::Presence => format!(r#"{{"op":"presence","ref":{reference},"users":["{target}"],"watch":true}}"#),
        Op::Send => format!(r#"{{"op":"send","ref":{reference},"to":"@{target}","cid":"c{reference}","body":1}}"#),
        Op::Block | Op::Unblock => about(""),
        // About oneself, a room, or an own conversation, or for services only; `mesh::blocks` has the signals, which are not answered,
        // and what is about a message.
        Op::Hello
        | Op::Ack
        | Op::Read
        | Op::History
        | Op::Conversations
        | Op::Sessions
        | Op::EndSession
        | Op::Signal
        | Op::Token
        | Op::Ping
        | Op::Create
        | Op::Join
        | Op::Leave
        | Op::Invite
        | Op::Kick
        | Op::Role
        | Op::Topic
        | Op::Lifetime
        | Op::Room
        | Op::Rooms
        | Op::Members
        | Op::Readers
        | Op::SendMany
        | Op::Mint
        | Op::Erase
        | Op::Edit
        | Op::Delete
        | Op::React
        | Op::Unreact
        | Op::Blocks => return None,
    })
}

/// What each of [`EVERYBODY`] gets.
fn expected(op: Op) -> [Came; 7] {
    use Came::{Done, Hidden, Refused};
    match op {
        Op::Presence => [Done, Done, Hidden, Hidden, Hidden, Hidden, Done],
        Op::Send => [Done, Done, Done, Done, Refused(ErrorCode::Blocked), Done, Done],
        Op::Block | Op::Unblock => [Done, Done, Done, Done, Done, Done, Refused(ErrorCode::NotAllowed)],
        other => unreachable!("{other:?} is not tried"),
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[node].url(), token(name), "c")).await.unwrap()
}

/// Two people of whom nobody has heard before, and how one stands to the other; the other one is online.
async fn introduce(mesh: &TestMesh, who: Who, name: &str, target: &str) -> (Client, Client) {
    let (one, other) = (client(mesh, 0, name).await, client(mesh, 1, target).await);
    if let Friend | Blocked | Blocking = who {
        other.send(&format!("@{name}"), Body::text("hi")).await.unwrap();
    }
    if let Fellow | Former | Blocked = who {
        let room = RoomId::new(&format!("room-{target}")).unwrap();
        let new = NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() };
        other.create_room(new).await.unwrap();
        one.join_room(&room).await.unwrap();
        if who == Former {
            one.leave_room(&room).await.unwrap();
        }
    }
    match who {
        Blocked => other.block(&user(name)).await.unwrap(),
        Blocking => one.block(&user(target)).await.unwrap(),
        _ => {}
    }
    (one, other)
}

async fn try_it(peer: &Peer, op: Op, target: &str) -> Came {
    let reference = peer.fresh_ref();
    let json = tried(op, target, reference).unwrap();
    match peer.encoding {
        Encoding::Json => peer.say_raw(json),
        Encoding::MsgPack => {
            let frame: serde_json::Value = serde_json::from_str(&json).unwrap();
            peer.say_raw(Encoding::MsgPack.encode(&frame));
        }
    }
    match peer.answer(reference).await {
        ServerFrame::Error { code, .. } => Came::Refused(code),
        ServerFrame::Presences(ask::Presences { items, refused, .. }) if items.is_empty() => {
            assert_eq!(refused, [user(target)]);
            Came::Hidden
        }
        ServerFrame::Presences(ask::Presences { items, refused, .. }) => {
            assert_eq!((items[0].online, refused.len()), (Some(true), 0));
            Came::Done
        }
        _ => Came::Done,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_do_what_they_may_and_nothing_else() {
    let mesh = TestMesh::start(2).await;
    let mut number = 0;
    for op in Op::ALL.iter().copied().filter(|op| tried(*op, "x", 1).is_some()) {
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            for (who, came) in EVERYBODY.into_iter().zip(expected(op)) {
                number += 1;
                let target = format!("t{number}");
                let name = if who == Oneself { target.clone() } else { format!("w{number}") };
                let _both = introduce(&mesh, who, &name, &target).await;
                let peer = mesh.peer(0, &name, "p", encoding).await;
                // A block of the other node may still be on its way here.
                let mut found = try_it(&peer, op, &target).await;
                if who == Blocked && found != came {
                    until("the block is heard", async || {
                        found = try_it(&peer, op, &target).await;
                        found == came
                    })
                    .await;
                }
                assert_eq!(found, came, "{op:?} by {who:?}, {encoding:?}");
            }
        }
    }
}
