//! A peer at the end of a slow way: it takes what was written, a little at a time, and comes to its pings late.

use std::time::Duration;

use natter::protocol::Body;
use tokio::net::TcpSocket;

use super::raw::RawSocket;
use crate::mesh::{TestMesh, token};

/// Bytes that the peer takes in a second.
const PACE: usize = 4 << 10;
const MESSAGES: usize = 10;

/// A page of history takes several times as long as a silent peer may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_four_kilobytes_a_second_gets_its_page() {
    let mesh = TestMesh::tuned(1, |config| {
        config.timing.ping_secs = 1;
        config.timing.idle_secs = 3;
        config.timing.stall_secs = 3;
    })
    .await;
    let alice = mesh.json(0, "alice", "d").await;
    for i in 0..MESSAGES {
        alice.try_send("@alice", &format!("c{i}"), &Body::text(&"x".repeat(PACE))).await;
    }
    let addr = mesh.nodes[0].addr;
    let socket = TcpSocket::new_v4().unwrap();
    // Little is under way at once, or this system would take it all and the way would not be slow.
    socket.set_recv_buffer_size(2 << 10).unwrap();
    let mut slow = RawSocket::over(socket.connect(addr).await.unwrap(), addr).await;
    // A new device starts at the read mark, so nothing else comes.
    slow.text(&format!(r#"{{"op":"hello","token":"{}","device":"slow"}}"#, token("alice"))).await;
    while !slow.next().await.unwrap().1.windows(9).any(|word| word == b"caught_up") {}
    slow.text(r#"{"op":"history","ref":7,"conv":"dm:alice:alice","after":0,"limit":50}"#).await;
    let begin = std::time::Instant::now();
    let mut got = Vec::new();
    while got.len() < MESSAGES * PACE {
        let some = slow.some(PACE / 4).await;
        assert!(!some.is_empty(), "closed after {:?} with {} bytes", begin.elapsed(), got.len());
        got.extend(some);
        // The pace is what this is about.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(begin.elapsed() > Duration::from_secs(8), "{:?}", begin.elapsed());
    // A node that gave the peer up has left the page in its system's hands, but answers no more.
    slow.text(r#"{"op":"ping","ref":8}"#).await;
    let has_pong = |got: &[u8]| got.windows(6).any(|word| word == b"\"pong\"");
    while !has_pong(&got) {
        let some = slow.some(PACE).await;
        assert!(!some.is_empty(), "closed after the page");
        got.extend(some);
    }
}
