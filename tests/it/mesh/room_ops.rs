//! Every op that touches a room, by everybody: whoever must not gets the code that says why, in both encodings, and nothing
//! changes. And what the Rust client makes of rooms.

use std::{collections::HashSet, sync::Arc};

use natter::{
    client::{Client, ClientOptions, Event, NewRoom},
    model::{
        ConvId, RoomId, UserId,
        room::{Reach, Role},
    },
    protocol::{Body, Encoding, ErrorCode, HistoryFrom, Op, ServerFrame},
    store::Store,
};
use parking_lot::Mutex;

use super::{Peer, TestMesh, token};
use crate::harness::until;

/// How a user stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Owner,
    Moderator,
    Member,
    Invited,
    Kicked,
    Stranger,
}

use Who::{Invited, Kicked, Member, Moderator, Owner, Stranger};

/// The rows of a room that was furnished.
const FURNISHED: u64 = 13;
/// The one that is a message, of the member.
const MESSAGE: u64 = 11;

const EVERYBODY: [Who; 6] = [Owner, Moderator, Member, Invited, Kicked, Stranger];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Owner => "owner",
            Moderator => "moderator",
            Member => "member",
            Invited => "invited",
            Kicked => "kicked",
            Stranger => "stranger",
        }
    }
}

/// What an op says of a room, with this `ref`; none where it concerns no room. A new op does not compile before it is here.
fn tried(op: Op, room: &str, reference: u64) -> Option<String> {
    let change = |more: &str| format!(r#"{{"op":"{}","ref":{reference},"room":"{room}"{more}}}"#, op.word());
    let conv = |more: &str| format!(r#"{{"op":"{}","ref":{reference},"conv":"room:{room}"{more}}}"#, op.word());
    Some(match op {
        Op::Create | Op::Join | Op::Leave | Op::Room | Op::Members => change(""),
        Op::Readers => change(&format!(r#","seq":{FURNISHED}"#)),
        Op::Invite => change(r#","user":"new""#),
        Op::Kick => change(r#","user":"other""#),
        Op::Role => change(r#","user":"other","role":"moderator""#),
        Op::Topic => change(r#","topic":"lunch""#),
        Op::Lifetime => change(r#","lifetime":3600"#),
        Op::Send => {
            format!(r##"{{"op":"send","ref":{reference},"to":"#{room}","cid":"c-{reference}","body":"hi"}}"##)
        }
        Op::Edit => conv(&format!(r#","re":{MESSAGE},"cid":"c-{reference}","body":"ho""#)),
        Op::Delete => conv(&format!(r#","re":{MESSAGE},"cid":"c-{reference}""#)),
        Op::React | Op::Unreact => conv(&format!(r#","re":{MESSAGE},"cid":"c-{reference}","reaction":"+1""#)),
        Op::Signal => format!(r##"{{"op":"signal","ref":{reference},"to":"#{room}","type":"typing"}}"##),
        Op::History => conv(r#","after":0"#),
        Op::Read => conv(&format!(r#","seq":{FURNISHED}"#)),
        Op::Ack => conv(r#","seq":1000"#),
        // They name no room, or nobody is told what becomes of them, or no client asks them.
        Op::Hello
        | Op::Conversations
        | Op::Sessions
        | Op::EndSession
        | Op::Token
        | Op::Ping
        | Op::Presence
        | Op::Rooms
        | Op::SendMany
        | Op::Mint
        | Op::Erase
        | Op::Block
        | Op::Unblock
        | Op::Blocks => return None,
    })
}

/// What each of [`EVERYBODY`] gets, in a room that is not public and in one that is; `None`: it is done.
fn expected(op: Op) -> [[Option<ErrorCode>; 6]; 2] {
    use ErrorCode::{BadAck, LastOwner, NoSuchRoom, NotAllowed, NotMember, RoomExists};
    const NO: Option<ErrorCode> = Some(NotMember);
    const NONE: Option<ErrorCode> = Some(NoSuchRoom);
    const LESS: Option<ErrorCode> = Some(NotAllowed);
    match op {
        Op::Create => [[Some(RoomExists); 6]; 2],
        Op::Join => [[None, None, None, None, NO, NONE], [None; 6]],
        Op::Leave => [[Some(LastOwner), None, None, None, NO, NONE], [Some(LastOwner), None, None, None, NO, NO]],
        Op::Invite => [[None, None, LESS, NO, NO, NONE], [None, None, None, NO, NO, NO]],
        Op::Kick | Op::Topic | Op::Lifetime => [[None, None, LESS, NO, NO, NONE], [None, None, LESS, NO, NO, NO]],
        Op::Role => [[None, LESS, LESS, NO, NO, NONE], [None, LESS, LESS, NO, NO, NO]],
        Op::Edit => [[LESS, LESS, None, NO, NO, NONE], [LESS, LESS, None, NO, NO, NO]],
        Op::Send | Op::Members | Op::Readers | Op::Read | Op::Signal | Op::Delete | Op::React | Op::Unreact => {
            [[None, None, None, NO, NO, NONE], [None, None, None, NO, NO, NO]]
        }
        Op::Room => [[None, None, None, None, None, NONE], [None; 6]],
        Op::History => [[None, None, None, NO, None, NONE], [None, None, None, NO, None, NO]],
        // The log does not go so far.
        Op::Ack => {
            let above = Some(BadAck);
            [[above, above, above, above, above, NO]; 2]
        }
        other => unreachable!("{other:?} is not tried"),
    }
}

/// The people, each with a client that stays: the last two are in the rooms for others to do something to.
struct Town {
    mesh: TestMesh,
    people: Vec<Client>,
    /// Where the last one of them has heard a signal.
    signalled: Arc<Mutex<HashSet<ConvId>>>,
}

impl Town {
    async fn start() -> Self {
        let mesh = TestMesh::tuned(2, |config| {
            config.limits.sends_per_sec = 0;
            config.limits.send_burst = 0;
        })
        .await;
        let names = EVERYBODY.map(Who::name).into_iter().chain(["other"]);
        let mut people = Vec::new();
        for (n, name) in names.enumerate() {
            people.push(client(&mesh, n % 2, name).await);
        }
        // Whoever reads too slowly loses signals: this one reads all the time.
        let (other, signalled) = (people[EVERYBODY.len()].clone(), Arc::<Mutex<HashSet<ConvId>>>::default());
        let heard = signalled.clone();
        tokio::spawn(async move {
            while let Some(event) = other.next().await {
                if let Event::Signal(signal) = event {
                    heard.lock().extend(signal.conv);
                }
            }
        });
        Self { mesh, people, signalled }
    }

    fn of(&self, who: Who) -> &Client {
        &self.people[EVERYBODY.iter().position(|other| *other == who).unwrap()]
    }

    /// A room in which everybody stands as named, each change made by whom it concerns.
    async fn furnish(&self, room: &RoomId, public: bool) {
        let new = NewRoom { room: Some(room.clone()), public, ..NewRoom::default() };
        let owner = self.of(Owner);
        owner.create_room(new).await.unwrap();
        for name in ["moderator", "member", "invited", "kicked", "other"] {
            owner.invite(room, &user(name)).await.unwrap();
        }
        for person in [self.of(Moderator), self.of(Member), self.of(Kicked), &self.people[EVERYBODY.len()]] {
            person.join_room(room).await.unwrap();
        }
        self.of(Member).send(&format!("#{room}"), Body::text("hi")).await.unwrap();
        owner.set_role(room, &user("moderator"), Role::Moderator).await.unwrap();
        owner.kick(room, &user("kicked")).await.unwrap();
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

async fn client(mesh: &TestMesh, node: usize, name: &str) -> Client {
    Client::connect(ClientOptions::new(mesh.nodes[node].url(), token(name), "c")).await.unwrap()
}

/// The code that the op was refused with, or none.
async fn try_it(town: &Town, peer: &Peer, (op, who): (Op, Who), room: &RoomId) -> Option<ErrorCode> {
    let reference = peer.fresh_ref();
    let json = tried(op, room.as_str(), reference)?;
    match peer.encoding {
        Encoding::Json => peer.say_raw(json),
        Encoding::MsgPack => {
            let frame: serde_json::Value = serde_json::from_str(&json).unwrap();
            peer.say_raw(Encoding::MsgPack.encode(&frame));
        }
    }
    let refused = |frame: &ServerFrame| match frame {
        ServerFrame::Error { code, reference: Some(of), .. } if *of == reference => Some(*code),
        _ => None,
    };
    if op == Op::Signal {
        return try_signal(town, peer, who, room, refused).await;
    }
    if op != Op::Read {
        let answer = peer.wait(op.word(), |frames| {
            frames.iter().find(|frame| frame.reference() == Some(reference) || refused(frame).is_some()).cloned()
        });
        return refused(&answer.await);
    }
    // It says nothing where it is done.
    let marks = Store::of(town.mesh.store.clone()).marks;
    let (user, conv) = (user(who.name()), ConvId::room(room));
    let mut code = None;
    until(&format!("{} has read or is refused", who.name()), async || {
        code = peer.frames().iter().find_map(refused);
        code.is_some() || marks.read_mark(&user, &conv).await.unwrap() == FURNISHED
    })
    .await;
    code
}

/// It says nothing where it is done: another member hears it.
async fn try_signal(
    town: &Town,
    peer: &Peer,
    who: Who,
    room: &RoomId,
    refused: impl Fn(&ServerFrame) -> Option<ErrorCode>,
) -> Option<ErrorCode> {
    let conv = ConvId::room(room);
    let mut code = None;
    until(&format!("{} has signalled or is refused", who.name()), async || {
        code = peer.frames().iter().find_map(&refused);
        code.is_some() || town.signalled.lock().contains(&conv)
    })
    .await;
    code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_may_do_what_they_may_and_nothing_else() {
    let town = Town::start().await;
    let mut peers = Vec::new();
    for (device, encoding) in [("j", Encoding::Json), ("m", Encoding::MsgPack)] {
        for (n, who) in EVERYBODY.into_iter().enumerate() {
            peers.push((who, town.mesh.peer((n + 1) % 2, who.name(), device, encoding).await));
        }
    }
    let mut rooms = 0;
    for op in Op::ALL.iter().copied().filter(|op| tried(*op, "r", 1).is_some()) {
        for (public, row) in [false, true].into_iter().zip(expected(op)) {
            for (n, (who, peer)) in peers.iter().enumerate() {
                rooms += 1;
                let room = RoomId::new(&format!("r{rooms}")).unwrap();
                town.furnish(&room, public).await;
                let before = head(&town, &room).await;
                let code = try_it(&town, peer, (op, *who), &room).await;
                let encoding = peer.encoding;
                assert_eq!(code, row[n % 6], "{op:?} by {who:?}, public {public}, {encoding:?}");
                if code.is_some() {
                    assert_eq!(
                        head(&town, &room).await,
                        before,
                        "{op:?} by {who:?} was refused, and changed something"
                    );
                }
                peer.forget();
            }
        }
    }
    for node in &town.mesh.nodes {
        let failed = node.metric(r#"natter_store_errors_total{op="append"}"#).await;
        assert!(failed < 0.5, "{failed} refusals were counted as failures of the store");
    }
}

async fn head(town: &Town, room: &RoomId) -> u64 {
    town.of(Owner).room(room).await.unwrap().log.unwrap().head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_makes_rooms_and_lists_them() {
    let mesh = TestMesh::start(2).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, client(&mesh, 1, "bob").await);
    let topic = Some("lunch".parse().unwrap());
    let made = alice.create_room(NewRoom { topic, public: true, ..NewRoom::default() }).await.unwrap();
    let (room, conv) = (made.room, made.conv);
    assert_eq!(made.seq, Some(1));
    let seen = bob.room(&room).await.unwrap();
    assert_eq!((seen.role, seen.members, seen.log), (None, 1, None), "whoever is outside sees no messages");
    assert_eq!(seen.topic.unwrap().as_str(), "lunch");
    assert_eq!(alice.send(&format!("#{room}"), Body::text("before")).await.unwrap().seq, 2);
    assert_eq!(bob.join_room(&room).await.unwrap().seq, Some(3));
    assert_eq!(bob.join_room(&room).await.unwrap().seq, None, "it is so already");
    for n in 4..9 {
        assert_eq!(alice.send(&format!("#{room}"), Body::text("hi")).await.unwrap().seq, n);
    }
    let log = bob.room(&room).await.unwrap().log.unwrap();
    assert_eq!((log.head, log.read, log.unread), (8, 3, 5), "what was there at the join is not unread");
    bob.read(&conv, 6).await.unwrap();
    until("bob has read", async || bob.room(&room).await.unwrap().log.unwrap().unread == 2).await;
    let seqs = |page: natter::client::HistoryPage| {
        (page.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(seqs(bob.history(&conv, HistoryFrom::After(0), 3).await.unwrap()), (vec![4, 5, 6], true));
    assert_eq!(seqs(bob.history(&conv, HistoryFrom::Before(6), 9).await.unwrap()), (vec![4, 5], false));
    assert_eq!(seqs(alice.history(&conv, HistoryFrom::Before(4), 9).await.unwrap()), (vec![2, 3], false));
    bob.leave_room(&room).await.unwrap();
    alice.send(&format!("#{room}"), Body::text("alone")).await.unwrap();
    bob.join_room(&room).await.unwrap();
    assert_eq!(seqs(bob.history(&conv, HistoryFrom::Before(99), 9).await.unwrap()).0, [4, 5, 6, 7, 8, 9]);
    assert_eq!(seqs(bob.history(&conv, HistoryFrom::After(6), 9).await.unwrap()), (vec![7, 8, 9], false));
    alice.invite(&room, &user("carol")).await.unwrap();
    let members = alice.members(&room, None, 2).await.unwrap();
    let named = |page: &natter::protocol::ask::MembersPage| {
        page.items.iter().map(|member| (member.user.to_string(), member.role)).collect::<Vec<_>>()
    };
    assert_eq!(named(&members), [("alice".into(), Some(Role::Owner)), ("bob".into(), Some(Role::Member))]);
    let rest = alice.members(&room, members.next, 2).await.unwrap();
    assert_eq!((named(&rest), rest.next), (vec![("carol".into(), None)], None));
    let carol = client(&mesh, 0, "carol").await;
    let listed = carol.rooms(None, 10).await.unwrap().items;
    assert_eq!((listed.len(), listed[0].invited, listed[0].log.is_none()), (1, true, true));
    carol.leave_room(&room).await.unwrap();
    assert!(carol.rooms(None, 10).await.unwrap().items.is_empty(), "declined");
}

/// Members may read all of the log where the room was made so, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_may_show_its_members_all_of_its_log() {
    let mesh = TestMesh::start(1).await;
    let (alice, bob) = (client(&mesh, 0, "alice").await, client(&mesh, 0, "bob").await);
    let room = RoomId::new("lobby").unwrap();
    let new = NewRoom { room: Some(room.clone()), public: true, history: Reach::All, ..NewRoom::default() };
    let conv = alice.create_room(new.clone()).await.unwrap().conv;
    alice.send("#lobby", Body::text("one")).await.unwrap();
    let refused = bob.history(&conv, HistoryFrom::After(0), 9).await.unwrap_err().to_string();
    assert!(refused.contains("not a member"), "{refused}");
    bob.join_room(&room).await.unwrap();
    assert_eq!(bob.history(&conv, HistoryFrom::After(0), 9).await.unwrap().messages.len(), 3);
    let taken = bob.create_room(new).await.unwrap_err().to_string();
    assert!(taken.contains("room of that name"), "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_in_more_rooms_than_the_limit() {
    let mesh = TestMesh::tuned(1, |config| {
        config.limits.rooms_per_user = 2;
        config.limits.members_per_room = 2;
    })
    .await;
    let alice = client(&mesh, 0, "alice").await;
    let make = async |name: &str| {
        let room = Some(RoomId::new(name).unwrap());
        alice.create_room(NewRoom { room, public: true, ..NewRoom::default() }).await
    };
    make("a").await.unwrap();
    make("b").await.unwrap();
    let full = make("c").await.unwrap_err().to_string();
    assert!(full.contains("2 rooms already"), "{full}");
    let room = RoomId::new("a").unwrap();
    assert_eq!(alice.join_room(&room).await.unwrap().seq, None, "she is in it");
    client(&mesh, 0, "bob").await.join_room(&room).await.unwrap();
    let full = client(&mesh, 0, "carol").await.join_room(&room).await.unwrap_err().to_string();
    assert!(full.contains("the room is full"), "{full}");
    alice.leave_room(&RoomId::new("b").unwrap()).await.unwrap();
    make("c").await.unwrap();
}
