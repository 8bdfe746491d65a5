//! One request at a time, good and bad, and many that wait.

use std::time::Duration;

use async_nats::ConnectOptions;
use natter::{
    auth::Minter,
    config::Secret,
    model::ConvId,
    protocol::{CloseReason, Encoding},
    store::{Logs as _, Span, Store},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Caller, mesh, problem, services, user};
use crate::{
    harness::{
        http::{self, Answer},
        until,
    },
    mesh::{Peer, SECRET, TestMesh, TestNode, held::HeldLogs, service_token, token},
};

const CONV: &str = "dm:billing:bob";

fn paid(cid: &str) -> Value {
    json!({"to": "@bob", "cid": cid, "body": {"text": "paid"}})
}

/// Where a message was stored.
fn place(answer: &Answer) -> (String, u64) {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    let sent = answer.json();
    (sent["conv"].as_str().unwrap().to_owned(), sent["seq"].as_u64().unwrap())
}

#[tokio::test]
async fn a_service_is_answered_over_http_when_its_message_is_durable() {
    let mesh = mesh(2).await;
    let bob = mesh.json(1, "bob", "d").await;
    let billing = Caller::of("billing");
    let answer =
        billing.say(&mesh.nodes[0], "send", &[("X-Request-Id", "pay-17")], paid("c1").to_string().as_bytes()).await;
    assert_eq!(place(&answer), (CONV.to_owned(), 1));
    let rows = mesh.store.read_after(&ConvId::new(CONV).unwrap(), 0, Span { rows: 10, bytes: 9999 }).await.unwrap();
    assert_eq!(rows.len(), 1, "answered before it was stored");
    let message = bob.message(CONV, 1).await;
    assert_eq!((message.from.as_str(), Some(message.ts)), ("billing", answer.json()["ts"].as_u64()));
    assert_eq!(answer.header("x-request-id"), Some("pay-17"));
    let other = billing.ask(&mesh.nodes[1], "history", &json!({"conv": CONV})).await;
    assert_eq!(other.json()["messages"][0]["body"]["text"], "paid");
    assert_eq!(other.header("x-request-id").map(str::len), Some(32), "one was made");
    let read = billing.ask(&mesh.nodes[0], "read", &json!({"conv": "dm:alice:alice", "seq": 0, "from": "alice"})).await;
    assert_eq!((read.status, read.body.as_str()), (200, "{}"));
    assert!(mesh.nodes[0].metric("natter_service_requests_total{outcome=\"ok\"").await >= 2.0);
}

#[tokio::test]
async fn a_retry_has_the_same_place_on_every_node_and_through_every_door() {
    let mesh = mesh(2).await;
    let billing = Caller::of("billing");
    let (one, other) = (&mesh.nodes[0], &mesh.nodes[1]);
    for node in [one, other, one] {
        assert_eq!(place(&billing.ask(node, "send", &paid("c1")).await).1, 1);
    }
    // The same as a key, bare and in quotes; a key and a cid that are the same are one.
    let keyless = json!({"to": "@bob", "body": {"text": "paid"}}).to_string();
    for (node, key) in [(other, "c1"), (one, "\"c1\"")] {
        let answer = billing.say(node, "send", &[("Idempotency-Key", key)], keyless.as_bytes()).await;
        assert_eq!(place(&answer).1, 1, "{key}");
    }
    let both = [("Idempotency-Key", "c1")];
    assert_eq!(place(&billing.say(one, "send", &both, paid("c1").to_string().as_bytes()).await).1, 1);
    let differ = billing.say(one, "send", &both, paid("c2").to_string().as_bytes()).await;
    assert_eq!(problem(&differ, 400), "bad_frame");
    let nats = connect(&mesh).await;
    let ways = [("natter.send.billing.user.bob", keyed("c1")), ("natter.do.billing.send", paid("c1"))];
    for (subject, fields) in ways {
        let reply = nats.request(subject, fields.to_string().into()).await.unwrap().payload;
        assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap()["seq"], 1, "{subject}: {reply:?}");
    }
    assert_eq!(place(&billing.ask(other, "send", &paid("c2")).await).1, 2);
    let reused = billing.ask(one, "send", &json!({"to": "@bob", "cid": "c1", "body": "else"})).await;
    assert_eq!(problem(&reused, 422), "cid_reused");
    // What changes a room has a key as well.
    let create = json!({"public": true, "from": "alice"}).to_string();
    let mut made = Vec::new();
    for node in [one, other] {
        let answer = billing.say(node, "create", &[("Idempotency-Key", "room-1")], create.as_bytes()).await;
        made.push((answer.status, answer.json()["room"].clone(), answer.json()["seq"].clone()));
    }
    assert_eq!((made[0].0, &made[0]), (200, &made[1]));
}

fn keyed(cid: &str) -> Value {
    json!({"cid": cid, "body": {"text": "paid"}})
}

#[tokio::test]
async fn only_a_services_token_opens_the_api() {
    let mesh = TestMesh::tuned(1, |config| {
        services(config);
        config.auth.leeway_secs = 0;
    })
    .await;
    let node = &mesh.nodes[0];
    let minter = |secret: &str| Minter::new(&Secret::new(secret)).unwrap();
    let foreign =
        minter("another-secret-that-the-node-does-not-have").mint_service(&user("billing"), Duration::from_secs(60));
    let expired = minter(SECRET).mint_service(&user("billing"), Duration::ZERO).unwrap();
    until("the token is over", async || Caller::with(&expired).ask(node, "send", &paid("late")).await.status == 401)
        .await;
    for (bad, words) in [
        ("", "Authorization"),
        ("nonsense", "token"),
        (token("billing").as_str(), "token: a user's token"),
        (foreign.unwrap().as_str(), "token: the signature"),
        (expired.as_str(), "token: the token has expired"),
    ] {
        let answer = Caller::with(bad).ask(node, "send", &paid("c1")).await;
        assert_eq!(problem(&answer, 401), "unauthorized", "{bad}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(words), "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"natter\""));
    }
    let nobody = http::request(node.addr, "POST", "/v1/send", &[("Content-Type", "application/json")], b"{}").await;
    assert_eq!(problem(&nobody.unwrap(), 401), "unauthorized");
    // A service that was not let, also one that no configuration knows.
    for service in ["mute", "alice"] {
        let answer = Caller::of(service).ask(node, "send", &paid("c1")).await;
        assert_eq!(problem(&answer, 403), "unauthorized");
        assert!(answer.json()["detail"].as_str().unwrap().contains(&format!("services.{service}.http")), "{answer:?}");
    }
    let stored = mesh.store.top(&ConvId::new(CONV).unwrap()).await.unwrap();
    // Before its time was over the expired one may have stored one message.
    assert!(stored <= 1, "{stored}");
    // And it opens nothing else.
    let refused = Peer::join_as(&node.url(), &service_token("alice"), "d", Encoding::Json, 0).await;
    let Err(refused) = refused else { panic!("a service's token opened a session") };
    let refused = format!("{refused:?}");
    assert!(refused.contains(&CloseReason::BadToken.code().to_string()), "{refused}");
}

/// What is wrong, the status, the code, and the field that is named.
const WRONG: [(&str, &str, u16, &str, Option<&str>); 18] = [
    ("send", "paid", 400, "bad_frame", None),
    ("send", "", 400, "bad_frame", None),
    ("send", "[1]", 400, "bad_frame", None),
    ("send", r#"{"to":"@bob","cid":"c","body":1"#, 400, "bad_frame", None),
    ("send", r#"{"to":"@bob","body":1}"#, 400, "bad_frame", Some("cid")),
    ("send", r#"{"to":"@bob","cid":"c","body":1,"form":"alice"}"#, 400, "bad_frame", None),
    ("send", r#"{"to":"@bob","cid":"c","body":1,"op":"send"}"#, 400, "bad_frame", Some("op")),
    ("send", r#"{"to":"@bob","cid":7,"body":1}"#, 400, "bad_frame", Some("cid")),
    ("send", r#"{"to":"bob","cid":"c","body":1}"#, 400, "bad_name", Some("to")),
    ("send", r#"{"to":"@bob","cid":"c","body":18446744073709551616}"#, 400, "bad_body", Some("body")),
    ("send", r#"{"to":"@bob","cid":"c","body":1,"from":"eve"}"#, 403, "unauthorized", Some("from")),
    ("send", r##"{"to":"#lobby","cid":"c","body":1}"##, 404, "no_such_room", None),
    ("rooms", "{}", 403, "unauthorized", Some("from")),
    ("history", r#"{"conv":"dm:bob:carol"}"#, 403, "not_member", Some("conv")),
    ("history", r#"{"conv":"dm:billing:bob","limit":201}"#, 400, "bad_frame", Some("limit")),
    ("read", r#"{"conv":"dm:alice:bob","seq":9,"from":"alice"}"#, 422, "bad_ack", Some("seq")),
    ("edit", r#"{"conv":"dm:billing:bob","re":9,"cid":"c","body":1}"#, 422, "bad_ref", Some("re")),
    ("end_session", r#"{"device":"none","from":"alice"}"#, 404, "not_found", Some("device")),
];

#[tokio::test]
async fn what_is_wrong_is_a_problem_with_its_code_and_its_field() {
    let mesh = mesh(1).await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    for (op, body, status, code, field) in WRONG {
        let answer = billing.say(node, op, &[], body.as_bytes()).await;
        assert_eq!(problem(&answer, status), code, "{op} {body}: {answer:?}");
        assert_eq!(answer.json()["field"].as_str(), field, "{op} {body}: {answer:?}");
    }
    for op in ["no_such", "hello", "ack", "token", "ping"] {
        assert_eq!(problem(&billing.say(node, op, &[], b"{}").await, 404), "unknown_op", "{op}");
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    let answer = billing.say(node, "send", &twice, paid("c").to_string().as_bytes()).await;
    assert_eq!((problem(&answer, 400).as_str(), &answer.json()["field"]), ("bad_frame", &json!("Idempotency-Key")));
    let zipped = billing.say(node, "send", &[("Content-Encoding", "gzip")], paid("c").to_string().as_bytes()).await;
    assert_eq!(problem(&zipped, 415), "bad_frame");
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let answer = http::request(node.addr, method, "/v1/send", &[], b"").await.unwrap();
        assert_eq!((problem(&answer, 405).as_str(), answer.header("allow")), ("bad_frame", Some("POST")), "{method}");
    }
    let bearer = format!("Bearer {}", service_token("billing"));
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        let answer = http::request(node.addr, "POST", "/v1/send", &headers, paid("c").to_string().as_bytes()).await;
        assert_eq!(problem(&answer.unwrap(), 415), "bad_frame", "{kind}");
    }
    assert_eq!(mesh.store.top(&ConvId::new(CONV).unwrap()).await.unwrap(), 0, "nothing bad was stored");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let mesh = TestMesh::tuned(1, |config| {
        services(config);
        config.limits.body_bytes = 100;
    })
    .await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    let body = json!({"to": "@bob", "cid": "c", "body": "x".repeat(101)});
    let answer = billing.ask(node, "send", &body).await;
    assert_eq!((problem(&answer, 413).as_str(), &answer.json()["field"]), ("too_large", &json!("body")));
    let most = mesh.config.limits.max_frame_bytes();
    let whole = billing.say(node, "send", &[], &vec![b' '; most + 1]).await;
    assert_eq!(problem(&whole, 413), "too_large");
    assert_eq!(whole.header("connection"), Some("close"), "the rest is not waited for");
    // Without a length, in pieces, nobody can say before.
    let mut text = format!("{:x}\r\n", most + 1).into_bytes();
    text.extend(vec![b' '; most + 1]);
    let headers = format!(
        "POST /v1/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        service_token("billing")
    );
    let answer = http::raw(node.addr, &[headers.as_bytes(), &text].concat()).await.unwrap();
    assert_eq!(problem(&answer, 413), "too_large");
}

/// A request that never comes to its end.
async fn half_a_request(node: &TestNode) -> TcpStream {
    let mut stream = TcpStream::connect(node.addr).await.unwrap();
    let head = format!(
        "POST /v1/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        service_token("billing")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn requests_that_wait_hold_up_neither_probes_nor_sockets() {
    let mesh = TestMesh::tuned(1, |config| {
        services(config);
        // Room for four requests.
        config.http.connections = 8;
    })
    .await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(half_a_request(node).await);
    }
    until("there is no more room", async || {
        let answer = billing.ask(node, "send", &paid("c1")).await;
        let full = answer.status == 503;
        if full {
            assert_eq!(problem(&answer, 503), "unavailable");
            assert!(answer.header("retry-after").is_some() && answer.json()["retry_after_ms"].as_u64() > Some(0));
        }
        full
    })
    .await;
    let nobody = http::request(node.addr, "POST", "/v1/send", &[], b"{}").await.unwrap();
    assert_eq!(problem(&nobody, 401), "unauthorized", "whoever has no token needs no room");
    assert_eq!(http::get(node.addr, "/readyz").await.unwrap().status, 200);
    let bob = mesh.json(0, "bob", "d").await;
    bob.caught_up().await;
    drop(waiting);
    until("there is room again", async || billing.ask(node, "send", &paid("c2")).await.status == 200).await;
}

#[tokio::test]
async fn a_service_that_asks_too_much_is_told_when_to_come_back_through_every_door() {
    let mesh = TestMesh::tuned(1, |config| {
        services(config);
        config.services.get_mut("billing").unwrap().requests_per_sec = 1;
    })
    .await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    let users: Vec<String> = (0..5).map(|n| format!("u{n}")).collect();
    let many = billing.ask(node, "send_many", &json!({"users": users, "cid": "c", "body": 1})).await;
    assert_eq!(many.status, 200, "more than the burst comes when nothing is owed: {many:?}");
    // Five were taken of two that were there.
    let answer = billing.ask(node, "send", &paid("c1")).await;
    assert_eq!((problem(&answer, 429).as_str(), answer.header("retry-after").is_some()), ("rate_limited", true));
    let nats = connect(&mesh).await;
    let reply = nats.request("natter.send.billing.user.bob", keyed("c1").to_string().into()).await.unwrap().payload;
    let error = &serde_json::from_slice::<Value>(&reply).unwrap()["error"];
    assert_eq!((&error["code"], &error["retry"]), (&json!("rate_limited"), &json!(true)));
    assert!((1..=4_000).contains(&error["retry_after_ms"].as_u64().unwrap()), "{error}");
    until("what was owed has come in", async || billing.ask(node, "send", &paid("c1")).await.status == 200).await;
}

async fn connect(mesh: &TestMesh) -> async_nats::Client {
    ConnectOptions::with_user_and_password("billing".into(), mesh.nats.passwords().billing.clone())
        .custom_inbox_prefix("_INBOX_billing")
        .connect(mesh.nats.client_url())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for() {
    let mut mesh = TestMesh::bare(|config| {
        services(config);
        config.http.request_timeout_secs = 1;
    })
    .await;
    let store = Store::of(mesh.store.clone());
    let gate = HeldLogs::before(store.logs.clone());
    let nats = mesh.nats.client_url();
    mesh.add_node_on(nats, gate.of(store)).await;
    let (node, billing) = (&mesh.nodes[0], Caller::of("billing"));
    assert_eq!(billing.ask(node, "send", &paid("c1")).await.status, 200);
    gate.hold();
    let fields = json!({"conv": CONV, "after": 0});
    let (answer, ready) = tokio::join!(billing.ask(node, "history", &fields), async {
        until("the page waits", async || gate.waiting() > 0).await;
        http::get(node.addr, "/readyz").await.unwrap().status
    });
    assert_eq!((problem(&answer, 503).as_str(), ready), ("unavailable", 200));
    // Nobody knows when.
    assert!(answer.header("retry-after").is_none() && answer.json()["detail"].as_str().unwrap().contains("unknown"));
    gate.release();
    assert_eq!(billing.ask(node, "history", &fields).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mesh = TestMesh::tuned(1, |config| {
        services(config);
        config.http.request_timeout_secs = 1;
    })
    .await;
    let mut stream = half_a_request(&mesh.nodes[0]).await;
    let answer = http::answer(&mut stream).await.unwrap();
    assert_eq!(problem(&answer, 408), "bad_frame");
}

#[tokio::test]
async fn pages_of_other_origins_call_it_only_where_that_is_configured() {
    let admin = "https://admin.example.org";
    let preflight = |origin| {
        [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type,idempotency-key"),
        ]
    };
    let off = mesh(1).await;
    let node = &off.nodes[0];
    let answer = http::request(node.addr, "OPTIONS", "/v1/send", &preflight(admin), b"").await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    let on = TestMesh::tuned(1, |config| {
        services(config);
        config.http.cors_origins = vec![admin.into()];
    })
    .await;
    let node = &on.nodes[0];
    let answer = http::request(node.addr, "OPTIONS", "/v1/send", &preflight(admin), b"").await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(admin)));
    for header in ["authorization", "content-type", "idempotency-key"] {
        assert!(answer.header("access-control-allow-headers").unwrap().contains(header), "{answer:?}");
    }
    let other = http::request(node.addr, "OPTIONS", "/v1/send", &preflight("https://evil.example"), b"").await.unwrap();
    assert_eq!(other.header("access-control-allow-origin"), None);
    let billing = Caller::of("billing");
    let sent = billing.say(node, "send", &[("Origin", admin)], paid("c1").to_string().as_bytes()).await;
    assert_eq!((sent.status, sent.header("access-control-allow-origin")), (200, Some(admin)));
    // The page must see a refusal as well, and its headers.
    let refused = billing.say(node, "send", &[("Origin", admin)], b"{}").await;
    assert_eq!(
        (problem(&refused, 400).as_str(), refused.header("access-control-allow-origin")),
        ("bad_frame", Some(admin))
    );
    assert!(refused.header("access-control-expose-headers").unwrap().contains("x-request-id"));
}
