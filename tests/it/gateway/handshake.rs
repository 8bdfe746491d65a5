//! The HTTP request that becomes a WebSocket: what is agreed on, what is refused, and with which message.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

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
async fn nobody_may_frame_the_page_but_who_is_named() {
    let named = vec!["self".into(), "https://intranet.example.org".into()];
    for (ancestors, wanted) in [
        (Vec::new(), "; frame-ancestors 'none'\r\n"),
        (named, "; frame-ancestors 'self' https://intranet.example.org\r\n"),
    ] {
        let mesh = TestMesh::tuned(1, |config| config.http.frame_ancestors = ancestors).await;
        for path in ["/", "/app.mjs", "/natter.js", "/v1/docs"] {
            let answer = http::get(mesh.nodes[0].addr, path).await.unwrap();
            assert!(answer.status == 200 && answer.head.contains(wanted), "{path}: {}", answer.head);
        }
    }
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

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let mesh = TestMesh::start(1).await;
    let addr = mesh.nodes[0].addr;
    let status = async |start: &str, lines: &str| {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!(
            "{start}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).await.unwrap();
        String::from_utf8(head).unwrap()[9..].to_owned()
    };
    let key = |key: &str| format!("Host: natter\r\nSec-WebSocket-Key: {key}\r\n");
    let (good, get) = (key("dGhlIHNhbXBsZSBub25jZQ=="), "GET /v1/ws HTTP/1.1");
    assert_eq!(status(get, &good).await, "101");
    assert_eq!(status("HEAD /v1/ws HTTP/1.1", &good).await, "405");
    assert_eq!(status("GET /v1/ws HTTP/1.0", &good).await, "405");
    for junk in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25j!Q=="] {
        assert_eq!(status(get, &key(junk)).await, "400", "{junk:?}");
    }
    assert_eq!(status(get, &format!("{good}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")).await, "400");
    assert_eq!(status(get, &good.replace("Host: natter\r\n", "")).await, "400", "no host");
    assert_eq!(status(get, &format!("{good}Host: other\r\n")).await, "400", "two hosts");
}
