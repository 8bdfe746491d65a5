//! What natter says and hears without being asked over HTTP, as AsyncAPI 3: the frames of WebSockets, the events for services,
//! and what a service is asked about messages. And the JSON Schema of each event, which `docs/schemas` holds. Made of the
//! tables and types that the code itself uses. `GET /v1/asyncapi.json`.

#[cfg(test)]
use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{
    fields::schema_of,
    spec::{as_json, tidy},
};
use crate::{
    protocol::{
        Message, Op, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, ServerFrame,
        event::{self, EventKind},
        hook::{Decision, Question},
    },
    subject::Subject,
};

/// The types that are described; what they are made of comes along.
#[derive(OpenApi)]
#[openapi(components(schemas(
    ServerFrame,
    Message,
    event::Offline,
    event::RoomMessage,
    event::Presence,
    event::Session,
    event::Room,
    event::Delivered,
    Question,
    Decision,
    crate::model::Cid,
    crate::model::ConvId,
    crate::model::DeviceId,
    crate::model::Reaction,
    crate::model::RoomId,
    crate::model::SessionId,
    crate::model::room::Lifetime,
    crate::model::room::Reach,
    crate::model::room::Role,
    crate::model::room::Topic
)))]
struct Described;

/// Written once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// `GET /v1/asyncapi.json`.
pub(super) async fn show() -> impl IntoResponse {
    as_json(DOCUMENT.clone())
}

/// What every event has, besides what it tells.
const ENVELOPE: [&str; 5] = ["v", "event", "id", "node", "at"];

fn schemas() -> Map<String, Value> {
    // Whatever cannot be written would have no test pass.
    let mut api = serde_json::to_value(Described::openapi()).unwrap_or_default();
    tidy(&mut api);
    match api["components"]["schemas"].take() {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

fn document() -> Value {
    let mut schemas = schemas();
    let (mut messages, mut channels, mut operations) = (Map::new(), Map::new(), Map::new());
    let mut socket = Map::new();
    let mut add = |name: String, summary: &str, payload: Value| {
        let message = json!({"name": name, "summary": summary, "contentType": "application/json", "payload": payload});
        messages.insert(name.clone(), message);
        json!({"$ref": format!("#/components/messages/{name}")})
    };
    let (mut heard, mut said) = (Vec::new(), Vec::new());
    for op in Op::ALL.iter().copied().filter(|op| op.is_for_clients()) {
        let name = format!("client_{}", op.word());
        let message = add(name.clone(), op.about(), client_frame(op));
        heard.push(json!({"$ref": format!("#/channels/socket/messages/{name}")}));
        socket.insert(name, message);
    }
    for (word, schema) in server_frames(&mut schemas) {
        let name = format!("server_{word}");
        let about = schema["description"].as_str().unwrap_or_default().to_owned();
        let message = add(name.clone(), &about, schema);
        said.push(json!({"$ref": format!("#/channels/socket/messages/{name}")}));
        socket.insert(name, message);
    }
    let subprotocols =
        format!("Subprotocols `{SUBPROTOCOL_JSON}` and `{SUBPROTOCOL_MSGPACK}`, the same fields in both.");
    channels.insert("socket".into(), json!({"address": "/v1/ws", "description": subprotocols, "messages": socket}));
    let channel = json!({"$ref": "#/channels/socket"});
    operations.insert("hear_clients".into(), json!({"action": "receive", "channel": channel, "messages": heard}));
    operations.insert("tell_clients".into(), json!({"action": "send", "channel": channel, "messages": said}));
    for kind in EventKind::ALL.iter().copied() {
        let name = format!("event_{}", kind.word());
        let message = add(name.clone(), kind.about(), event_payload(kind, &schemas));
        let address = match kind {
            EventKind::Message => Subject::FEED_ADDRESS.to_owned(),
            kind => Subject::event(kind.word()).to_string(),
        };
        let mut channel = json!({"address": address, "description": kind.about(), "messages": {"event": message}});
        if kind == EventKind::Message {
            channel["parameters"] = json!({"service": {"description": "A service with `feed = true`."}});
        }
        channels.insert(name.clone(), channel);
        let to = json!({"$ref": format!("#/channels/{name}")});
        operations.insert(format!("tell_{}", kind.word()), json!({"action": "send", "channel": to}));
    }
    let named = |schema: &str| json!({"$ref": format!("#/components/schemas/{schema}")});
    let question = add("hook_question".into(), "A message is about to be stored.", named("Question"));
    let decision = add("hook_decision".into(), "What becomes of it.", named("Decision"));
    channels.insert(
        "hook".into(),
        json!({"address": Subject::HOOK_ADDRESS, "description": "Where the service of `hook.service` is asked.",
               "parameters": {"service": {"description": "Its name."}}, "messages": {"question": question}}),
    );
    channels.insert(
        "hook_reply".into(),
        json!({"address": null, "description": "The reply subject of the question.", "messages": {"decision": decision}}),
    );
    operations.insert(
        "ask_before_storing".into(),
        json!({"action": "send", "channel": {"$ref": "#/channels/hook"},
               "reply": {"channel": {"$ref": "#/channels/hook_reply"}}}),
    );
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "natter",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The frames of WebSockets, the events for services, and what a service is asked before messages \
                            are stored. `send` is what natter says, `receive` what it hears.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

/// A frame as a client writes it. Fields that are not here are passed over.
fn client_frame(op: Op) -> Value {
    let mut properties = Map::from_iter([
        ("op".to_owned(), json!({"const": op.word()})),
        ("ref".to_owned(), json!({"type": "integer", "minimum": 0, "description": "Comes back in the answer."})),
    ]);
    let mut required = vec!["op"];
    for field in op.takes().unwrap_or_default() {
        let mut schema = serde_json::to_value(schema_of(op, field.name)).unwrap_or_default();
        if matches!((op, field.name), (Op::Topic, "topic") | (Op::Lifetime, "lifetime")) {
            // None is said, too.
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        properties.insert(field.name.into(), schema);
        required.extend(field.required.then_some(field.name));
    }
    let mut own = |name: &'static str, schema: Value, is_required: bool| {
        properties.insert(name.into(), schema);
        required.extend(is_required.then_some(name));
    };
    let named = |schema: &str| json!({"$ref": format!("#/components/schemas/{schema}")});
    match op {
        Op::Hello => {
            own("token", json!({"type": "string", "description": "Where it is not in the request's header."}), false);
            own("device", named("DeviceId"), true);
            own("client", json!({"type": "string", "description": "Which program, for people."}), false);
            own("attempt", json!({"type": "integer", "minimum": 0}), false);
            own("since", json!({"type": "string", "description": "From the last `caught_up` of this device."}), false);
        }
        Op::Ack => {
            own("conv", named("ConvId"), true);
            own("seq", json!({"type": "integer", "minimum": 0}), true);
        }
        Op::Token => own("token", json!({"type": "string"}), true),
        Op::Presence => own("watch", json!({"type": "boolean"}), false),
        _ => {}
    }
    let mut frame = json!({"type": "object", "properties": properties, "required": required});
    tidy(&mut frame);
    frame
}

/// Every frame of a node by its word: the ways of the one type that they are in code.
fn server_frames(schemas: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let Some(Value::Array(ways)) = schemas.remove("ServerFrame").map(|mut frame| frame["oneOf"].take()) else {
        return Vec::new();
    };
    let word = |way: &Value| {
        let parts = way["allOf"].as_array().cloned().unwrap_or_else(|| vec![way.clone()]);
        let found = parts.iter().find_map(|part| part["properties"]["op"]["enum"][0].as_str().map(str::to_owned));
        found.unwrap_or_default()
    };
    ways.into_iter().map(|way| (word(&way), way)).collect()
}

/// The name of the type of what an event tells.
fn type_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Offline => "Offline",
        EventKind::RoomMessage => "RoomMessage",
        EventKind::Presence => "Presence",
        EventKind::Session => "Session",
        EventKind::Room => "Room",
        EventKind::Delivered => "Delivered",
        EventKind::Message => "Message",
    }
}

/// An event whole: what every event has, and what it tells.
fn event_payload(kind: EventKind, schemas: &Map<String, Value>) -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let mut properties = Map::from_iter([
        ("v".to_owned(), json!({"const": event::VERSION, "description": "The version of the format."})),
        ("event".to_owned(), json!({"const": kind.word()})),
        ("id".to_owned(), text("The same for the same happening, where it has a place in a log or a session.")),
        ("node".to_owned(), text("The node that tells it.")),
        ("at".to_owned(), json!({"type": "integer", "description": "When, in milliseconds, by that node's clock."})),
    ]);
    let told = schemas.get(type_of(kind)).cloned().unwrap_or_default();
    properties.extend(told["properties"].as_object().cloned().unwrap_or_default());
    let of_all = ENVELOPE.iter().map(|name| json!(name));
    let required: Vec<_> = of_all.chain(told["required"].as_array().cloned().unwrap_or_default()).collect();
    json!({"type": "object", "description": kind.about(), "properties": properties, "required": required})
}

/// The JSON Schema of an event, alone in its file.
#[cfg(test)]
fn event_schema(kind: EventKind) -> Value {
    let all = schemas();
    let mut schema = event_payload(kind, &all);
    let mut definitions = Map::new();
    let mut open = names(&schema);
    while let Some(name) = open.pop_first() {
        if !definitions.contains_key(&name) {
            let definition = all.get(&name).cloned().unwrap_or_default();
            open.extend(names(&definition));
            definitions.insert(name, definition);
        }
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["$id"] = format!("urn:natter:event:{}:{}", kind.word(), event::VERSION).into();
    schema["title"] = Subject::event(kind.word()).to_string().into();
    schema["$defs"] = definitions.into();
    serde_json::from_str(&schema.to_string().replace("#/components/schemas/", "#/$defs/")).unwrap_or_default()
}

/// The schemas that a value names.
#[cfg(test)]
fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/components/schemas/"));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(names)).collect()
        }
        Value::Array(items) => items.iter().flat_map(names).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The files are what the code says; `UPDATE_GOLDEN=1` writes them again.
    #[test]
    fn the_files_are_what_the_code_says() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let mut files = vec![("asyncapi.json".to_owned(), document())];
        let name = |kind: &EventKind| format!("schemas/{}.v{}.json", kind.word(), event::VERSION);
        files.extend(EventKind::ALL.iter().map(|kind| (name(kind), event_schema(*kind))));
        for (name, wanted) in files {
            let (path, wanted) = (docs.join(&name), format!("{wanted:#}\n"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &wanted).unwrap();
            }
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "docs/{name} is not what the code says: run this with UPDATE_GOLDEN=1");
        }
    }

    #[test]
    fn what_is_named_is_there_and_nothing_is_missing() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in names(&document) {
            assert!(schemas.contains_key(&name), "{name} is not described");
        }
        let messages = document["components"]["messages"].as_object().unwrap();
        for op in Op::ALL.iter().filter(|op| op.is_for_clients()) {
            assert!(messages.contains_key(&format!("client_{}", op.word())), "{op:?} is missing");
        }
        for kind in EventKind::ALL {
            let told = schemas[type_of(*kind)]["properties"].as_object().unwrap();
            assert!(!told.is_empty() && ENVELOPE.iter().all(|of_all| !told.contains_key(*of_all)), "{kind:?}");
        }
        assert!(messages.len() > 60 && !messages.contains_key("server_"), "{:?}", messages.keys());
    }
}
