//! The fields of requests as the description of the API shows them: what each holds, what it is for, and an example of each
//! op. Called by [`super::spec`].

use serde_json::{Value, json};
use utoipa::openapi::{
    Ref, RefOr,
    schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type},
};

use crate::{
    model::{MAX_NAME, MAX_SEQ, Refs},
    protocol::{
        Op,
        ask::{HISTORY_LIMIT, MINT_TTL, PRESENCE_LIMIT, ROOMS_LIMIT, SEND_MANY_LIMIT},
    },
};

/// What an op's field holds.
pub(super) fn schema_of(op: Op, field: &str) -> RefOr<Schema> {
    let about = about_field(op, field);
    let named = |schema: &str| {
        let mut named = Ref::from_schema_name(schema);
        about.clone_into(&mut named.description);
        RefOr::Ref(named)
    };
    let object = |kind: Type| ObjectBuilder::new().schema_type(kind).description(Some(about));
    let text = |pattern: &str, most| {
        let text = object(Type::String).pattern(Some(pattern)).min_length(Some(1)).max_length(Some(most));
        RefOr::T(Schema::Object(text.build()))
    };
    let number = |least: u64, most: u64| {
        // Exact: both are below 2^53.
        let number = object(Type::Integer).minimum(Some(least as f64)).maximum(Some(most as f64));
        RefOr::T(Schema::Object(number.build()))
    };
    let users = |least, most| {
        let users = ArrayBuilder::new().items(Ref::from_schema_name("UserId")).description(Some(about));
        let users = users.min_items(Some(least)).max_items(Some(most)).unique_items(true);
        RefOr::T(Schema::Array(users.build()))
    };
    match field {
        "to" => text("^[@#][A-Za-z0-9_-]{1,64}$", MAX_NAME + 1),
        "users" if op == Op::Presence => users(1, PRESENCE_LIMIT),
        "users" => users(1, SEND_MANY_LIMIT),
        "mentions" => users(0, Refs::MENTIONS),
        "cid" => named("Cid"),
        "conv" => named("ConvId"),
        "room" => named("RoomId"),
        "user" | "from" => named("UserId"),
        "device" => named("DeviceId"),
        "session" => named("SessionId"),
        "body" => named("Body"),
        "reaction" => named("Reaction"),
        "topic" => named("Topic"),
        "expires" | "lifetime" => named("Lifetime"),
        "role" => named("Role"),
        "history" => named("Reach"),
        "type" => text("^[A-Za-z0-9_-]{1,64}$", MAX_NAME),
        "raw" | "public" => RefOr::T(Schema::Object(object(Type::Boolean).build())),
        "ttl" => number(MINT_TTL.0, MINT_TTL.1),
        "limit" => number(1, if op == Op::History { HISTORY_LIMIT } else { ROOMS_LIMIT } as u64),
        "reply_to" => number(1, MAX_SEQ),
        "after" if op == Op::History => number(0, MAX_SEQ),
        "after" if op == Op::Conversations => text("^[^\\u0000-\\u001f]+$", 4 * MAX_NAME),
        "after" => text("^[A-Za-z0-9_-]{1,64}$", MAX_NAME),
        "re" | "seq" | "before" | "around" => number(0, MAX_SEQ),
        _ => RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build())),
    }
}

fn about_field(op: Op, field: &str) -> &'static str {
    match field {
        "from" => "The user for whom it is done. Only users whom the configuration lets the service act for.",
        "to" => "`@user` or `#room`.",
        "users" if op == Op::SendMany => "To whom, each once.",
        "users" => "Whom it is about.",
        "mentions" => "Whom the message mentions, each once.",
        "cid" => "Your id for it: the same one again does it once. It may stand in `Idempotency-Key` instead.",
        "conv" => "Which conversation.",
        "room" if op == Op::Create => "The room's name; without one it gets any.",
        "room" => "Which room.",
        "user" => "Whom it is about.",
        "device" => "All sessions of this device, which is forgotten.",
        "session" => "This one.",
        "body" if op == Op::Signal => "Anything, at most `limits.signal_bytes`.",
        "body" => "The content: anything, at most `limits.body_bytes`.",
        "reaction" => "With what.",
        "topic" => "What the room is about; without it, nothing.",
        "expires" => "For so many seconds the body is shown.",
        "lifetime" => "For so many seconds each message of the room is shown; without it, for ever.",
        "role" => "What they may do.",
        "history" => "Which part of the log members may read: from their join on, or all of it.",
        "public" => "Everybody may join.",
        "type" => "What it says, such as `typing`.",
        "ttl" => "For so many seconds the token is valid; an hour if missing.",
        "raw" => "The log as it is, instead of edits, deletions and reactions in the messages that they are about.",
        "limit" => "At most so many; 50 if missing.",
        "reply_to" => "The seq of the message that it replies to.",
        "re" => "The seq of the message that it is about.",
        "seq" => "Up to this seq.",
        "before" => "The last messages before this seq. Give one of `before`, `after` and `around`, or none.",
        "around" => "Half of them before this seq, half from it on.",
        "after" if op == Op::History => "The first messages after this seq.",
        "after" => "The `next` of the page before.",
        _ => "",
    }
}

/// What is worth knowing of an op beyond its one sentence.
pub(super) fn about_op(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Send => "Answered once the message is durable. Without `from` it is from the service itself.",
        Op::SendMany => {
            "Each message by the rules of a single one, with an answer of its own in the order of the request. Sent again \
             with the same cid, those that were stored are answered with their place."
        }
        Op::Mint => {
            "For the user in `from`, whom you have signed in. Only services with `services.<name>.mints_tokens`, and only where \
             the nodes have a secret to sign with: otherwise tokens come from your identity provider."
        }
        Op::Erase => {
            "The user in `from`: all that the user has said is shown as deleted from then on, and cannot be brought back. Devices are \
             forgotten, sessions end. Only services with `services.<name>.erases_users`, and only where `sealing.on` is set."
        }
        Op::Signal => "Reaches whoever is connected now. That it was passed on does not say that anybody was there.",
        Op::EndSession => "Give `session` or `device`.",
        Op::Presence => "Those of whom the user may not know it are in `refused`.",
        Op::Edit | Op::Delete | Op::React | Op::Unreact => "Stored and delivered like a message, about another one.",
        _ => return None,
    })
}

/// A request that one may begin with.
pub(super) fn example(op: Op) -> Value {
    match op {
        Op::Send => json!({"to": "@bob", "cid": "order-42", "body": {"text": "paid"}}),
        Op::SendMany => json!({"users": ["bob", "carol"], "cid": "notice-7", "body": {"text": "we close at six"}}),
        Op::Mint => json!({"ttl": 3_600, "from": "alice"}),
        Op::Erase => json!({"from": "alice"}),
        Op::Edit => json!({"conv": "dm:billing:bob", "re": 1, "cid": "order-42-2", "body": {"text": "paid, thanks"}}),
        Op::Delete => json!({"conv": "dm:billing:bob", "re": 1, "cid": "order-42-3"}),
        Op::React | Op::Unreact => json!({"conv": "dm:billing:bob", "re": 1, "cid": "order-42-4", "reaction": "👍"}),
        Op::Read => json!({"conv": "dm:alice:bob", "seq": 1, "from": "alice"}),
        Op::History => json!({"conv": "dm:billing:bob", "limit": 20}),
        Op::Conversations | Op::Rooms | Op::Blocks => json!({"limit": 20, "from": "alice"}),
        Op::Sessions => json!({"from": "alice"}),
        Op::EndSession => json!({"device": "laptop", "from": "alice"}),
        Op::Signal => json!({"to": "@bob", "type": "typing"}),
        Op::Presence => json!({"users": ["bob"], "from": "alice"}),
        Op::Create => json!({"room": "lobby", "topic": "lunch", "public": true, "cid": "lobby-1", "from": "alice"}),
        Op::Join | Op::Leave | Op::Room => json!({"room": "lobby", "from": "alice"}),
        Op::Invite | Op::Kick => json!({"room": "lobby", "user": "bob", "from": "alice"}),
        Op::Role => json!({"room": "lobby", "user": "bob", "role": "moderator", "from": "alice"}),
        Op::Topic => json!({"room": "lobby", "topic": "dinner", "from": "alice"}),
        Op::Lifetime => json!({"room": "lobby", "lifetime": 86_400, "from": "alice"}),
        Op::Members => json!({"room": "lobby", "limit": 20, "from": "alice"}),
        Op::Block | Op::Unblock => json!({"user": "bob", "from": "alice"}),
        Op::Readers => json!({"room": "lobby", "seq": 1, "from": "alice"}),
        Op::Hello | Op::Ack | Op::Token | Op::Ping => json!({}),
    }
}
