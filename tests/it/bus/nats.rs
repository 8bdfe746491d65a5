//! The bus on a real server: what is heard, what a fence proves, and what happens while the server is away.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use natter::{
    bus::{
        Bus, BusError, BusEvent, OnMessage,
        nats::{NatsBus, NatsOptions},
    },
    model::UserId,
    nats_server::{ClusterOptions, NatsServer, Passwords, ServerOptions, free_ports},
    subject::Subject,
};
use tempfile::TempDir;

use crate::cli::nats_server::{cluster, until};

/// A server, or a cluster of three, and the folder they live in.
pub struct Site {
    /// The one that nodes connect to.
    pub server: NatsServer,
    /// The rest of the cluster.
    others: Vec<NatsServer>,
    _folder: TempDir,
}

impl Site {
    pub async fn start() -> Self {
        Self::on_port(0).await
    }

    async fn on_port(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(folder.path());
        options.port = port;
        Self { server: NatsServer::start(options).await.unwrap(), others: Vec::new(), _folder: folder }
    }

    /// Three servers with routes to each other.
    pub async fn cluster() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ports, passwords) = (free_ports(3).unwrap(), Passwords::random());
        let starts = ports.iter().enumerate().map(|(i, port)| {
            let mut options = ServerOptions::new(folder.path().join(i.to_string()));
            options.name = format!("nats-{i}");
            options.passwords = passwords.clone();
            let routes = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            options.cluster = Some(ClusterOptions { port: *port, routes, advertise: None });
            NatsServer::start(options)
        });
        let mut servers = futures_util::future::try_join_all(starts).await.unwrap();
        for server in &servers {
            until("every server has a route to the two others", async || server.routes().await.len() == 2).await;
        }
        Self { server: servers.remove(0), others: servers, _folder: folder }
    }

    /// Where those who are no nodes connect: another server, where there is one.
    pub fn guest_url(&self) -> String {
        self.others.last().unwrap_or(&self.server).client_url()
    }

    /// Returns when the guests' server knows every subscription that `node` made before.
    pub async fn settled(&self, node: &NatsBus) {
        let (subject, heard) = (Subject::node("nobody", "settled"), Heard::default());
        let _sub = node.subscribe(&subject, heard.listen());
        node.fence().await.unwrap();
        let mut options = self.options("settling");
        options.urls = vec![self.guest_url()];
        let far = NatsBus::connect(options).await.unwrap();
        // Subscriptions go over a route in their order, so this one tells of those before it.
        until("the other server knows the subscriptions", async || {
            far.publish(&subject, "here".into());
            far.fence().await.unwrap();
            !heard.all().is_empty()
        })
        .await;
    }

    fn options(&self, node: &str) -> NatsOptions {
        let mut options =
            NatsOptions::new(node, [self.server.client_url()]).password("node", &self.server.passwords().node);
        options.ping_interval = Duration::from_secs(1);
        options
    }

    pub async fn bus(&self, node: &str) -> Arc<NatsBus> {
        NatsBus::connect(self.options(node)).await.unwrap()
    }
}

/// Remembers what came.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub fn listen(&self) -> OnMessage {
        let heard = self.clone();
        Arc::new(move |message| heard.push(std::str::from_utf8(&message.payload).unwrap()))
    }

    pub fn listen_unheard(&self, bus: &NatsBus) {
        let heard = self.clone();
        bus.on_unheard(Arc::new(move |tag| heard.push(tag)));
    }

    fn push(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub async fn has(&self, text: &str) {
        until(&format!("{text} is heard"), async || self.all().iter().any(|heard| heard == text)).await;
    }
}

pub fn user(name: &str) -> Subject {
    Subject::user(&UserId::new(name).unwrap())
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fence_what_another_node_publishes_arrives() {
    // On a worker, which runs the task it woke last first: a fence must not overtake a subscription even so.
    tokio::spawn(fence_and_publish()).await.unwrap();
}

async fn fence_and_publish() {
    const AT_ONCE: usize = 20;
    let site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    for round in 0..200 {
        let heard = Heard::default();
        let users: Vec<_> = (0..AT_ONCE).map(|i| user(&format!("u{round}-{i}"))).collect();
        let _subs: Vec<_> = users.iter().map(|subject| one.subscribe(subject, heard.listen())).collect();
        assert_eq!(one.fence().await, Ok(1));
        for subject in &users {
            two.publish(subject, Bytes::from(subject.to_string()));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while heard.all().len() < AT_ONCE {
            assert!(Instant::now() < deadline, "round {round}: {:?}", heard.all());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn concurrent_fences_share_a_round_trip() {
    let site = Site::start().await;
    let bus = site.bus("n1").await;
    let all = futures_util::future::join_all((0..1000).map(|_| bus.fence())).await;
    assert!(all.iter().all(|outcome| *outcome == Ok(1)));
    assert!(get(&bus.stats().fences) <= 3, "{}", get(&bus.stats().fences));
}

#[tokio::test]
async fn a_fence_does_not_wait_for_a_stopped_server() {
    let site = Site::start().await;
    let mut options = site.options("n1");
    options.ping_interval = Duration::from_secs(10);
    let bus = NatsBus::connect(options).await.unwrap();
    site.server.pause();
    let begin = Instant::now();
    let (first, second) = tokio::join!(bus.fence(), bus.fence());
    assert_eq!((first, second), (Err(BusError::TimedOut), Err(BusError::TimedOut)));
    assert!((1.9..2.9).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
    site.server.resume();
    assert_eq!(bus.fence().await, Ok(1), "the late answer to an earlier fence must not do");
}

#[tokio::test]
async fn a_stopped_server_is_noticed_and_a_fence_in_flight_ends() {
    let site = Site::start().await;
    let bus = site.bus("n1").await;
    let mut events = bus.events();
    site.server.pause();
    until("the loss is noticed", async || bus.connected().is_none()).await;
    let begin = Instant::now();
    assert_eq!(bus.fence().await, Err(BusError::NotConnected));
    assert!(begin.elapsed() < Duration::from_millis(500));
    assert_eq!(events.recv().await, Ok(BusEvent::Disconnected));
    site.server.resume();
    assert_eq!(events.recv().await, Ok(BusEvent::Connected(2)));
}

#[tokio::test]
async fn a_fence_that_loses_its_connection_says_so_at_once() {
    let mut site = Site::start().await;
    let bus = site.bus("n1").await;
    site.server.pause();
    let begin = Instant::now();
    let kill = async {
        tokio::task::yield_now().await;
        site.server.kill9();
    };
    let (outcome, ()) = tokio::join!(bus.fence(), kill);
    assert_eq!(outcome, Err(BusError::Reconnected));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn ten_thousand_subscriptions_survive_a_restart() {
    const USERS: u64 = 10_000;
    let mut site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let heard = Heard::default();
    let subs: Vec<_> = (0..USERS).map(|i| one.subscribe(&user(&i.to_string()), heard.listen())).collect();
    assert_eq!(one.fence().await, Ok(1));
    let mut events = one.events();
    site.server.restart().await.unwrap();
    assert_eq!(events.recv().await, Ok(BusEvent::Disconnected));
    assert_eq!(events.recv().await, Ok(BusEvent::Connected(2)));
    assert_eq!(one.fence().await, Ok(2), "right after the event, when the library has not subscribed again yet");
    until("the other is back", async || two.fence().await == Ok(2)).await;
    for i in 0..USERS {
        two.publish(&user(&i.to_string()), Bytes::from(i.to_string()));
    }
    until("all are heard", async || heard.all().len() as u64 == USERS).await;
    assert_eq!(heard.all().iter().collect::<BTreeSet<_>>().len() as u64, USERS);
    assert_eq!((get(&one.stats().reconnects), get(&one.stats().dropped)), (1, 0));
    // The fence's and the one for what nobody heard are counted too.
    assert_eq!(get(&one.stats().subscriptions), USERS + 2);
    drop(subs);
    assert_eq!(get(&one.stats().subscriptions), 2);
}

#[tokio::test]
async fn a_node_goes_to_another_server_of_its_cluster() {
    let (mut servers, _folder) = cluster().await;
    let connect = async |node: &str, server: &NatsServer| {
        let options = NatsOptions::new(node, [server.client_url()]).password("node", &server.passwords().node);
        NatsBus::connect(options).await.unwrap()
    };
    let (one, two) = (connect("n1", &servers[0]).await, connect("n2", &servers[2]).await);
    let heard = Heard::default();
    let _sub = one.subscribe(&user("bob"), heard.listen());
    assert_eq!(one.fence().await, Ok(1));
    // It knows the address of the first server only; the others it was told by that one.
    servers[0].kill9();
    until("it is with another server", async || one.fence().await == Ok(2)).await;
    // The fence is about its own server: the others learn of the subscription a moment later.
    until("the other servers know", async || {
        two.publish(&user("bob"), "hello".into());
        two.fence().await.unwrap();
        !heard.all().is_empty()
    })
    .await;
    assert_eq!(two.connected(), Some(1));
}

#[tokio::test]
async fn what_nobody_else_hears_is_told() {
    let site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let (unheard, heard) = (Heard::default(), Heard::default());
    unheard.listen_unheard(&one);
    let _own = one.subscribe(&user("alice"), heard.listen());
    let theirs = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    one.publish_or_tell(&user("alice"), "own".into(), "alice.dm:alice:alice.1");
    one.publish_or_tell(&user("bob"), "theirs".into(), "bob.dm:alice:bob.17");
    one.publish_or_tell(&user("eve"), "nobody's".into(), "eve.room:lobby.3");
    unheard.has("eve.room:lobby.3").await;
    heard.has("theirs").await;
    assert_eq!(unheard.all(), ["alice.dm:alice:alice.1", "eve.room:lobby.3"]);
    assert_eq!(heard.all(), ["theirs"], "a node does not hear itself");

    // Only the server's word counts, not a notice from somebody.
    two.publish(&Subject::node("n1", "unheard.forged"), "".into());
    drop(theirs);
    two.fence().await.unwrap();
    until("the subscription is gone", async || {
        one.publish_or_tell(&user("bob"), "late".into(), "bob.late");
        one.fence().await.unwrap();
        unheard.all().iter().any(|tag| tag == "bob.late")
    })
    .await;
    assert!(!unheard.all().iter().any(|tag| tag == "forged"));
    assert_eq!(get(&two.stats().subscriptions), 2);
}

#[tokio::test]
async fn of_a_queue_group_one_member_hears() {
    let site = Site::start().await;
    let (one, two, three) = (site.bus("n1").await, site.bus("n2").await, site.bus("n3").await);
    let heard = Heard::default();
    let _subs = [&one, &two].map(|bus| bus.queue_subscribe(&Subject::nodes(), "natter", heard.listen()));
    one.fence().await.unwrap();
    two.fence().await.unwrap();
    let last = Heard::default();
    let _last = [&one, &two].map(|bus| bus.subscribe(&user("end"), last.listen()));
    one.fence().await.unwrap();
    two.fence().await.unwrap();
    for i in 0..100 {
        three.publish(&Subject::nodes(), Bytes::from(i.to_string()));
    }
    three.publish(&user("end"), "end".into());
    until("both heard the end", async || last.all().len() == 2).await;
    until("all are heard", async || heard.all().len() >= 100).await;
    assert_eq!(heard.all().iter().collect::<BTreeSet<_>>().len(), heard.all().len());
}

#[tokio::test]
async fn while_the_server_is_down_a_publish_returns_at_once() {
    let mut site = Site::start().await;
    let bus = site.bus("n1").await;
    site.server.kill9();
    until("the loss is noticed", async || bus.connected().is_none()).await;
    let begin = Instant::now();
    for _ in 0..100_000 {
        bus.publish(&user("bob"), Bytes::from_static(&[0; 300]));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!((get(&bus.stats().dropped), get(&bus.stats().queued_bytes)), (100_000, 0));

    // More subscriptions than the library queues: the fence comes after the last of them all the same.
    let heard = Heard::default();
    let mut subs: Vec<_> = (0..70_000).map(|_| bus.subscribe(&user("carol"), heard.listen())).collect();
    subs.push(bus.subscribe(&user("dave"), heard.listen()));
    site.server.restart().await.unwrap();
    until("it is back", async || bus.fence().await == Ok(2)).await;
    site.bus("n2").await.publish(&user("dave"), "hello".into());
    heard.has("hello").await;
}

#[tokio::test]
async fn a_node_starts_without_a_server_and_finds_it_later() {
    let port = free_ports(1).unwrap()[0];
    let passwords = natter::nats_server::Passwords::random();
    let mut options = NatsOptions::new("n1", [format!("nats://node:{}@127.0.0.1:{port}", passwords.node)]);
    options.connect_timeout = Duration::from_millis(200);
    let bus = NatsBus::connect(options).await.unwrap();
    assert_eq!(bus.connected(), None);
    let heard = Heard::default();
    let _sub = bus.subscribe(&user("bob"), heard.listen());
    let folder = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(folder.path());
    (options.port, options.passwords) = (port, passwords);
    let site = Site { server: NatsServer::start(options).await.unwrap(), others: Vec::new(), _folder: folder };
    until("it is found", async || bus.fence().await == Ok(1)).await;
    site.bus("n2").await.publish(&user("bob"), "hello".into());
    heard.has("hello").await;
}

#[tokio::test]
async fn a_stalled_server_costs_bounded_memory_and_no_time() {
    let site = Site::start().await;
    let mut options = site.options("n1");
    options.ping_interval = Duration::from_secs(10);
    let bus = NatsBus::connect(options).await.unwrap();
    let mut events = bus.events();
    site.server.pause();
    let payload = Bytes::from(vec![7; 64 << 10]);
    let mut slowest = Duration::ZERO;
    for _ in 0..1_500 {
        let begin = Instant::now();
        bus.publish(&user("bob"), payload.clone());
        slowest = slowest.max(begin.elapsed());
        tokio::task::yield_now().await;
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    let queued = get(&bus.stats().queued_bytes);
    assert!((32 << 20..=64 << 20).contains(&queued), "{queued}");
    assert!(get(&bus.stats().dropped) > 0);
    assert_eq!(events.recv().await, Ok(BusEvent::Overflow));
    site.server.resume();
    until("the queue is empty", async || get(&bus.stats().queued_bytes) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_cannot_keep_up_is_told() {
    let site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let mut events = one.events();
    let (gate, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    // Breaks the rule that a callback does not block, which is what being too slow comes down to.
    let _sub = one.subscribe(
        &user("bob"),
        Arc::new(move |_| {
            let _closed = wait.lock().unwrap().recv();
        }),
    );
    one.fence().await.unwrap();
    for _ in 0..6_000 {
        two.publish(&user("bob"), "x".into());
    }
    two.fence().await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
    drop(gate);
    assert_eq!(told.unwrap(), Ok(BusEvent::SlowConsumer));
    assert!(get(&one.stats().slow_consumers) > 0);
}

#[tokio::test]
async fn close_sends_what_waits() {
    // Fewer than the receiver's queue holds: in these tests one thread does everything.
    const COUNT: u64 = 3_000;
    let site = Site::start().await;
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let heard = Heard::default();
    let _sub = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    for i in 0..COUNT {
        one.publish(&user("bob"), Bytes::from(i.to_string()));
    }
    one.close().await;
    assert_eq!(one.connected(), None);
    assert_eq!(one.fence().await, Err(BusError::NotConnected));
    heard.has(&(COUNT - 1).to_string()).await;
    assert_eq!((heard.all().len() as u64, get(&one.stats().dropped)), (COUNT, 0));
}
