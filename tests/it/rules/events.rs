//! One event of each kind as it is published, and the schemas that are handed out: the golden files, held to the JSON Schemas
//! in `docs/schemas` and, with the golden frames, to `docs/asyncapi.json`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use natter::{
    model::{Cid, ConvId, DeviceId, Kind, NewMessage, RoomId, SessionId, UserId, room::Change},
    protocol::{
        Body, Encoding, Message, Op,
        event::{Delivered, Event, EventKind, Offline, Presence, Room, RoomMessage, Session, VERSION, What},
        hook::{Decision, Question},
    },
};
use serde_json::{Value, json};

use crate::harness::{listing::root, python::python_with, skip::skip};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn conv(name: &str) -> ConvId {
    ConvId::new(name).unwrap()
}

fn cid() -> Cid {
    Cid::new("c1").unwrap()
}

fn message() -> Message {
    let body: Body = serde_json::from_value(json!({"text": "hi"})).unwrap();
    let message = Message::new(conv("dm:alice:bob"), 7, user("alice"), 1_700_000_000_000, body);
    Message { cid: Some(cid()), mentions: vec![user("bob")], ..message }
}

/// Every kind, those that differ in what they leave out more than once.
fn examples() -> Vec<(&'static str, What)> {
    let direct = conv("dm:alice:bob");
    let (phone, session) = (DeviceId::new("phone").unwrap(), SessionId::named("00112233445566778899"));
    let offline = Offline {
        user: user("bob"),
        from: user("alice"),
        conv: direct.clone(),
        seq: 7,
        mention: true,
        unread: Some(3),
    };
    let started = Session { user: user("bob"), device: phone.clone(), session, started: true, reason: None };
    let kicked = Change::Kicked { user: user("bob") };
    let lobby = conv("room:lobby");
    let room =
        Room { room: RoomId::new("lobby").unwrap(), conv: lobby.clone(), seq: 9, by: user("alice"), change: kicked };
    vec![
        ("offline", What::Offline(offline.clone())),
        ("offline_uncounted", What::Offline(Offline { unread: None, mention: false, ..offline })),
        ("room_message", What::RoomMessage(RoomMessage { conv: lobby, from: user("alice"), seq: 12, members: 2_000 })),
        ("presence", What::Presence(Presence { user: user("bob"), online: true, since: 1_700_000_000_000 })),
        ("session", What::Session(started.clone())),
        ("session_ended", What::Session(Session { started: false, reason: Some("gone".into()), ..started })),
        ("room", What::Room(room)),
        ("delivered", What::Delivered(Delivered { user: user("bob"), device: phone, conv: direct, seq: 7 })),
        ("message", What::Message(message())),
        ("message_edit", What::Message(Message { kind: Kind::Edit, re: Some(3), ..message() })),
    ]
}

fn written(what: What) -> String {
    let event = Event { id: "the-id".into(), ..Event::new("n1", 1_700_000_000_123, what) };
    format!("{}\n", String::from_utf8_lossy(&Encoding::Json.encode(&event)))
}

fn folder() -> PathBuf {
    root().join("tests/golden/event")
}

#[test]
fn events_are_as_in_the_golden_files() {
    let examples = examples();
    for kind in EventKind::ALL {
        assert!(examples.iter().any(|(_, what)| what.kind() == *kind), "{kind:?} has no golden file");
    }
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, what) in &examples {
        let (path, wanted) = (folder().join(format!("{name}.json")), written(what.clone()));
        if update {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, &wanted).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), wanted, "{name}");
        let read: Event = serde_json::from_str(&wanted).unwrap();
        assert_eq!((read.v, &read.what), (VERSION, what), "{name}");
    }
    for entry in fs::read_dir(folder()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = examples.iter().any(|(example, _)| name == format!("{example}.json"));
        assert!(known, "{name} belongs to no event");
    }
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap()
}

/// Examples of one schema: those that keep to it, and those that must not.
struct Check {
    name: String,
    schema: Value,
    good: Vec<Value>,
    bad: Vec<Value>,
}

/// Has the examples judged by the reference implementation of JSON Schema for Python.
fn judge(checks: Vec<Check>) {
    let python = match python_with("jsonschema", "jsonschema>=4,<5") {
        Ok(python) => python,
        Err(reason) => return skip("the examples against their JSON Schemas", &reason),
    };
    let asked = checks
        .into_iter()
        .map(|Check { name, schema, good, bad }| json!({"name": name, "schema": schema, "good": good, "bad": bad}));
    let asked = Value::from_iter(asked).to_string();
    let script = Path::new("tests/it/rules/schemas.py");
    let mut judge =
        Command::new(python).arg(root().join(script)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    judge.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().ends_with("all good"), "{said}");
}

/// An event, without each of what it must have, and with something else in its place.
fn spoilt(event: &Value) -> Vec<Value> {
    let mut bad = Vec::new();
    for field in ["v", "event", "id", "node", "at", "conv", "user", "seq"] {
        let Some(found) = event.get(field) else { continue };
        let (mut without, mut other) = (event.clone(), event.clone());
        without.as_object_mut().unwrap().remove(field);
        other[field] = if found.is_string() { json!(7) } else { json!("x") };
        bad.extend([without, other]);
    }
    bad
}

#[test]
fn golden_events_keep_to_their_schemas_and_others_do_not() {
    let checks = examples().into_iter().map(|(name, what)| {
        let schema = read(&format!("docs/schemas/{}.v{VERSION}.json", what.kind().word()));
        let event: Value = serde_json::from_str(&written(what)).unwrap();
        Check { name: name.to_owned(), schema, bad: spoilt(&event), good: vec![event] }
    });
    judge(checks.collect());
}

/// A message of the AsyncAPI document as a schema of its own.
fn described(document: &Value, name: &str) -> Value {
    assert!(document["components"]["messages"].get(name).is_some(), "{name} is not described");
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/messages/{name}/payload"),
        "components": document["components"],
    })
}

/// The golden files, each with the message of the AsyncAPI document that describes it.
fn golden(document: &Value) -> Vec<Check> {
    let mut found = Vec::new();
    for (folder, side, tag) in [
        ("client", "client", "op"),
        ("server", "server", "op"),
        ("server/error", "server", "op"),
        ("event", "event", "event"),
    ] {
        for entry in fs::read_dir(root().join("tests/golden").join(folder)).unwrap().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if !file.ends_with(".json") {
                continue;
            }
            let example: Value = serde_json::from_str(&fs::read_to_string(entry.path()).unwrap()).unwrap();
            let name = format!("{side}_{}", example[tag].as_str().unwrap());
            let mut other = example.clone();
            other[tag] = json!("other");
            found.push(Check { schema: described(document, &name), name, good: vec![example], bad: vec![other] });
        }
    }
    found
}

/// Every golden frame is described, and every op and event that is described has a golden file.
#[test]
fn golden_frames_and_events_are_in_the_asyncapi_document() {
    let document = read("docs/asyncapi.json");
    let checks = golden(&document);
    let seen: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    let messages = document["components"]["messages"].as_object().unwrap();
    let missing: Vec<_> =
        messages.keys().filter(|name| !name.starts_with("hook_") && !seen.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "described, but without a golden file: {missing:?}");
    for op in Op::ALL.iter().filter(|op| op.is_for_clients()) {
        assert!(seen.contains(&format!("client_{}", op.word()).as_str()), "{op:?}");
    }
    judge(checks);
}

#[test]
fn what_a_service_is_asked_and_answers_is_described() {
    let document = read("docs/asyncapi.json");
    let mut message = NewMessage::of_user(user("alice"), cid(), 1, Body::text("hi"));
    message.kind = Kind::Edit;
    let question = serde_json::to_value(Question::of(&conv("dm:alice:bob"), &message)).unwrap();
    let decisions = [
        Decision { allow: true, message: None, body: Some(Body::text("x")) },
        Decision { allow: false, message: Some("no".into()), body: None },
    ];
    let decisions = decisions.map(|decision| serde_json::to_value(decision).unwrap());
    let check = |name: &str, good: Vec<Value>| {
        let (name, schema) = (name.to_owned(), described(&document, name));
        Check { name, schema, good, bad: vec![json!({}), json!("yes")] }
    };
    judge(vec![check("hook_question", vec![question]), check("hook_decision", decisions.into())]);
}
