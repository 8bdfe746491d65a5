//! The HTTP request that becomes a WebSocket: what is agreed on, what is refused, and with which message.

use super::raw::RawSocket;
use crate::{harness::http, mesh::TestMesh};

#[tokio::test]
async fn the_subprotocol_is_agreed_on() {
    let mesh = TestMesh::start(1).await;
    let addr = mesh.nodes[0].addr;
    for (offer, agreed) in [
        ("", None),
        ("Sec-WebSocket-Protocol: natter.msgpack.v1\r\n", Some("natter.msgpack.v1")),
        ("Sec-WebSocket-Protocol: other, natter.json.v1, natter.msgpack.v1\r\n", Some("natter.json.v1")),
    ] {
        let (head, _) = RawSocket::upgrade(addr, offer).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(line, agreed, "{head}");
        // From RFC 6455: the answer to a key of sixteen zeros.
        assert!(head.contains("ICX+Yqv66kxgM0FcWaLWlFLwTAI="), "{head}");
    }
    let (head, _) = RawSocket::upgrade(addr, "Sec-WebSocket-Protocol: other\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test]
async fn what_is_no_websocket_is_told_so() {
    let mesh = TestMesh::start(1).await;
    let addr = mesh.nodes[0].addr;
    let answer = http::get(addr, "/v1/ws").await.unwrap();
    assert_eq!(answer.status, 426);
    assert!(answer.body.contains("WebSocket"), "{}", answer.body);
    assert_eq!(http::get(addr, "/healthz").await.unwrap().status, 200);
    assert_eq!(http::get(addr, "/nothing/here").await.unwrap().status, 404);
}

#[tokio::test]
async fn only_the_pages_that_are_allowed_may_connect() {
    let mesh = TestMesh::tuned(1, |config| config.http.allowed_origins = vec!["https://chat.example.org".into()]).await;
    let addr = mesh.nodes[0].addr;
    let (head, _) = RawSocket::upgrade(addr, "Origin: https://chat.example.org\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (head, _) = RawSocket::upgrade(addr, "Origin: https://evil.example.org\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let (head, _) = RawSocket::upgrade(addr, "").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "no browser, no origin: {head}");
}
