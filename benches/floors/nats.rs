//! Messages through a real nats-server on natter's own link, one bus to another. Their floor is to write and read the same
//! lines on two bare sockets.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use natter::{
    bus::{Bus, NatsOptions, link::LinkBus},
    metrics::Metrics,
    model::UserId,
    nats_server::{NatsServer, ServerOptions},
    subject::Subject,
};
use tokio::{runtime::Runtime, sync::Notify};

/// Messages under way at once.
const AT_ONCE: [usize; 2] = [1, 1_000];
const PAYLOAD: usize = 300;

struct Nats {
    server: NatsServer,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Nats {
    fn start() -> Self {
        let (runtime, folder) = (Runtime::new().expect("a runtime"), tempfile::tempdir().expect("a folder"));
        let server = runtime.block_on(NatsServer::start(ServerOptions::new(folder.path()))).expect("a nats-server");
        Self { server, runtime, _folder: folder }
    }

    async fn bus(&self, node: &str) -> Arc<LinkBus> {
        let options = NatsOptions::new(node, [self.server.client_url()]);
        let options = options.password("node", &self.server.passwords().node);
        LinkBus::connect(options, Metrics::new(node)).await.expect("a connection")
    }

    /// A connection by hand, after its CONNECT.
    fn socket(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.server.client_addr()).expect("a connection");
        socket.set_nodelay(true).expect("no delay");
        let password = &self.server.passwords().node;
        let hello = format!("CONNECT {{\"verbose\":false,\"user\":\"node\",\"pass\":\"{password}\"}}\r\nPING\r\n");
        socket.write_all(hello.as_bytes()).expect("a write");
        read_until(&mut socket, b"PONG\r\n");
        socket
    }
}

fn read_until(socket: &mut TcpStream, end: &[u8]) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !seen.ends_with(end) {
        let count = socket.read(&mut piece).expect("an answer");
        assert!(count > 0, "the server hung up");
        seen.extend_from_slice(&piece[..count]);
    }
}

#[divan::bench(args = AT_ONCE)]
fn publish_to_receive(bencher: Bencher<'_, '_>, at_once: usize) {
    let nats = Nats::start();
    let subject = Subject::user(&UserId::new("bob").expect("a user's name"));
    let (received, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, told) = (received.clone(), done.clone());
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let (from, to) = nats.runtime.block_on(async { (nats.bus("n1").await, nats.bus("n2").await) });
    let subscription = to.subscribe(
        &subject,
        Arc::new(move |_| {
            if counted.fetch_add(1, Ordering::AcqRel) + 1 == at_once {
                told.notify_one();
            }
        }),
    );
    nats.runtime.block_on(to.fence()).expect("a fence");
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        received.store(0, Ordering::Release);
        nats.runtime.block_on(async {
            for _ in 0..at_once {
                assert!(from.publish(&subject, payload.clone()), "the queue is full");
            }
            done.notified().await;
        });
    });
    drop(subscription);
}

#[divan::bench(args = AT_ONCE)]
fn floor_of_that_two_bare_sockets(bencher: Bencher<'_, '_>, at_once: usize) {
    let nats = Nats::start();
    let (mut from, mut to) = (nats.socket(), nats.socket());
    to.write_all(b"SUB natter.user.bob 1\r\nPING\r\n").expect("a write");
    read_until(&mut to, b"PONG\r\n");
    let mut line = format!("PUB natter.user.bob {PAYLOAD}\r\n").into_bytes();
    line.extend_from_slice(&[7; PAYLOAD]);
    line.extend_from_slice(b"\r\n");
    let size = format!("MSG natter.user.bob 1 {PAYLOAD}\r\n").len() + PAYLOAD + 2;
    let (all, mut read) = (line.repeat(at_once), vec![0; 1 << 16]);
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        from.write_all(&all).expect("a write");
        let mut left = size * at_once;
        while left > 0 {
            let count = to.read(&mut read).expect("messages");
            assert!(count > 0 && count <= left, "something else came");
            left -= count;
        }
    });
}
