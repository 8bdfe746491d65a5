//! The description of the API, OpenAPI 3.1, made of the table of ops, of what each takes, of the types of the answers, and of
//! the table of codes. `GET /v1/openapi.json`; the page `/v1/docs` shows it.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    http::{HeaderValue, header},
    response::IntoResponse,
};
use bytes::Bytes;
use serde_json::Value;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, HeaderBuilder, HttpMethod, Ref, Required, ResponseBuilder, Responses, ResponsesBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{AdditionalProperties, ObjectBuilder, Schema, Type},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    fields::{about_op, example, schema_of},
    problem::{MORE, PROBLEM_JSON, Problem, status_of},
};
use crate::{
    model::{
        Body, Cid, ConvId, DeviceId, Reaction, RoomId, SessionId, UserId,
        room::{Lifetime, Reach, Role, Topic},
    },
    protocol::{ErrorCode, Message, Op, ask},
};

/// The name of the one way to say who asks.
const SECURITY: &str = "service";
/// The name of the answer that says nothing.
const DONE: &str = "Done";

/// Everything but the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "natter for services",
        description = "What a service may ask over HTTP: each op is a POST with its fields as JSON. The same as over \
                       NATS, with the same answers and codes. A request with a cid is done once, however often it is sent.",
    ),
    components(schemas(
        ask::Sent,
        ask::SentMany,
        ask::Minted,
        ask::Erased,
        ask::HistoryPage,
        ask::ConversationsPage,
        ask::SessionsPage,
        ask::Ended,
        ask::Presences,
        ask::RoomChanged,
        ask::RoomShown,
        ask::RoomsPage,
        ask::MembersPage,
        ask::ReadersPage,
        ask::Blocking,
        ask::BlocksPage,
        Message,
        Problem,
        UserId,
        DeviceId,
        RoomId,
        Cid,
        ConvId,
        SessionId,
        Reaction,
        Topic,
        Lifetime,
        Role,
        Reach,
        Body
    ))
)]
struct Described;

/// Written once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// `GET /v1/openapi.json`.
pub(super) async fn show() -> impl IntoResponse {
    as_json(DOCUMENT.clone())
}

/// A document that changes only with the program.
pub(super) fn as_json(document: Bytes) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, document)
}

fn document() -> Value {
    let mut api = Described::openapi();
    let components = api.components.get_or_insert_default();
    let token = "A JWT whose `sub` is the service's name and whose `scope` has `natter:service`.";
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    (scheme.bearer_format, scheme.description) = (Some("JWT".to_owned()), Some(token.to_owned()));
    components.add_security_scheme(SECURITY, SecurityScheme::Http(scheme));
    let done =
        ObjectBuilder::new().schema_type(Type::Object).description(Some("It was done; there is no more to say."));
    let done = done.additional_properties(Some(AdditionalProperties::FreeForm(false))).build();
    components.schemas.insert(DONE.to_owned(), Schema::Object(done).into());
    for (op, answer) in Op::ALL.iter().filter_map(|op| Some((*op, answer_of(*op)?))) {
        let path = format!("/v1/{}", op.word());
        api.paths.add_path_operation(path, vec![HttpMethod::Post], operation(op, answer));
    }
    // Whatever cannot be written would have no test pass.
    let mut document = serde_json::to_value(&api).unwrap_or_default();
    tidy(&mut document);
    without_ref(&mut document);
    document
}

/// The schema of what an op is answered; none of an op of a connection.
fn answer_of(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Hello | Op::Ack | Op::Token | Op::Ping => return None,
        Op::Send | Op::Edit | Op::Delete | Op::React | Op::Unreact => "Sent",
        Op::SendMany => "SentMany",
        Op::Mint => "Minted",
        Op::Erase => "Erased",
        Op::Read | Op::Signal => DONE,
        Op::History => "HistoryPage",
        Op::Conversations => "ConversationsPage",
        Op::Sessions => "SessionsPage",
        Op::EndSession => "Ended",
        Op::Presence => "Presences",
        Op::Create | Op::Join | Op::Leave | Op::Invite | Op::Kick | Op::Role | Op::Topic | Op::Lifetime => {
            "RoomChanged"
        }
        Op::Room => "RoomShown",
        Op::Rooms => "RoomsPage",
        Op::Members => "MembersPage",
        Op::Block | Op::Unblock => "Blocking",
        Op::Blocks => "BlocksPage",
        Op::Readers => "ReadersPage",
    })
}

fn operation(op: Op, answer: &str) -> Operation {
    let body = ContentBuilder::new().schema(Some(request_of(op))).example(Some(example(op))).build();
    let body = RequestBodyBuilder::new().content("application/json", body).required(Some(Required::True)).build();
    let mut operation = OperationBuilder::new()
        .operation_id(Some(op.word()))
        .summary(Some(op.about()))
        .description(about_op(op))
        .request_body(Some(body))
        .responses(responses(answer))
        .security(SecurityRequirement::new(SECURITY, Vec::<String>::new()))
        .parameter(request_id());
    if op.has_field("cid") {
        operation = operation.parameter(idempotency_key());
    }
    operation.build()
}

/// Over HTTP the cid may stand in the header as well.
fn request_of(op: Op) -> Schema {
    let mut fields = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for field in op.takes().unwrap_or_default() {
        fields = fields.property(field.name, schema_of(op, field.name));
        if field.required && field.name != "cid" {
            fields = fields.required(field.name);
        }
    }
    Schema::Object(fields.property("from", schema_of(op, "from")).build())
}

fn header_parameter(name: &str, most: usize, about: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]+$"));
    let text = text.min_length(Some(1)).max_length(Some(most)).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(text))
        .build()
}

fn request_id() -> Parameter {
    header_parameter("X-Request-Id", 128, "Your name for the request in the answer and in the node's log.")
}

fn idempotency_key() -> Parameter {
    header_parameter("Idempotency-Key", 64, "The cid, where the body has none.")
}

fn responses(answer: &str) -> Responses {
    let id = |response: ResponseBuilder| {
        let header = HeaderBuilder::new().schema(ObjectBuilder::new().schema_type(Type::String).build());
        response.header("X-Request-Id", header.description(Some("The request's id.")).build())
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(answer))).build();
    let done = ResponseBuilder::new().description("Done.").content("application/json", content);
    let mut responses = ResponsesBuilder::new().response("200", id(done).build());
    for (status, codes) in refusals() {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let lines: Vec<_> = codes.iter().map(|code| format!("`{}`: {}", code.word(), code.about())).collect();
        let mut refused = ResponseBuilder::new().description(lines.join("\n\n")).content(PROBLEM_JSON, content);
        let named = match status {
            401 => Some(("WWW-Authenticate", Type::String, "How to say who asks.")),
            429 | 503 => Some(("Retry-After", Type::Integer, "Seconds to wait, where it is known.")),
            _ => None,
        };
        if let Some((name, kind, about)) = named {
            let header = HeaderBuilder::new().schema(ObjectBuilder::new().schema_type(kind).build());
            refused = refused.header(name, header.description(Some(about)).build());
        }
        responses = responses.response(status.to_string(), id(refused).build());
    }
    responses.build()
}

/// The codes of each status of a refusal.
fn refusals() -> BTreeMap<u16, Vec<ErrorCode>> {
    let mut found: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    let all = ErrorCode::ALL.iter().map(|code| (status_of(*code), *code)).chain(MORE);
    for (status, code) in all {
        found.entry(status.as_u16()).or_default().push(code);
    }
    found
}

/// Takes out what only clients get.
fn without_ref(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                properties.remove("ref");
            }
            map.values_mut().for_each(without_ref);
        }
        Value::Array(items) => items.iter_mut().for_each(without_ref),
        _ => {}
    }
}

/// Puts plain numbers where they are used, and says of what may be missing nothing of a null: it is left out then.
pub(super) fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let is_null = |one: &Value| one.get("type").is_some_and(|kind| kind == "null");
            if let Some(Value::Array(ways)) = map.get_mut("oneOf")
                && ways.iter().any(is_null)
            {
                ways.retain(|one| !is_null(one));
                if let [Value::Object(only)] = ways.as_mut_slice() {
                    *map = std::mem::take(only);
                }
            }
            if let Some(Value::Array(kinds)) = map.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_mut_slice() {
                    let only = only.take();
                    map.insert("type".into(), only);
                }
            }
            if map.get("$ref").and_then(Value::as_str).is_some_and(|to| to.ends_with("/schemas/u64")) {
                map.remove("$ref");
                map.insert("type".into(), "integer".into());
                map.insert("format".into(), "int64".into());
                map.insert("minimum".into(), 0.into());
            }
            if let Some(Value::Object(schemas)) = map.get_mut("schemas") {
                schemas.remove("u64");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::{Ask, Encoding, takes::Beside};

    /// All places that name a schema.
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| names(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_op_of_services_is_described() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        for op in Op::ALL {
            let path = paths.get(&format!("/v1/{}", op.word()));
            let Some(takes) = op.takes() else {
                assert!(path.is_none(), "{op:?} is of connections");
                continue;
            };
            let post = &path.unwrap_or_else(|| panic!("{op:?} is missing"))["post"];
            let schema = &post["requestBody"]["content"]["application/json"]["schema"];
            let described: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let mut taken: Vec<_> = takes.iter().map(|field| field.name).chain(["from"]).collect();
            taken.sort_unstable();
            assert_eq!(described, taken, "{op:?}");
            assert!(schema["properties"].as_object().unwrap().values().all(|field| field != &json!({})), "{op:?}");
            for status in refusals().keys() {
                assert!(post["responses"][status.to_string()].is_object(), "{op:?} without {status}");
            }
        }
        assert_eq!(paths.len(), Op::ALL.iter().filter(|op| op.takes().is_some()).count());
    }

    #[test]
    fn what_is_named_is_there() {
        let document = document();
        let mut found = Vec::new();
        names(&document, &mut found);
        assert!(found.len() > 50, "{found:?}");
        for name in found {
            let pointer = name.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name} leads nowhere");
        }
        assert!(!document.to_string().contains("\"ref\"") && !document.to_string().contains("\"null\""));
        let code = &document["components"]["schemas"]["ErrorCode"];
        assert_eq!(code["type"], "string");
        let codes = code["enum"].as_array().unwrap();
        assert!(codes.len() == ErrorCode::ALL.len() && codes.contains(&json!("not_member")), "{codes:?}");
    }

    #[test]
    fn every_example_can_be_asked() {
        for op in Op::ALL.iter().copied().filter(|op| op.takes().is_some()) {
            let fields = example(op);
            for name in fields.as_object().unwrap().keys() {
                assert!(name == "from" || op.has_field(name), "{op:?}: {name}");
            }
            let asked = Ask::of_op(op, Encoding::Json, fields.to_string().as_bytes(), Beside::default());
            assert!(asked.is_ok(), "{op:?}: {asked:?}");
        }
    }
}
