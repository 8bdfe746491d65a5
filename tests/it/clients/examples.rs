//! The Rust programs under `examples/`, run as they are: what they promise holds while nodes and they themselves are killed.

use std::{
    fs,
    io::{PipeWriter, Write as _},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use natter::{
    client::{Client, ClientOptions, Event, NewRoom, Pace},
    config::Config,
    model::{ConvId, MAX_SEQ, RoomId},
    nats_server::{NatsServer, ServerOptions},
    protocol::{Body, HistoryFrom, Message},
};
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    harness::{
        PATIENCE,
        certificates::Certificates,
        example::example_in,
        listing::root,
        process::{Process, output, output_of},
        proxy::{Fault, Proxy},
        skip::skip,
        terminator::Terminator,
        until,
    },
    mesh::{TestMesh, serve::ServeProcess, token},
};

const PROGRAMS: [&str; 3] = ["echo_bot", "bridge", "room_logger"];

/// The program in `folder`, as this user, with the rest of its arguments.
fn program(name: &str, folder: &Path, urls: &str, user: &str, rest: &[&str]) -> Command {
    fs::write(folder.join("token"), token(user)).unwrap();
    let mut command = example_in(name, folder);
    command.args([urls, "token"]).args(rest);
    command
}

/// A mesh of two nodes. What leads to the first one can be cut, and with it the node is as dead as one that was killed.
struct Two {
    mesh: TestMesh,
    front: Proxy,
    nats: Proxy,
}

impl Two {
    async fn start(tune: impl FnOnce(&mut Config)) -> Self {
        let mut mesh = TestMesh::bare(tune).await;
        let nats = Proxy::to(mesh.nats.client_addr()).await;
        mesh.add_node(nats.nats_url()).await;
        let url = mesh.nats.client_url();
        mesh.add_node(url).await;
        let front = Proxy::to(mesh.nodes[0].addr).await;
        Self { mesh, front, nats }
    }

    fn urls(&self) -> String {
        format!("ws://{}/v1/ws,{}", self.front.addr(), self.mesh.nodes[1].url())
    }

    /// The first node is gone.
    fn kill(&self) {
        self.front.apply(Fault::Cut);
        self.nats.apply(Fault::Cut);
    }

    /// A client on the other one.
    async fn client(&self, user: &str) -> Client {
        Client::connect(ClientOptions::new(self.mesh.nodes[1].url(), token(user), "d")).await.unwrap()
    }
}

async fn next_message(client: &Client) -> Message {
    loop {
        match timeout(PATIENCE, client.next()).await.expect("a message must come") {
            Some(Event::Message(message)) => return message,
            Some(Event::Closed(error)) => panic!("{error}"),
            Some(_) => {}
            None => panic!("the client has ended"),
        }
    }
}

/// What somebody wrote, in the order in which it comes.
async fn next_of(client: &Client, user: &str) -> String {
    loop {
        let message = next_message(client).await;
        if message.from.as_str() == user {
            return message.body.unwrap().parse().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_bot_answers_each_message_once_whatever_is_killed() {
    const EACH: usize = 20;
    let mesh = Two::start(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let start = |mesh: &Two| Process::start(program("echo_bot", folder.path(), &mesh.urls(), "echo", &[]));
    let (alice, mut bot) = (mesh.client("alice").await, start(&mesh));
    let say = async |range: std::ops::Range<usize>| {
        for i in range {
            alice.send("@echo", Body::text(&format!("m{i}"))).await.unwrap();
        }
    };
    say(0..EACH).await;
    assert_eq!(next_of(&alice, "echo").await, "m0");
    // Its node, and later the bot, between messages that are answered and others that are not yet.
    mesh.kill();
    bot.says("coming back").await;
    say(EACH..2 * EACH).await;
    for i in 1..EACH + 5 {
        assert_eq!(next_of(&alice, "echo").await, format!("m{i}"));
    }
    bot.kill9();
    say(2 * EACH..3 * EACH).await;
    let _bot = start(&mesh);
    for i in EACH + 5..3 * EACH {
        assert_eq!(next_of(&alice, "echo").await, format!("m{i}"));
    }
    // An answer to nothing, or a second one, would be in the log before the next one.
    say(3 * EACH..3 * EACH + 1).await;
    let log = ConvId::new("dm:alice:echo").unwrap();
    until("the last message is answered", async || {
        let page = alice.raw_history(&log, HistoryFrom::After(0), 200).await.unwrap();
        let mut answered: Vec<_> = page.messages.iter().filter_map(|row| row.reply_to).collect();
        let said: Vec<_> = page.messages.iter().filter(|row| row.from.as_str() == "alice").map(|row| row.seq).collect();
        answered.sort_unstable();
        assert!(answered.windows(2).all(|two| two[0] < two[1]), "{answered:?}");
        answered == said
    })
    .await;
    let other = mesh.client("echo").await.conversations(None, 10).await.unwrap();
    assert_eq!(other.items.len(), 1, "the bot does not answer itself");
}

/// Long enough that few of them fill a pipe.
fn line(i: usize) -> String {
    format!("{i:0200}")
}

/// Writes lines as fast as they are taken, until it is told to stop; returns how many there were.
fn feed(mut input: PipeWriter, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        writeln!(input, "{}", line(count)).unwrap();
        count += 1;
    }
    count
}

/// A bridge to bob that gets line after line, and what bob has seen of them.
struct Fed {
    bridge: Process,
    stop: Arc<AtomicBool>,
    feeding: JoinHandle<usize>,
    bob: Client,
    got: usize,
}

impl Fed {
    fn start(folder: &Path, urls: &str, bob: Client) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = program("bridge", folder, urls, "pipe", &["@bob"]);
        command.stdin(reader);
        let (bridge, stop) = (Process::reading(command), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let feeding = tokio::task::spawn_blocking(move || feed(writer, &stopped));
        Self { bridge, stop, feeding, bob, got: 0 }
    }

    /// The next lines come to bob.
    async fn lines(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(next_of(&self.bob, "pipe").await, line(self.got));
            self.got += 1;
        }
    }

    /// What bob says comes out.
    async fn answered(&mut self, body: Body, shown: &str) {
        self.bob.send("@pipe", body).await.unwrap();
        assert_eq!(timeout(PATIENCE, self.bridge.line()).await.unwrap().unwrap(), format!("bob: {shown}"));
    }

    /// The input ends; then so does the bridge, and every line is there once. Bob has said so many things.
    async fn ends(mut self, said: usize) {
        self.stop.store(true, Ordering::Release);
        let mut written = None;
        while written != Some(self.got) {
            tokio::select! {
                count = &mut self.feeding, if written.is_none() => written = Some(count.unwrap()),
                text = next_of(&self.bob, "pipe") => {
                    assert_eq!(text, line(self.got));
                    self.got += 1;
                }
            }
        }
        assert!(self.bridge.ended().await.success());
        assert_eq!(timeout(PATIENCE, self.bridge.line()).await.unwrap(), None, "nothing else was printed");
        let log = ConvId::new("dm:bob:pipe").unwrap();
        let page = self.bob.history(&log, HistoryFrom::Before(MAX_SEQ), 1).await.unwrap();
        assert_eq!(page.messages[0].seq as usize, self.got + said, "nothing is stored twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridge_loses_no_line_when_its_node_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let nats = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
    // Thousands of lines come in while bob waits before coming back.
    let mut serve = ServeProcess::start(folder.path(), &nats, "limits.backlog_per_conversation = 1000000").await;
    // He is never caught up, so his waits would grow with each restart.
    let pace = Pace { reconnect_most: Duration::from_millis(500), ..Pace::default() };
    let bob = Client::connect(ClientOptions::new(serve.url(), token("bob"), "d").pace(pace)).await.unwrap();
    let mut fed = Fed::start(folder.path(), &serve.url(), bob);
    for round in 0..3 {
        fed.lines(100).await;
        serve.restart().await;
        fed.answered(Body::text(&format!("round {round}")), &format!("round {round}")).await;
        fed.answered(Body::of(&[round]).unwrap(), &format!("[{round}]")).await;
    }
    fed.ends(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridge_goes_on_at_the_other_node_when_its_own_is_gone() {
    let mesh = Two::start(|config| config.limits.backlog_per_conversation = 1_000_000).await;
    let folder = tempfile::tempdir().unwrap();
    let bob = mesh.client("bob").await;
    let mut fed = Fed::start(folder.path(), &mesh.urls(), bob);
    fed.lines(100).await;
    mesh.kill();
    fed.bridge.says("coming back").await;
    fed.answered(Body::text("still there?"), "still there?").await;
    fed.lines(100).await;
    fed.ends(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bridge_says_what_is_refused_and_speaks_tls() {
    let mesh = Two::start(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let alice = mesh.client("alice").await;
    let lobby = RoomId::new("lobby").unwrap();
    alice.create_room(NewRoom { room: Some(lobby), public: true, ..NewRoom::default() }).await.unwrap();
    let refused = output_of(program("bridge", folder.path(), &mesh.urls(), "pipe", &["#lobby"]), "hi\n").await;
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && errors.starts_with("bridge: not_member: "), "{refused:?}");
    let Some(certificates) = Certificates::new() else { return skip("the bridge through TLS", "there is no openssl") };
    let front = Terminator::start(&certificates, "ours-server", mesh.mesh.nodes[0].addr).await;
    for (authority, status) in [("ours", 0), ("other", 1)] {
        let mut command = program("bridge", folder.path(), &front.url(), "pipe", &["@alice"]);
        command.env("SSL_CERT_FILE", certificates.path(&format!("{authority}.pem")));
        let done = output_of(command, "one\ntwo").await;
        assert_eq!(done.status.code(), Some(status), "{done:?}");
    }
    assert_eq!((next_of(&alice, "pipe").await, next_of(&alice, "pipe").await), ("one".to_owned(), "two".to_owned()));
}

/// The places of the rows in the file, of those that are whole.
fn logged(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.map(|row| row["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_logger_writes_each_row_once_over_restarts() {
    let mesh = Two::start(|config| config.limits.backlog_per_conversation = 20).await;
    let folder = tempfile::tempdir().unwrap();
    let (alice, lobby) = (mesh.client("alice").await, RoomId::new("lobby").unwrap());
    alice.create_room(NewRoom { room: Some(lobby), public: true, ..NewRoom::default() }).await.unwrap();
    let file = folder.path().join("lobby.jsonl");
    let start = |mesh: &Two| {
        Process::start(program("room_logger", folder.path(), &mesh.urls(), "log", &["lobby", "lobby.jsonl"]))
    };
    let say = async |count: usize| {
        let mut last = 0;
        for i in 0..count {
            alice.send("@log", Body::text("not of the room")).await.unwrap();
            last = alice.send("#lobby", Body::text(&format!("m{i}"))).await.unwrap().seq;
        }
        last
    };
    let has = async |seq| until("it is written", async || logged(&file).last() >= Some(&seq)).await;
    let mut logger = start(&mesh);
    until("it has joined", async || {
        alice.members(&RoomId::new("lobby").unwrap(), None, 10).await.unwrap().items.len() == 2
    })
    .await;
    has(say(30).await).await;
    // More than one hears of at once when it comes back; and the end of a line, which a kill can cut off.
    logger.kill9();
    let end = say(60).await;
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("{\"conv\":\"room:lobby\",\"se");
    fs::write(&file, text).unwrap();
    logger = start(&mesh);
    has(end).await;
    mesh.kill();
    let end = say(30).await;
    logger.kill9();
    // What was written but not acknowledged comes again.
    let text = fs::read_to_string(&file).unwrap();
    logger = start(&mesh);
    has(end.max(say(5).await)).await;
    logger.kill9();
    assert!(fs::read_to_string(&file).unwrap().starts_with(&text[..text.rfind('\n').unwrap_or(0)]));
    let (rows, first) = (logged(&file), logged(&file)[0]);
    assert_eq!(rows, (first..first + rows.len() as u64).collect::<Vec<_>>());
    assert!(first <= 3 && rows.len() >= 125, "{rows:?}");
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), rows.len());
}

#[tokio::test]
async fn each_is_short_and_says_how_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        let source = fs::read_to_string(root().join(format!("examples/{name}.rs"))).unwrap();
        assert!(source.lines().count() <= 80, "{name}");
        for arguments in [&["--help"][..], &[]] {
            let mut command = example_in(name, folder.path());
            command.args(arguments);
            let said = output(command).await;
            let usage = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.code() == Some(2) && usage.starts_with(&format!("{name} URL TOKEN_FILE")), "{usage}");
        }
    }
}
