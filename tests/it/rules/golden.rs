//! Every frame of the protocol in both encodings, byte for byte as in `tests/golden/`. A difference means that the
//! contract changed: `UPDATE_GOLDEN=1 cargo test --test it golden` rewrites the files, and a review sees it.

use std::{fmt::Write as _, fs, path::PathBuf};

use bytes::Bytes;
use natter::{
    model::{
        Cid, ConvId, DeviceId, Kind, Reacted, Reacting, RoomId, SessionId, UserId,
        room::{Change, Lifetime, Reach, Role, Topic},
    },
    protocol::{
        Ask, Body, ClientFrame, Encoding, ErrorCode, HistoryFrom, Message, Request, ServerFrame, ask,
        client::{Changing, Hello, Outgoing, Referring},
        server::{Limits, Receipt, Signal, Welcome},
    },
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn conv() -> ConvId {
    ConvId::new("dm:alice:bob").unwrap()
}

fn rich_body() -> Body {
    serde_json::from_str(r#"{"text":"hä? \"quoted\"\n","n":[0,-1,1.5,18446744073709551615,true,null],"empty":{}}"#)
        .unwrap()
}

fn message(seq: u64) -> Message {
    let message = Message::new(conv(), seq, user("alice"), 1_700_000_000_123, Body::text("hello"));
    Message { cid: Some(Cid::new("c-1").unwrap()), ..message }
}

fn options() -> ask::SendOptions {
    ask::SendOptions { reply_to: Some(3), mentions: vec![user("bob"), user("carol")], expires: "60".parse().ok() }
}

/// What a client writes about a message.
fn about_frames() -> Vec<(&'static str, Outgoing<'static>, Request)> {
    let body: &'static Body = Box::leak(Box::new(rich_body()));
    let about = Referring { reference: Some(30), conv: "dm:alice:bob", re: 3, cid: "c-2" };
    let asks = |what| ask::About { conv: conv(), re: 3, cid: Cid::new("c-2").unwrap(), what };
    let react = |set| asks(ask::Say::React(Reacting { reaction: "👍".parse().unwrap(), set }));
    let frame = |name, out, ask| (name, out, Request { reference: Some(30), frame: ClientFrame::Ask(ask) });
    vec![
        frame(
            "send_refers",
            Outgoing::Send {
                reference: Some(30),
                to: "#lobby",
                cid: "c-2",
                body,
                reply_to: Some(3),
                mentions: Box::leak(Box::new(options().mentions)),
                expires: "60".parse().ok(),
            },
            Ask::Send(ask::Send {
                to: "#lobby".parse().unwrap(),
                cid: Cid::new("c-2").unwrap(),
                body: body.clone(),
                options: options(),
                handed: 0,
            }),
        ),
        frame("edit", Outgoing::Edit { about, body }, Ask::Edit(asks(ask::Say::Edit(body.clone())))),
        frame("delete", Outgoing::Delete(about), Ask::Delete(asks(ask::Say::Delete))),
        frame("react", Outgoing::React { about, reaction: "👍" }, Ask::React(react(true))),
        frame("unreact", Outgoing::Unreact { about, reaction: "👍" }, Ask::Unreact(react(false))),
        frame(
            "history_raw",
            Outgoing::History {
                reference: Some(30),
                conv: "dm:alice:bob",
                before: None,
                after: Some(1),
                around: None,
                limit: 20,
                raw: true,
            },
            Ask::History(ask::History { conv: conv(), from: HistoryFrom::After(1), limit: 20, raw: true }),
        ),
    ]
}

/// What a client writes, and what a node must make of it.
fn client_frames() -> Vec<(&'static str, Outgoing<'static>, Request)> {
    let body: &'static Body = Box::leak(Box::new(rich_body()));
    let device = DeviceId::new("laptop").unwrap();
    let full = Hello { token: Some("j.w.t".into()), device, client: Some("test/1".into()), attempt: 3, since: None };
    let frame = |name, out, reference, frame| (name, out, Request { reference, frame });
    let ask = ClientFrame::Ask;
    vec![
        frame(
            "hello",
            Outgoing::Hello { token: Some("j.w.t"), device: "laptop", client: "test/1", attempt: 3, since: None },
            None,
            ClientFrame::Hello(full.clone()),
        ),
        frame(
            "hello_since",
            Outgoing::Hello {
                token: Some("j.w.t"),
                device: "laptop",
                client: "test/1",
                attempt: 4,
                since: Some("00112233445566778899aabbccddeeff"),
            },
            None,
            ClientFrame::Hello(Hello { attempt: 4, since: Some("00112233445566778899aabbccddeeff".into()), ..full }),
        ),
        frame(
            "send",
            Outgoing::Send {
                reference: Some(7),
                to: "@bob",
                cid: "c-1",
                body,
                reply_to: None,
                mentions: &[],
                expires: None,
            },
            Some(7),
            ask(Ask::Send(ask::Send {
                to: "@bob".parse().unwrap(),
                cid: Cid::new("c-1").unwrap(),
                body: body.clone(),
                options: ask::SendOptions::default(),
                handed: 0,
            })),
        ),
        frame("ack", Outgoing::Ack { conv: "dm:alice:bob", seq: 5 }, None, ClientFrame::Ack { conv: conv(), seq: 5 }),
        frame(
            "read",
            Outgoing::Read { conv: "dm:alice:bob", seq: 70_000 },
            None,
            ask(Ask::Read(ask::Read { conv: conv(), seq: 70_000, handed: 0 })),
        ),
        frame(
            "history_before",
            Outgoing::History {
                reference: Some(8),
                conv: "dm:alice:bob",
                before: Some(100),
                after: None,
                around: None,
                limit: 20,
                raw: false,
            },
            Some(8),
            ask(Ask::History(ask::History { conv: conv(), from: HistoryFrom::Before(100), limit: 20, raw: false })),
        ),
        frame(
            "history_after",
            Outgoing::History {
                reference: None,
                conv: "room:lobby",
                before: None,
                after: Some(0),
                around: None,
                limit: 200,
                raw: false,
            },
            None,
            ask(Ask::History(ask::History {
                conv: ConvId::new("room:lobby").unwrap(),
                from: HistoryFrom::After(0),
                limit: 200,
                raw: false,
            })),
        ),
        frame(
            "conversations",
            Outgoing::Conversations { reference: Some(9), after: Some("opaque"), limit: 30 },
            Some(9),
            ask(Ask::Conversations(ask::Conversations { after: Some("opaque".into()), limit: 30 })),
        ),
        frame(
            "history_around",
            Outgoing::History {
                reference: Some(8),
                conv: "dm:alice:bob",
                before: None,
                after: None,
                around: Some(100),
                limit: 20,
                raw: false,
            },
            Some(8),
            ask(Ask::History(ask::History { conv: conv(), from: HistoryFrom::Around(100), limit: 20, raw: false })),
        ),
        frame("sessions", Outgoing::Sessions { reference: Some(14) }, Some(14), ask(Ask::Sessions(ask::Sessions))),
        frame(
            "end_session",
            Outgoing::EndSession { reference: Some(15), session: Some("00112233445566778899"), device: None },
            Some(15),
            ask(Ask::EndSession(ask::EndSession::Session(SessionId::named("00112233445566778899")))),
        ),
        frame(
            "end_session_device",
            Outgoing::EndSession { reference: Some(16), session: None, device: Some("laptop") },
            Some(16),
            ask(Ask::EndSession(ask::EndSession::Device(DeviceId::new("laptop").unwrap()))),
        ),
        frame(
            "signal",
            Outgoing::Signal { to: "#lobby", kind: "typing", body: None },
            None,
            ask(Ask::Signal(ask::Signal { to: "#lobby".parse().unwrap(), kind: "typing".into(), body: None })),
        ),
        frame(
            "token",
            Outgoing::Token { reference: Some(10), token: "j.w.t" },
            Some(10),
            ClientFrame::Token { token: "j.w.t".into() },
        ),
        frame("ping", Outgoing::Ping { reference: Some(13) }, Some(13), ClientFrame::Ping),
        frame(
            "presence",
            Outgoing::Presence { reference: Some(11), users: &["bob", "carol"], watch: Some(true) },
            Some(11),
            ask(Ask::Presence(ask::Presence { users: vec![user("bob"), user("carol")], watch: Some(true) })),
        ),
    ]
    .into_iter()
    .chain(about_frames())
    .chain(room_requests())
    .chain(people_requests())
    .collect()
}

/// What a client asks of people.
fn people_requests() -> Vec<(&'static str, Outgoing<'static>, Request)> {
    let frame =
        |name, out, reference, ask| (name, out, Request { reference: Some(reference), frame: ClientFrame::Ask(ask) });
    let bob = |on| ask::Block { user: user("bob"), on };
    vec![
        (
            "presence_ask",
            Outgoing::Presence { reference: None, users: &["bob"], watch: None },
            Request {
                reference: None,
                frame: ClientFrame::Ask(Ask::Presence(ask::Presence { users: vec![user("bob")], watch: None })),
            },
        ),
        frame("block", Outgoing::Block { reference: Some(28), user: "bob" }, 28, Ask::Block(bob(true))),
        frame("unblock", Outgoing::Unblock { reference: Some(29), user: "bob" }, 29, Ask::Unblock(bob(false))),
        frame(
            "blocks",
            Outgoing::Blocks { reference: Some(30), after: Some("bob"), limit: 30 },
            30,
            Ask::Blocks(ask::Blocks { after: Some(user("bob")), limit: 30 }),
        ),
    ]
}

/// What a node says of people.
fn people_frames() -> Vec<(&'static str, ServerFrame)> {
    let bob = ask::Seen { user: user("bob"), online: Some(true), last_seen: None };
    let carol = ask::Seen { user: user("carol"), online: Some(false), last_seen: Some(1_700_000_000_123) };
    let unknown = ask::Seen { user: user("dan"), online: None, last_seen: None };
    vec![
        ("presence", ServerFrame::Presence(bob.clone())),
        ("presence_gone", ServerFrame::Presence(carol.clone())),
        ("presence_ended", ServerFrame::Presence(unknown.clone())),
        (
            "presences",
            ServerFrame::Presences(ask::Presences {
                reference: Some(11),
                items: vec![bob, carol, unknown],
                refused: vec![user("eve")],
            }),
        ),
        ("blocking", ServerFrame::Blocking(ask::Blocking { reference: Some(28), user: user("bob"), on: true })),
        (
            "blocks",
            ServerFrame::Blocks(ask::BlocksPage {
                reference: Some(30),
                users: vec![user("bob"), user("eve")],
                next: Some(user("eve")),
            }),
        ),
    ]
}

/// What a client asks of rooms.
fn room_requests() -> Vec<(&'static str, Outgoing<'static>, Request)> {
    let change = |reference| Changing { reference: Some(reference), room: Some("lobby"), cid: None };
    let asked = |cid: Option<&str>, change| ask::ChangeRoom {
        room: Some(RoomId::new("lobby").unwrap()),
        cid: cid.map(|cid| Cid::new(cid).unwrap()),
        change,
    };
    let day = || Lifetime::try_from(86_400).unwrap();
    let (bob, lunch) = (|| user("bob"), || "lunch".parse::<Topic>().unwrap());
    let frame =
        |name, out, reference, ask| (name, out, Request { reference: Some(reference), frame: ClientFrame::Ask(ask) });
    vec![
        frame(
            "create",
            Outgoing::Create {
                change: Changing { cid: Some("c-9"), ..change(20) },
                topic: Some("lunch"),
                public: true,
                history: Reach::All,
                lifetime: Some(day()),
            },
            20,
            Ask::Create(asked(
                Some("c-9"),
                Change::Created { topic: Some(lunch()), public: true, history: Reach::All, lifetime: Some(day()) },
            )),
        ),
        frame(
            "create_any",
            Outgoing::Create {
                change: Changing { room: None, cid: Some("c-9"), ..change(20) },
                topic: None,
                public: false,
                history: Reach::Join,
                lifetime: None,
            },
            20,
            Ask::Create(ask::ChangeRoom {
                room: None,
                ..asked(
                    Some("c-9"),
                    Change::Created { topic: None, public: false, history: Reach::Join, lifetime: None },
                )
            }),
        ),
        frame("join", Outgoing::Join(change(12)), 12, Ask::Join(asked(None, Change::Joined))),
        frame("leave", Outgoing::Leave(change(12)), 12, Ask::Leave(asked(None, Change::Left))),
        frame(
            "invite",
            Outgoing::Invite { change: change(21), user: "bob" },
            21,
            Ask::Invite(asked(None, Change::Invited { user: bob() })),
        ),
        frame(
            "kick",
            Outgoing::Kick { change: change(22), user: "bob" },
            22,
            Ask::Kick(asked(None, Change::Kicked { user: bob() })),
        ),
        frame(
            "role",
            Outgoing::Role { change: change(23), user: "bob", role: Role::Moderator },
            23,
            Ask::Role(asked(None, Change::Role { user: bob(), role: Role::Moderator })),
        ),
        frame(
            "topic",
            Outgoing::Topic { change: change(24), topic: Some("lunch") },
            24,
            Ask::Topic(asked(None, Change::Topic { topic: Some(lunch()) })),
        ),
        frame(
            "topic_none",
            Outgoing::Topic { change: change(24), topic: None },
            24,
            Ask::Topic(asked(None, Change::Topic { topic: None })),
        ),
        frame(
            "lifetime",
            Outgoing::Lifetime { change: change(24), lifetime: Some(day()) },
            24,
            Ask::Lifetime(asked(None, Change::Lifetime { lifetime: Some(day()) })),
        ),
        frame(
            "lifetime_none",
            Outgoing::Lifetime { change: change(24), lifetime: None },
            24,
            Ask::Lifetime(asked(None, Change::Lifetime { lifetime: None })),
        ),
        frame(
            "room",
            Outgoing::Room { reference: Some(25), room: "lobby" },
            25,
            Ask::Room(ask::OneRoom { room: RoomId::new("lobby").unwrap() }),
        ),
        frame(
            "rooms",
            Outgoing::Rooms { reference: Some(26), after: Some("lobby"), limit: 30 },
            26,
            Ask::Rooms(ask::Rooms { after: Some(RoomId::new("lobby").unwrap()), limit: 30 }),
        ),
        frame(
            "readers",
            Outgoing::Readers { reference: Some(28), room: "lobby", seq: 7, after: Some("alice"), limit: 30 },
            28,
            Ask::Readers(ask::Readers {
                room: RoomId::new("lobby").unwrap(),
                seq: 7,
                after: Some(user("alice")),
                limit: 30,
            }),
        ),
        frame(
            "members",
            Outgoing::Members { reference: Some(27), room: "lobby", after: Some("alice"), limit: 30 },
            27,
            Ask::Members(ask::Members { room: RoomId::new("lobby").unwrap(), after: Some(user("alice")), limit: 30 }),
        ),
    ]
}

/// What a node answers of rooms.
fn room_answers() -> Vec<(&'static str, ServerFrame)> {
    let (lobby, conv) = (RoomId::new("lobby").unwrap(), ConvId::new("room:lobby").unwrap());
    let changed = ask::RoomChanged { reference: Some(20), room: lobby.clone(), conv: conv.clone(), seq: Some(3) };
    let mine = ask::RoomView {
        room: lobby.clone(),
        conv: conv.clone(),
        topic: Some("lunch".parse().unwrap()),
        public: false,
        history: Reach::Join,
        lifetime: Lifetime::try_from(86_400).ok(),
        created: 1_700_000_000_123,
        members: 3,
        role: Some(Role::Owner),
        invited: false,
        log: Some(ask::RoomLog {
            head: 9,
            ts: 1_700_000_000_123,
            read: 4,
            unread: 5,
            mentions: 1,
            last: Some(Box::new(Message { conv, ..message(9) })),
        }),
    };
    let invited = ask::RoomView { topic: None, lifetime: None, role: None, invited: true, log: None, ..mine.clone() };
    let member = ask::RoomMember { user: user("alice"), role: Some(Role::Owner), since: Some(1) };
    let guest = ask::RoomMember { user: user("bob"), role: None, since: None };
    vec![
        (
            "readers",
            ServerFrame::Readers(ask::ReadersPage {
                reference: Some(28),
                room: lobby.clone(),
                seq: 7,
                items: vec![ask::Reader { user: user("alice"), read: 9 }],
                next: Some(user("alice")),
            }),
        ),
        ("changed", ServerFrame::Changed(changed.clone())),
        ("changed_already", ServerFrame::Changed(ask::RoomChanged { seq: None, ..changed })),
        ("room", ServerFrame::Room(ask::RoomShown { reference: Some(25), view: mine.clone() })),
        (
            "rooms",
            ServerFrame::Rooms(ask::RoomsPage {
                reference: Some(26),
                items: vec![mine, invited],
                next: Some(lobby.clone()),
            }),
        ),
        (
            "members",
            ServerFrame::Members(ask::MembersPage {
                reference: Some(27),
                room: lobby,
                items: vec![member, guest],
                next: Some(user("bob")),
            }),
        ),
    ]
}

fn welcome() -> Welcome {
    Welcome {
        reference: None,
        user: user("alice"),
        device: DeviceId::new("laptop").unwrap(),
        session: serde_json::from_str::<SessionId>("\"00112233445566778899\"").unwrap(),
        new: false,
        node: "n1".into(),
        ts: 1_700_000_000_000,
        exp: 1_700_000_600_000,
        ping_secs: 25,
        limits: Limits { body: 65_536, window: 256 },
    }
}

fn sessions() -> ServerFrame {
    let device = DeviceId::new("laptop").unwrap();
    ServerFrame::Sessions(ask::SessionsPage {
        reference: Some(14),
        devices: vec![ask::SeenDevice { device: device.clone(), seen: 1_700_000_000_000 }],
        sessions: vec![ask::LiveSession {
            session: SessionId::named("00112233445566778899"),
            device,
            node: "n1".into(),
            since: 1_700_000_000_000,
        }],
    })
}

fn conversations() -> ServerFrame {
    let row = ask::Conversation {
        conv: conv(),
        head: 9,
        ts: 1_700_000_000_123,
        read: 4,
        unread: 5,
        mentions: 2,
        last: Some(message(9)),
        peer: Some(ask::PeerMarks { delivered: 8, read: 7 }),
    };
    let bare = ask::Conversation { conv: ConvId::new("room:lobby").unwrap(), last: None, peer: None, ..row.clone() };
    ServerFrame::Conversations(ask::ConversationsPage {
        reference: Some(9),
        items: vec![row, bare],
        next: Some("opaque".into()),
    })
}

fn event(seq: u64) -> Message {
    let change = Change::Kicked { user: user("bob") };
    let conv = ConvId::new("room:lobby").unwrap();
    Message { conv, kind: Kind::Event, body: Some(change.to_body()), ..message(seq) }
}

/// Rows about messages, and messages of which something was made.
fn kinds() -> Vec<(&'static str, ServerFrame)> {
    let about = |kind, body| Message { kind, body: Some(body), re: Some(3), ..message(8) };
    let reacting = Reacting { reaction: "👍".parse().unwrap(), set: true };
    let reacted = Reacted { reaction: "👍".parse().unwrap(), count: 70, who: vec![user("alice"), user("bob")] };
    let folded = Message { edited: Some(1_700_000_000_456), reactions: vec![reacted], ..message(3) };
    let deleted = Message { body: None, deleted: Some(user("bob")), ..message(4) };
    let refers = Message {
        reply_to: Some(3),
        mentions: vec![user("bob"), user("carol")],
        expires: Some(1_700_000_060_123),
        ..message(9)
    };
    let expired = Message { body: None, expired: true, ..refers.clone() };
    let folded_page = ServerFrame::History(ask::HistoryPage {
        reference: Some(8),
        conv: conv(),
        messages: vec![folded, deleted, expired.clone()],
        more: false,
        next: None,
    });
    vec![
        ("message_edit", ServerFrame::Message(about(Kind::Edit, Body::text("hallo")))),
        ("message_delete", ServerFrame::Message(about(Kind::Delete, Body::null()))),
        ("message_reaction", ServerFrame::Message(about(Kind::Reaction, reacting.to_body()))),
        ("message_refers", ServerFrame::Message(refers)),
        ("message_expired", ServerFrame::Message(expired)),
        ("history_folded", folded_page),
    ]
}

fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    let receipt = Receipt { conv: conv(), user: user("bob"), delivered: Some(4), read: Some(3) };
    let signal = Signal { conv: Some(conv()), from: user("bob"), kind: "typing".into(), body: Some(Body::text("x")) };
    let refused = |code: ErrorCode| ServerFrame::Error {
        reference: Some(7),
        code,
        message: "body: over the limit".into(),
        retry: code.retry(),
        retry_after_ms: (code == ErrorCode::RateLimited).then_some(250),
    };
    let history = ServerFrame::History(ask::HistoryPage {
        reference: Some(8),
        conv: conv(),
        messages: vec![message(1), message(2)],
        more: true,
        next: Some(1),
    });
    let mut frames = vec![
        ("welcome", ServerFrame::Welcome(welcome())),
        ("welcome_new", ServerFrame::Welcome(Welcome { new: true, ..welcome() })),
        ("sent", ServerFrame::Sent(ask::Sent { reference: Some(7), conv: conv(), seq: 5, ts: 1_700_000_000_123 })),
        ("message", ServerFrame::Message(message(5))),
        ("message_rich", ServerFrame::Message(Message { cid: None, body: Some(rich_body()), ..message(6) })),
        ("message_event", ServerFrame::Message(event(7))),
        ("member", ServerFrame::Member(event(7))),
        ("history", history),
        ("conversations", conversations()),
        ("sessions", sessions()),
        (
            "ended",
            ServerFrame::Ended(ask::Ended {
                reference: Some(15),
                sessions: vec![SessionId::named("00112233445566778899")],
            }),
        ),
        ("receipt", ServerFrame::Receipt(receipt.clone())),
        ("receipt_delivered", ServerFrame::Receipt(Receipt { read: None, ..receipt })),
        ("signal", ServerFrame::Signal(signal.clone())),
        ("signal_bare", ServerFrame::Signal(Signal { conv: None, body: None, ..signal })),
        ("caught_up", ServerFrame::CaughtUp { since: None }),
        ("caught_up_since", ServerFrame::CaughtUp { since: Some("00112233445566778899aabbccddeeff".into()) }),
        ("truncated", ServerFrame::Truncated { conv: conv(), from: 901 }),
        ("goodbye", ServerFrame::Goodbye { reason: "drain".into(), reconnect_ms: 1500 }),
        ("pong", ServerFrame::Pong { reference: Some(13) }),
        ("token_ok", ServerFrame::TokenOk { reference: Some(10), exp: 1_700_000_600_000 }),
    ];
    frames.extend(kinds());
    frames.extend(room_answers());
    frames.extend(people_frames());
    frames.extend(ErrorCode::ALL.iter().map(|code| (code.word(), refused(*code))));
    frames
}

/// One golden file: its name below `tests/golden`, and the bytes it must contain.
struct Golden {
    name: String,
    bytes: Bytes,
}

fn goldens() -> Vec<(Golden, Golden, String)> {
    let mut all = Vec::new();
    let mut add = |name: String, json: Bytes, msgpack: Bytes, fault: Option<String>| {
        let (a, b) = (format!("{name}.json"), format!("{name}.msgpack.hex"));
        let fault = fault.unwrap_or_default();
        all.push((Golden { name: a, bytes: json }, Golden { name: b, bytes: msgpack }, fault));
    };
    for (name, out, wanted) in client_frames() {
        let (json, msgpack) = (Encoding::Json.encode(&out), Encoding::MsgPack.encode(&out));
        let fault =
            [(Encoding::Json, &json), (Encoding::MsgPack, &msgpack)].into_iter().find_map(|(encoding, bytes)| {
                let got = Request::decode(encoding, bytes);
                (got.as_ref() != Ok(&wanted)).then(|| format!("{encoding:?}: read as {got:?}"))
            });
        add(format!("client/{name}"), json, msgpack, fault);
    }
    for (name, frame) in server_frames() {
        let folder = if matches!(frame, ServerFrame::Error { .. }) { "server/error" } else { "server" };
        let (json, msgpack) = (Encoding::Json.encode(&frame), Encoding::MsgPack.encode(&frame));
        let fault =
            [(Encoding::Json, &json), (Encoding::MsgPack, &msgpack)].into_iter().find_map(|(encoding, bytes)| {
                let (fast, slow) = (ServerFrame::decode(encoding, bytes), encoding.decode::<ServerFrame>(bytes));
                let same = fast.as_ref() == Ok(&frame) && slow.as_ref() == Ok(&frame);
                (!same).then(|| format!("{encoding:?}: read as {fast:?} (fast), {slow:?} (slow)"))
            });
        add(format!("{folder}/{name}"), json, msgpack, fault);
    }
    all
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, row| {
        for byte in row {
            let _ = write!(text, "{byte:02x}");
        }
        text + "\n"
    })
}

/// A golden file as stored on disk: JSON as it is, MessagePack as rows of hex for the reviewer's sake.
fn written(golden: &Golden) -> String {
    if golden.name.ends_with(".hex") {
        hex(&golden.bytes)
    } else {
        format!("{}\n", String::from_utf8_lossy(&golden.bytes))
    }
}

#[test]
fn frames_are_as_in_the_golden_files() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = Vec::new();
    for (json, msgpack, fault) in goldens() {
        if !fault.is_empty() {
            differences.push(format!("{}: {fault}", json.name));
        }
        for golden in [json, msgpack] {
            let (path, wanted) = (folder().join(&golden.name), written(&golden));
            if update {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &wanted).unwrap();
            }
            let found = fs::read_to_string(&path).unwrap_or_else(|error| format!("({error})\n"));
            if found != wanted {
                differences.push(format!("{}\n  in the file: {found}  written now: {wanted}", golden.name));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// The file of a frame that was removed from the protocol must not stay behind.
#[test]
fn every_golden_file_belongs_to_a_frame() {
    let names: Vec<String> = goldens().into_iter().flat_map(|(a, b, _)| [a.name, b.name]).collect();
    for sub in ["client", "server", "server/error"] {
        for entry in fs::read_dir(folder().join(sub)).unwrap().flatten() {
            let name = format!("{sub}/{}", entry.file_name().to_string_lossy());
            assert!(entry.path().is_dir() || names.contains(&name), "{name} belongs to no frame");
        }
    }
}

/// Turning a MessagePack frame into JSON, as a node does for its JSON clients, gives the golden JSON.
#[test]
fn transcoding_gives_the_same_json() {
    for (json, msgpack, _) in goldens() {
        let made = natter::protocol::json_of(&msgpack.bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&made), String::from_utf8_lossy(&json.bytes), "{}", msgpack.name);
    }
}

/// Unknown fields are for later versions, and the order of fields means nothing.
#[test]
fn readers_ignore_what_they_do_not_know() {
    let text = r#"{"zzz":{"deep":[1]},"seq":5,"conv":"dm:alice:bob","op":"ack","ref":null}"#;
    let request = Request::decode(Encoding::Json, text.as_bytes()).unwrap();
    assert_eq!(request, Request { reference: None, frame: ClientFrame::Ack { conv: conv(), seq: 5 } });
    let text = r#"{"body":"hello","zzz":1,"ts":1700000000123,"cid":"c-1","from":"alice","seq":5,"conv":"dm:alice:bob","op":"message"}"#;
    assert_eq!(ServerFrame::decode(Encoding::Json, text.as_bytes()), Ok(ServerFrame::Message(message(5))));
    assert!(ServerFrame::decode(Encoding::Json, br#"{"op":"later"}"#).is_err());
}
