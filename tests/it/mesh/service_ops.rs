//! What services may, by everybody in whose name they try it: over NATS, on the deployed configuration of the server, in both
//! encodings, and over HTTP. `room_ops` and `people_ops` have the same for users.

use std::time::Duration;

use async_nats::{Client as Nats, ConnectOptions};
use futures_util::future::join_all;
use natter::{
    client::{Client, ClientOptions, NewRoom},
    config::{SendAs, Service},
    model::{RoomId, UserId},
    protocol::{Body, Encoding, ErrorCode, Op},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{TestMesh, service_token, token};
use crate::harness::{http, until};

/// The ways in for the service `billing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Nats(Encoding),
    Http,
}

const WAYS: [Way; 3] = [Way::Nats(Encoding::Json), Way::Nats(Encoding::MsgPack), Way::Http];

/// In whose name the service sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// Its own.
    Itself,
    /// A user in whose name it may, who owns the room.
    Owner,
    /// The same, a member.
    Member,
    /// The same, who was put out.
    Kicked,
    /// The same, whom the room has never heard of.
    Stranger,
    /// The same, whom the recipient blocks.
    Blocked,
    /// A user in whose name it may not, though that user might.
    Forbidden,
}

use As::{Blocked, Forbidden, Itself, Kicked, Member, Owner, Stranger};

/// To a user, and to a room.
const EXPECTED: [(As, Option<ErrorCode>, Option<ErrorCode>); 7] = [
    (Itself, None, Some(ErrorCode::NotMember)),
    (Owner, None, None),
    (Member, None, None),
    (Kicked, None, Some(ErrorCode::NotMember)),
    (Stranger, None, Some(ErrorCode::NotMember)),
    (Blocked, Some(ErrorCode::Blocked), Some(ErrorCode::NotMember)),
    (Forbidden, Some(ErrorCode::Unauthorized), Some(ErrorCode::Unauthorized)),
];

impl As {
    fn name(self) -> Option<&'static str> {
        match self {
            Itself => None,
            Owner => Some("owner"),
            Member => Some("member"),
            Kicked => Some("kicked"),
            Stranger => Some("stranger"),
            Blocked => Some("blocked"),
            Forbidden => Some("forbidden"),
        }
    }
}

#[derive(Serialize)]
struct Request {
    cid: String,
    body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
struct Reply {
    seq: Option<u64>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: ErrorCode,
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[0].url(), token(name), "c")).await.unwrap()
}

async fn connect(mesh: &TestMesh) -> Nats {
    ConnectOptions::with_user_and_password("billing".into(), mesh.nats.passwords().billing.clone())
        .custom_inbox_prefix("_INBOX_billing")
        .connect(mesh.nats.client_url())
        .await
        .unwrap()
}

/// What came of a send by billing: the code of its refusal.
async fn try_it(nats: &Nats, to: &str, encoding: Encoding, request: &Request) -> Option<ErrorCode> {
    let asked = nats.request(format!("natter.send.billing.{to}"), encoding.encode(request));
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("no node answered").unwrap();
    let reply: Reply = Encoding::sniff(&answer.payload).decode(&answer.payload).unwrap();
    assert_ne!(reply.seq.is_some(), reply.error.is_some(), "{reply:?}");
    reply.error.map(|error| error.code)
}

/// What a service asks in any way: the answer, or the code of the refusal.
async fn ask(mesh: &TestMesh, nats: &Nats, way: Way, op: Op, fields: &Value) -> Result<Value, ErrorCode> {
    match way {
        Way::Nats(encoding) => {
            let asked = nats.request(format!("natter.do.billing.{}", op.word()), encoding.encode(fields));
            let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("no node answered").unwrap();
            let reply: Value = encoding.decode(&answer.payload).unwrap();
            match reply.get("error") {
                Some(error) => Err(serde_json::from_value(error["code"].clone()).unwrap()),
                None => Ok(reply),
            }
        }
        Way::Http => {
            let bearer = format!("Bearer {}", service_token("billing"));
            let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
            let node = &mesh.nodes[usize::from(rand::random::<bool>()) % mesh.nodes.len()];
            let path = format!("/v1/{}", op.word());
            let answer =
                http::request(node.addr, "POST", &path, &headers, fields.to_string().as_bytes()).await.unwrap();
            match answer.status {
                200 => Ok(answer.json()),
                _ => Err(serde_json::from_value(answer.json()["code"].clone()).unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_what_its_names_may_and_nothing_else() {
    let mesh = TestMesh::tuned(2, |config| {
        let names = EXPECTED.iter().filter(|(who, ..)| *who != Forbidden).filter_map(|(who, ..)| who.name());
        let may_send_as = SendAs::Users(names.map(user).collect());
        config.services.insert(user("billing"), Service { may_send_as, http: true, ..Service::default() });
        // Nobody listens in a service's name: each node believes what it read of blocks for that long (R24).
        config.timing.blocks_known_ms = 300;
    })
    .await;
    let nats = connect(&mesh).await;
    let (owner, bob) = (client(&mesh, "owner").await, client(&mesh, "bob").await);
    let room = RoomId::new("lobby").unwrap();
    owner.create_room(NewRoom { room: Some(room.clone()), public: true, ..NewRoom::default() }).await.unwrap();
    for name in ["member", "kicked", "forbidden"] {
        client(&mesh, name).await.join_room(&room).await.unwrap();
    }
    owner.kick(&room, &user("kicked")).await.unwrap();
    bob.block(&user("blocked")).await.unwrap();
    let (mut number, mut stored) = (0, 0);
    for way in WAYS {
        for (who, to_user, to_room) in EXPECTED {
            for (to, recipient, expected) in [("user.bob", "@bob", to_user), ("room.lobby", "#lobby", to_room)] {
                number += 1;
                let request = Request { cid: format!("c{number}"), body: Body::text("hi"), from: who.name() };
                let mut found = Vec::new();
                if let Way::Nats(encoding) = way {
                    found.push(try_it(&nats, to, encoding, &request).await);
                }
                let fields = json!({"to": recipient, "cid": request.cid, "body": "hi", "from": who.name()});
                found.push(ask(&mesh, &nats, way, Op::Send, &fields).await.err());
                assert!(found.iter().all(|found| *found == expected), "{who:?} to {to}, {way:?}: {found:?}");
                stored += u64::from(expected.is_none());
            }
        }
    }
    // After each change of membership again: what was in force is no more.
    let as_member = |cid: &str| Request { cid: cid.into(), body: Body::text("hi"), from: Member.name() };
    owner.kick(&room, &user("member")).await.unwrap();
    let refused = Some(ErrorCode::NotMember);
    assert_eq!(try_it(&nats, "room.lobby", Encoding::Json, &as_member("after the kick")).await, refused);
    client(&mesh, "member").await.join_room(&room).await.unwrap();
    assert_eq!(try_it(&nats, "room.lobby", Encoding::Json, &as_member("after the join")).await, None);
    bob.block(&user("billing")).await.unwrap();
    let by_whichever_node = async || {
        let cid = rand::random::<u64>().to_string();
        let request = Request { cid, body: Body::text("hi"), from: None };
        try_it(&nats, "user.bob", Encoding::Json, &request).await
    };
    let refused_by_all = async || {
        let answers = join_all((0..16).map(|_| by_whichever_node())).await;
        answers.into_iter().all(|answer| answer == Some(ErrorCode::Blocked))
    };
    until("both nodes know of the block", refused_by_all).await;
    assert!(stored >= 21, "{stored} were stored");
}

/// How far the service may go in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The service's own.
    Own,
    /// `may_act_for` has it.
    Acts,
    /// `may_send_as` has it.
    Sends,
    /// Nothing has it.
    None,
}

const RIGHTS: [Right; 4] = [Right::Own, Right::Acts, Right::Sends, Right::None];

impl Right {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "billing",
            Self::Acts => "acted",
            Self::Sends => "spoken",
            Self::None => "left-alone",
        }
    }

    /// Given as it is written in a request.
    fn from(self) -> Option<&'static str> {
        (self != Self::Own).then(|| self.name())
    }
}

/// What stands ready for one try.
struct Ready<'a> {
    /// A conversation of the name with bob, and the name's message in it.
    conv: &'a str,
    seq: u64,
    /// A public room that the name owns, and that bob is in.
    room: &'a str,
    number: usize,
}

/// The fields of a request that goes through for whoever may; none where no service asks the op. A new op does not compile
/// before it is here.
fn tried(op: Op, ready: &Ready<'_>) -> Option<Value> {
    let Ready { conv, seq, room, number } = ready;
    let cid = format!("try-{number}");
    Some(match op {
        Op::Hello | Op::Ack | Op::Token | Op::Ping => return None,
        Op::Send => json!({"to": "@bob", "cid": cid, "body": 1}),
        Op::SendMany => json!({"users": ["bob", "carol"], "cid": cid, "body": 1}),
        Op::Mint | Op::Erase => json!({}),
        Op::Edit => json!({"conv": conv, "re": seq, "cid": cid, "body": 2}),
        Op::Delete => json!({"conv": conv, "re": seq, "cid": cid}),
        Op::React | Op::Unreact => json!({"conv": conv, "re": seq, "cid": cid, "reaction": "+1"}),
        Op::Read => json!({"conv": conv, "seq": seq}),
        Op::History => json!({"conv": conv}),
        Op::Conversations | Op::Sessions | Op::Rooms | Op::Blocks => json!({}),
        Op::EndSession => json!({"device": "no-such"}),
        Op::Signal => json!({"to": "@bob", "type": "typing"}),
        Op::Presence => json!({"users": ["bob"]}),
        Op::Create => json!({"room": format!("new-{number}")}),
        Op::Join | Op::Leave | Op::Topic | Op::Lifetime | Op::Room | Op::Members => json!({"room": room}),
        Op::Invite => json!({"room": room, "user": "carol"}),
        Op::Kick => json!({"room": room, "user": "bob"}),
        Op::Role => json!({"room": room, "user": "bob", "role": "moderator"}),
        Op::Block | Op::Unblock => json!({"user": "nobody-else"}),
        Op::Readers => json!({"room": room, "seq": 3}),
    })
}

/// What the service gets in a name: a field of the answer, or the code of the refusal.
fn expected(op: Op, right: Right) -> Result<&'static str, ErrorCode> {
    let refused = Err(ErrorCode::Unauthorized);
    let sends = matches!(op, Op::Send | Op::SendMany | Op::Signal);
    let of_services = sends || matches!(op, Op::Edit | Op::Delete | Op::React | Op::Unreact | Op::History);
    match right {
        Right::None => return refused,
        Right::Sends if !sends => return refused,
        Right::Own if !of_services => return refused,
        _ => {}
    }
    match op {
        Op::Hello | Op::Ack | Op::Token | Op::Ping => Err(ErrorCode::UnknownOp),
        Op::Send | Op::Edit | Op::Delete | Op::React | Op::Unreact => Ok("seq"),
        Op::Read | Op::Signal => Ok(""),
        Op::History => Ok("messages"),
        Op::SendMany | Op::Conversations | Op::Rooms | Op::Members | Op::Readers | Op::Presence => Ok("items"),
        Op::Mint => Ok("token"),
        // Who may is told that nothing is sealed here: `mesh::sealing` has users erased.
        Op::Erase => Err(ErrorCode::NotAllowed),
        Op::Sessions => Ok("devices"),
        Op::EndSession => Err(ErrorCode::NotFound),
        // What a user of that name would get: it is the only owner.
        Op::Leave => Err(ErrorCode::LastOwner),
        Op::Create | Op::Join | Op::Invite | Op::Kick | Op::Role | Op::Topic | Op::Lifetime | Op::Room => Ok("room"),
        Op::Block | Op::Unblock => Ok("on"),
        Op::Blocks => Ok("users"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_op_is_done_in_the_names_that_are_configured_and_in_no_other() {
    let mesh = TestMesh::tuned(2, |config| {
        let only = |right: Right| SendAs::Users(vec![user(right.name())]);
        let rules = Service {
            may_send_as: only(Right::Sends),
            may_act_for: only(Right::Acts),
            http: true,
            mints_tokens: true,
            erases_users: true,
            ..Service::default()
        };
        config.services.insert(user("billing"), rules);
    })
    .await;
    let nats = connect(&mesh).await;
    let bob = client(&mesh, "bob").await;
    let people =
        [client(&mesh, Right::Acts.name()), client(&mesh, Right::Sends.name()), client(&mesh, Right::None.name())];
    let people = join_all(people).await;
    let mut number = 0;
    for op in Op::ALL.iter().copied() {
        for (way, right) in WAYS.iter().flat_map(|way| RIGHTS.map(|right| (*way, right))) {
            number += 1;
            // A service is in no room: it tries one of a user's.
            let person = &people[RIGHTS.iter().position(|one| *one == right).unwrap().saturating_sub(1)];
            let room = format!("r{number}");
            let new = NewRoom { room: Some(RoomId::new(&room).unwrap()), public: true, ..NewRoom::default() };
            let (conv, seq) = match right {
                Right::Own => {
                    let fields = json!({"to": "@bob", "cid": format!("before-{number}"), "body": 0});
                    let sent = ask(&mesh, &nats, way, Op::Send, &fields).await.unwrap();
                    (sent["conv"].as_str().unwrap().to_owned(), sent["seq"].as_u64().unwrap())
                }
                _ => {
                    let sent = person.send("@bob", Body::text("before")).await.unwrap();
                    (sent.conv.to_string(), sent.seq)
                }
            };
            person.create_room(new).await.unwrap();
            bob.join_room(&RoomId::new(&room).unwrap()).await.unwrap();
            assert_eq!(person.send(&format!("#{room}"), Body::text("in the room")).await.unwrap().seq, 3);
            let ready = Ready { conv: &conv, seq, room: &room, number };
            let Some(mut fields) = tried(op, &ready) else {
                assert_eq!(ask(&mesh, &nats, way, op, &json!({})).await, Err(ErrorCode::UnknownOp), "{op:?}, {way:?}");
                continue;
            };
            if let Some(from) = right.from() {
                fields["from"] = from.into();
            }
            let found = ask(&mesh, &nats, way, op, &fields).await;
            match expected(op, right) {
                Ok("") => assert_eq!(found, Ok(json!({})), "{op:?} as {right:?}, {way:?}"),
                Ok(field) => {
                    let answer = found.unwrap_or_else(|code| panic!("{op:?} as {right:?}, {way:?}: {code:?}"));
                    assert!(answer.get(field).is_some(), "{op:?} as {right:?}, {way:?}: {answer}");
                }
                Err(code) => assert_eq!(found, Err(code), "{op:?} as {right:?}, {way:?}"),
            }
        }
    }
    assert_eq!(number, Op::ALL.len() * WAYS.len() * RIGHTS.len());
}
