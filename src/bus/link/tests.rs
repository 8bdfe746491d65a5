//! The connection over streams in memory, with this file as the server: what goes out, in which order, and what comes of
//! what a server says. Real servers are in the integration tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf,
        duplex, split,
    },
    sync::oneshot,
    task::JoinHandle,
};

use super::{
    conn::{Conn, Input, Lost},
    dial::{Failed, introduce},
    ops::Info,
    servers::Server,
    state::{Next, Shared},
    *,
};
use crate::bus::BusMessage;

/// More than any of these tests takes.
const LONG: Duration = Duration::from_secs(10);

fn shared() -> Arc<Shared> {
    Shared::new(Subject::node("n1", NO_RESPONDERS), Requests::new("n1"), Metrics::new("n1"))
}

fn nobody() -> OnMessage {
    Arc::new(|_| ())
}

/// The server's end of a connection.
struct Peer {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    conn: JoinHandle<Lost>,
}

impl Peer {
    /// A connection that came about a moment ago.
    fn start(shared: &Arc<Shared>, ping_interval: Duration) -> Self {
        let (near, far) = duplex(1 << 16);
        shared.up(Info { max_payload: 1 << 20, ..Info::default() });
        let mut conn = Conn::new(Box::new(near), Input::default(), ping_interval);
        let shared = shared.clone();
        let conn = tokio::spawn(async move { conn.run(&shared).await });
        let (reader, writer) = split(far);
        Self { reader: BufReader::new(reader), writer, conn }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(LONG, self.reader.read_line(&mut line)).await.expect("nothing came").unwrap();
        assert!(!line.is_empty(), "the connection is gone");
        line.trim_end().to_owned()
    }

    /// All lines until this one, without it.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    async fn lost(self) -> Lost {
        tokio::time::timeout(LONG, self.conn).await.expect("the connection goes on").unwrap()
    }
}

/// What a fence waits for, for no longer than these tests may take.
async fn told(fencing: oneshot::Receiver<Result<u64, BusError>>) -> Result<u64, BusError> {
    tokio::time::timeout(LONG, fencing).await.expect("no PONG was heard").unwrap()
}

#[test]
fn a_fence_comes_after_every_subscription_that_is_renewed() {
    let shared = shared();
    let mut sids: Vec<_> = (0..5_000).map(|i| shared.subscribe(format!("u{i}").into(), nobody())).collect();
    // Places without a subscription in the middle, more than are renewed at once.
    for sid in sids.drain(1_000..3_500) {
        shared.unsubscribe(sid);
    }
    shared.up(Info::default());
    let mut fencing = shared.fence().unwrap();
    let (mut text, mut spent) = (String::new(), Vec::new());
    while let Next::Piece(piece) = shared.next(spent) {
        text.push_str(std::str::from_utf8(&piece).unwrap());
        spent = piece;
    }
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["SUB natter.node.n1.no_responders.> 1", "SUB natter.node.n1.answer.* 2"]);
    assert_eq!((lines.len(), lines.last()), (2 + 2_500 + 1, Some(&"PING")));
    assert!(fencing.try_recv().is_err());
    shared.on_pong();
    assert_eq!(fencing.try_recv(), Ok(Ok(1)));
}

#[tokio::test]
async fn subscriptions_and_their_ends_go_out_in_order_and_once() {
    let shared = shared();
    let gone = shared.subscribe("gone".into(), nobody());
    let stays = shared.subscribe("stays queue".into(), nobody());
    shared.unsubscribe(gone);
    let mut server = Peer::start(&shared, LONG);
    // In the place of the one that is gone, before the renewal comes by.
    let again = shared.subscribe("again".into(), nobody());
    let fencing = shared.fence().unwrap();
    let lines = server.until("PING").await;
    assert_eq!(lines[2..], [format!("SUB again {again}"), format!("SUB stays queue {stays}")]);
    shared.unsubscribe(again);
    let other = shared.subscribe("other".into(), nobody());
    let last = shared.subscribe("last".into(), nobody());
    let fencing = (fencing, shared.fence().unwrap());
    let lines = server.until("PING").await;
    assert_eq!(lines, [format!("UNSUB {again}"), format!("SUB other {other}"), format!("SUB last {last}")]);
    server.say(b"PONG\r\nPONG\r\n").await;
    assert_eq!((told(fencing.0).await, told(fencing.1).await), (Ok(1), Ok(1)));
}

#[tokio::test]
async fn a_message_for_an_ended_subscription_is_not_for_the_next_in_its_place() {
    let shared = shared();
    let heard = Arc::<Mutex<Vec<BusMessage>>>::default();
    let listen = |shared: &Shared| {
        let heard = heard.clone();
        shared.subscribe("x".into(), Arc::new(move |message| heard.lock().push(message)))
    };
    let first = listen(&shared);
    shared.unsubscribe(first);
    let second = listen(&shared);
    let mut server = Peer::start(&shared, LONG);
    let fencing = shared.fence().unwrap();
    server.until("PING").await;
    // A subject that is no text ends nothing: anybody may publish one.
    let lines = format!("MSG x {first} 3\r\nold\r\nMSG x {second} 3\r\nnew\r\nHMSG ");
    server.say(&[lines.as_bytes(), b"x\xff ", format!("{second} r 12 14\r\n").as_bytes()].concat()).await;
    server.say(b"NATS/1.0\r\n\r\nhi\r\nPING\r\nPONG\r\n").await;
    assert_eq!(told(fencing).await, Ok(1));
    let heard = std::mem::take(&mut *heard.lock());
    assert_eq!(heard.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [&b"new"[..], b"hi"]);
    assert_eq!((&*heard[1].subject, heard[1].reply.as_deref()), ("x\u{fffd}", Some("r")));
    assert_eq!(server.line().await, "PONG");
}

#[tokio::test]
async fn a_panic_costs_one_message() {
    let shared = shared();
    let count = Arc::<AtomicUsize>::default();
    let counter = count.clone();
    let on_message = Arc::new(move |_| assert!(counter.fetch_add(1, Ordering::Relaxed) > 0, "the first one panics"));
    let sid = shared.subscribe("x".into(), on_message);
    let mut server = Peer::start(&shared, LONG);
    let fencing = shared.fence().unwrap();
    server.say(format!("MSG x {sid} 0\r\n\r\nMSG x {sid} 0\r\n\r\n").as_bytes()).await;
    server.until("PING").await;
    server.say(b"PONG\r\n").await;
    assert_eq!(told(fencing).await, Ok(1));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_the_server_says_that_nobody_hears() {
    let shared = shared();
    let tags = Arc::<Mutex<Vec<String>>>::default();
    let listening = tags.clone();
    let _ = shared.no_responders.set(Arc::new(move |tag| listening.lock().push(tag.to_owned())));
    let mut server = Peer::start(&shared, LONG);
    let fencing = shared.fence().unwrap();
    server.until("PING").await;
    server.say(b"MSG natter.node.n1.no_responders.forged 1 0\r\n\r\n").await;
    server.say(b"HMSG natter.node.n1.no_responders.a.dm:a:b.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nPONG\r\n").await;
    assert_eq!(told(fencing).await, Ok(1));
    assert_eq!(*tags.lock(), ["a.dm:a:b.1"]);
}

#[tokio::test]
async fn a_server_that_goes_on_talking_and_does_not_hear_is_noticed() {
    let shared = shared();
    let mut server = Peer::start(&shared, Duration::from_millis(300));
    server.until("PING").await;
    // What comes from it proves only one direction.
    let talking = async {
        loop {
            server.writer.write_all(b"PING\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let lost = tokio::select! {
        lost = &mut server.conn => lost.unwrap(),
        _ = tokio::time::timeout(LONG, talking) => panic!("the connection goes on"),
    };
    assert!(matches!(lost, Lost::Stale), "{lost}");
}

#[tokio::test]
async fn an_answer_in_time_keeps_the_connection() {
    let shared = shared();
    let mut server = Peer::start(&shared, Duration::from_millis(20));
    for _ in 0..5 {
        server.until("PING").await;
        server.say(b"PONG\r\n").await;
    }
    assert!(!server.conn.is_finished());
    drop((server.reader, server.writer));
    assert!(matches!(server.conn.await.unwrap(), Lost::Closed | Lost::Io(_)));
}

#[tokio::test]
async fn what_no_server_sends_ends_the_connection() {
    let shared = shared();
    let mut server = Peer::start(&shared, LONG);
    server.say(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let lost = server.lost().await;
    assert!(matches!(lost, Lost::Malformed(_)), "{lost}");
}

#[tokio::test]
async fn large_messages_grow_the_buffer_and_small_ones_follow() {
    let shared = shared();
    let sizes = Arc::<Mutex<Vec<usize>>>::default();
    let seen = sizes.clone();
    let sid = shared.subscribe("x".into(), Arc::new(move |message| seen.lock().push(message.payload.len())));
    let mut server = Peer::start(&shared, LONG);
    let fencing = shared.fence().unwrap();
    for size in [3, 1_000_000, 65_536, 3_000_000, 7] {
        server.say(format!("MSG x {sid} {size}\r\n").as_bytes()).await;
        server.say(&vec![b'\n'; size]).await;
        server.say(b"\r\n").await;
    }
    server.say(b"PONG\r\n").await;
    assert_eq!(told(fencing).await, Ok(1));
    assert_eq!(*sizes.lock(), [3, 1_000_000, 65_536, 3_000_000, 7]);
}

#[test]
fn what_does_not_fit_is_dropped_and_commands_never_are() {
    let (shared, payload) = (shared(), Bytes::from(vec![7; 1 << 20]));
    assert!(!shared.publish("x", None, &payload), "without a connection");
    shared.up(Info { max_payload: 1 << 20, ..Info::default() });
    assert!(!shared.publish("x", None, &[7; (1 << 20) + 1]), "the server would end the connection");
    assert!(!shared.publish("x", Some("a b"), b""));
    let fitted = (0..100).take_while(|_| shared.publish("x", None, &payload)).count();
    assert!((60..64).contains(&fitted), "{fitted}");
    let mut events = shared.events.subscribe();
    shared.tell_overflow();
    shared.tell_overflow();
    assert_eq!((events.try_recv(), events.try_recv().is_err()), (Ok(BusEvent::Overflow), true));
    // Until it takes so little that the next connection is better.
    let mut churns = 0;
    while !shared.is_hopeless() {
        shared.unsubscribe(shared.subscribe("y".into(), nobody()));
        // Places are renewed once; from then on each churn is two commands.
        if churns == 0 {
            assert!(matches!(shared.next(Vec::new()), Next::Piece(_)));
        }
        churns += 1;
        assert!(churns < 10_000_000, "what waits is not bounded");
    }
    assert!(churns > 1_000_000, "{churns}");
    assert_eq!(shared.next(Vec::new()), Next::GiveUp);
    shared.down();
    assert_eq!(shared.metrics.nats_queued_bytes.get(), 0);
    shared.up(Info::default());
    assert!(!shared.is_hopeless() && shared.publish("x", None, &payload));
}

#[test]
fn a_lost_connection_ends_waits_and_forgets_what_waited() {
    let shared = shared();
    let mut events = shared.events.subscribe();
    assert_eq!(shared.fence().err(), Some(BusError::NotConnected));
    for generation in 1..3 {
        assert_eq!(shared.up(Info::default()), generation);
        let told = shared.fence().unwrap();
        shared.publish("x", None, b"of this connection");
        shared.down();
        assert_eq!((told.now_or_never().unwrap().unwrap(), shared.generation()), (Err(BusError::Reconnected), None));
        assert_eq!(events.try_recv(), Ok(BusEvent::Connected(generation)));
        assert_eq!(events.try_recv(), Ok(BusEvent::Disconnected));
    }
    shared.up(Info::default());
    let Next::Piece(piece) = shared.next(Vec::new()) else { panic!("nothing to write") };
    assert!(!String::from_utf8_lossy(&piece).contains("PUB"));
    assert_eq!(shared.metrics.nats_reconnects.get(), 2);
}

/// A server that says this, and reads what comes of it.
async fn introduced(options: NatsOptions, says: &'static [u8]) -> (Result<Info, Failed>, String) {
    let (near, mut far) = duplex(1 << 16);
    let server = Server { host: "x".into(), port: 1, wants_tls: false, tls_name: "x".into() };
    let talking = tokio::spawn(async move {
        far.write_all(says).await.unwrap();
        far.shutdown().await.unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    });
    let met = introduce(&options, &server, Box::new(near)).await.map(|fresh| {
        assert!(fresh.input.bytes().starts_with(b"MSG") || fresh.input.bytes().is_empty());
        fresh.info
    });
    (met, talking.await.unwrap())
}

#[tokio::test]
async fn a_server_takes_this_node_or_says_why_not() {
    let options = || NatsOptions::new("n1", ["nats://x"]).password("node", "hunter2");
    let (met, heard) =
        introduced(options(), b"INFO {\"server_id\":\"a\"}\r\nINFO {\"server_id\":\"b\"}\r\n+OK\r\nPONG\r\nMSG").await;
    assert_eq!(met.unwrap().server_id, "b");
    assert!(heard.starts_with("CONNECT {") && heard.ends_with("}\r\nPING\r\n") && heard.contains("hunter2"), "{heard}");
    let failed = async |says| introduced(options(), says).await;
    let (met, _) = failed(b"INFO {}\r\n-ERR 'Authorization Violation'\r\n").await;
    assert!(matches!(met, Err(Failed::Account(_))));
    let (met, _) = failed(b"INFO {}\r\n-ERR 'User Authentication Expired'\r\n").await;
    assert!(matches!(met, Err(Failed::Account(_))));
    let (met, heard) = failed(b"-ERR 'maximum connections exceeded'\r\n").await;
    assert!(matches!(met, Err(Failed::Other(text)) if text == "maximum connections exceeded") && heard.is_empty());
    let (met, heard) = failed(b"PONG\r\n").await;
    assert!(matches!(met, Err(Failed::Other(_))) && heard.is_empty(), "no server, and it got the password");
    let (met, _) = failed(b"INFO {}\r\n").await;
    assert!(matches!(met, Err(Failed::Io(_))));
}

#[tokio::test]
async fn passwords_are_not_sent_where_tls_was_asked_for_and_does_not_come() {
    let mut options = NatsOptions::new("n1", ["nats://x"]).password("node", "hunter2");
    options.tls.ca_file = Some(file!().into());
    let (met, heard) = introduced(options, b"INFO {}\r\nPONG\r\n").await;
    assert!(matches!(met, Err(Failed::Tls(why)) if why.contains("does not offer")) && heard.is_empty(), "{heard}");
    // Somebody in the middle, who adds to what the server says before the encryption.
    let options = NatsOptions::new("n1", ["nats://x"]).password("node", "hunter2");
    let (met, heard) = introduced(options, b"INFO {\"tls_required\":true}\r\nPONG\r\n").await;
    assert!(matches!(met, Err(Failed::Tls(_))) && heard.is_empty(), "{} bytes went out", heard.len());
}
