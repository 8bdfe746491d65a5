//! Whoever only holds connections open: takes neither the store's descriptors nor the probes', and not for long.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use futures_util::future::join_all;
use natter::{
    model::Body,
    nats_server::{NatsServer, ServerOptions},
    protocol::{Encoding, ServerFrame},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::raw::RawSocket;
use crate::{
    harness::{http, until},
    mesh::{
        Peer, TestMesh,
        serve::{Around, ServeProcess},
    },
};

/// What the process may open. Half of it is the soft limit, which would not even do for its start.
const FILES: u64 = 200;
/// How often many connections come at once from an address that has its share.
const BURSTS: usize = 10;
/// More than the table of messages keeps in memory, so that the store must open files.
const LARGE_BODIES: usize = 90;

/// A connection from an address of this machine that is not the others'.
async fn from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn status(addr: SocketAddr, path: &str) -> Option<u16> {
    http::get(addr, path).await.map(|answer| answer.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_cost_neither_the_store_nor_the_probes_anything() {
    let started = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    let more = "limits.body_bytes = 480000\nhttp.request_timeout_secs = 600\nhttp.connection_secs = 600";
    let mut serve =
        ServeProcess::start_with(folder.path(), &nats, more, Around { files: Some(FILES), ..Around::default() }).await;
    assert!(serve.process.log().contains("limits.sessions_per_node is lowered"), "{}", serve.process.log());
    let mut crowd = Vec::new();
    for _ in 0..FILES {
        crowd.push(from(2, serve.addr).await);
    }
    // One address leaves room for the others, also while more come from it than can be turned away at once.
    for round in 0..BURSTS {
        let burst = join_all((0..FILES).map(|_| from(2, serve.addr))).await;
        let served = status(serve.addr, "/").await;
        assert_eq!(served, Some(200), "after {round} bursts: {}", serve.process.log());
        drop(burst);
    }
    let alice = Peer::join(&serve.url(), "alice", "phone", Encoding::Json).await;
    for n in 0..FILES {
        crowd.push(from(3 + (n % 40) as u8, serve.addr).await);
    }
    until("all places are taken", async || status(serve.addr, "/").await == Some(503)).await;
    assert_eq!(status(serve.addr, "/healthz").await, Some(200), "{}", serve.process.log());
    for n in 0..LARGE_BODIES {
        let body = Body::text(&n.to_string().repeat(470_000 / n.to_string().len()));
        // A disk that others keep busy may refuse once; a store without descriptors would refuse for good.
        let stored = async || matches!(alice.try_send("@bob", &format!("m{n}"), &body).await, ServerFrame::Sent(_));
        until(&format!("message {n} is stored"), stored).await;
    }
    let ready = http::get(serve.addr, "/readyz").await.expect("an answer of a full node");
    assert_eq!(ready.status, 200, "{}\n{}", ready.body, serve.process.log());
    let log = serve.process.log();
    let said = log.matches("no room for connections").count();
    let minutes = started.elapsed().as_secs() / 60;
    assert!((1..=2 + minutes as usize).contains(&said), "an attack must not fill the log:\n{log}");
    drop(crowd);
    until("there is room again", async || status(serve.addr, "/").await == Some(200)).await;
    assert!(serve.process.exited().is_none());
}

#[tokio::test]
async fn a_socket_before_its_hello_counts_and_a_session_does_not() {
    let mesh = TestMesh::tuned(1, |config| {
        config.http.connections_per_address = 2;
        config.timing.hello_timeout_ms = 60_000;
    })
    .await;
    let (addr, url) = (mesh.nodes[0].addr, mesh.nodes[0].url());
    let _sessions =
        [Peer::join(&url, "alice", "a", Encoding::Json).await, Peer::join(&url, "alice", "b", Encoding::Json).await];
    let waiting = [RawSocket::open(addr).await, RawSocket::open(addr).await];
    assert_eq!(status(addr, "/").await, Some(503));
    assert_eq!(status(addr, "/readyz").await, Some(200));
    assert!(mesh.nodes[0].metric("natter_connections_crowded_total").await >= 1.0);
    drop(waiting);
    until("there is room again", async || status(addr, "/").await == Some(200)).await;
}

#[tokio::test]
async fn behind_a_proxy_each_client_is_counted_by_itself() {
    let mesh = TestMesh::tuned(1, |config| {
        config.http.connections_per_address = 1;
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.timing.hello_timeout_ms = 60_000;
    })
    .await;
    let addr = mesh.nodes[0].addr;
    let opens = async |client: &str| {
        let (head, socket) = RawSocket::upgrade(addr, &format!("X-Forwarded-For: {client}\r\n")).await;
        (head.split(' ').nth(1).unwrap().to_owned(), socket)
    };
    let (first, _held) = opens("192.0.2.1").await;
    let (same, _) = opens("192.0.2.1").await;
    let (other, _other) = opens("192.0.2.2").await;
    assert_eq!([first, same, other], ["101", "503", "101"]);
}

#[tokio::test]
async fn who_asks_and_never_reads_is_cut_off() {
    let mesh = TestMesh::tuned(1, |config| config.http.request_timeout_secs = 1).await;
    let deaf = TcpStream::connect(mesh.nodes[0].addr).await.unwrap();
    let request = b"GET /app.mjs HTTP/1.1\r\nHost: natter\r\n\r\n".repeat(64);
    // Written until the node cuts the connection, which also shows to whoever only writes.
    until("the node cuts it off", async || match deaf.try_write(&request) {
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    })
    .await;
}

#[tokio::test]
async fn no_connection_lives_for_ever() {
    let mesh = TestMesh::tuned(1, |config| {
        config.http.connection_secs = 1;
        config.http.request_timeout_secs = 2;
    })
    .await;
    let mut busy = TcpStream::connect(mesh.nodes[0].addr).await.unwrap();
    // One request after the other, each answered, so that no time-out for a head or an answer is ever reached.
    until("the node ends it", async || {
        let mut answer = [0; 4096];
        let asked = busy.write_all(b"GET /healthz HTTP/1.1\r\nHost: natter\r\n\r\n").await;
        asked.is_err() || !matches!(busy.read(&mut answer).await, Ok(1..))
    })
    .await;
    // And one that promised a body and never sends it.
    let mut half = TcpStream::connect(mesh.nodes[0].addr).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: natter\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let end = tokio::time::timeout(crate::harness::PATIENCE, half.read_to_end(&mut all)).await;
    assert!(end.is_ok(), "it must end by itself");
}
