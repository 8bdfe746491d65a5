//! What is special about the bus on NATS: what it counts, servers that stop, restart and overflow, and clusters. What
//! every bus must do is in `contract`.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use natter::{
    bus::{Bus, BusError, BusEvent, NatsOptions},
    config::NatsLink,
    nats_server::{NatsServer, Passwords, ServerOptions, free_ports},
    subject::Subject,
};

use super::{
    contract::Login,
    site::{Heard, Site, connect, user},
};
use crate::harness::{links::on_both_links, nats::Cluster, until};

bus_contract!(contract, super::over_own);
bus_contract!(library_contract, super::over_library);

async fn over_own(login: Login) -> Arc<dyn Bus> {
    over(NatsLink::Own, login).await
}

async fn over_library(login: Login) -> Arc<dyn Bus> {
    over(NatsLink::AsyncNats, login).await
}

async fn over(link: NatsLink, login: Login) -> Arc<dyn Bus> {
    let mut options = NatsOptions::new(&login.node, [login.url]).password("node", &login.password);
    (options.link, options.ping_interval) = (link, Duration::from_secs(1));
    connect(options).await.unwrap().bus
}

/// The subscriptions of the bus itself: for answers and for "no responders", and on the library for fences.
fn own_subscriptions(link: NatsLink) -> i64 {
    match link {
        NatsLink::Own => 2,
        NatsLink::AsyncNats => 3,
    }
}

async fn after_a_fence_what_another_node_publishes_arrives(link: NatsLink) {
    // On a worker thread, which runs the task it woke last first: even so, a fence must not overtake a subscription.
    tokio::spawn(fence_and_publish(link)).await.unwrap();
}

async fn fence_and_publish(link: NatsLink) {
    const AT_ONCE: usize = 20;
    let site = Site::start().await.over(link);
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    for round in 0..200 {
        let heard = Heard::default();
        let users: Vec<_> = (0..AT_ONCE).map(|i| user(&format!("u{round}-{i}"))).collect();
        let _subs: Vec<_> = users.iter().map(|subject| one.subscribe(subject, heard.listen())).collect();
        assert_eq!(one.fence().await, Ok(1));
        for subject in &users {
            two.publish(subject, Bytes::from(subject.to_string()));
        }
        heard.has_count(AT_ONCE).await;
    }
}

async fn concurrent_fences_share_a_round_trip(link: NatsLink) {
    let site = Site::start().await.over(link);
    let bus = site.bus("n1").await;
    let all = futures_util::future::join_all((0..1000).map(|_| bus.fence())).await;
    assert!(all.iter().all(|outcome| *outcome == Ok(1)));
    assert!(bus.metrics().nats_fences.get() <= 3, "{}", bus.metrics().nats_fences.get());
}

async fn a_fence_does_not_wait_for_a_stopped_server(link: NatsLink) {
    let site = Site::start().await.over(link);
    let mut options = site.options("n1");
    options.ping_interval = Duration::from_secs(10);
    let bus = connect(options).await.unwrap();
    site.server.pause();
    let begin = Instant::now();
    let (first, second) = tokio::join!(bus.fence(), bus.fence());
    assert_eq!((first, second), (Err(BusError::TimedOut), Err(BusError::TimedOut)));
    assert!((1.9..2.9).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
    site.server.resume();
    assert_eq!(bus.fence().await, Ok(1), "the late answer to an earlier fence must not do");
}

async fn a_stopped_server_is_noticed_and_a_fence_in_flight_ends(link: NatsLink) {
    let site = Site::start().await.over(link);
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

async fn a_fence_that_loses_its_connection_says_so_at_once(link: NatsLink) {
    let mut site = Site::start().await.over(link);
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

async fn ten_thousand_subscriptions_survive_a_restart(link: NatsLink) {
    const USERS: u64 = 10_000;
    let mut site = Site::start().await.over(link);
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
    heard.has_count(USERS as usize).await;
    assert_eq!(heard.all().iter().collect::<BTreeSet<_>>().len() as u64, USERS);
    assert_eq!((one.metrics().nats_reconnects.get(), one.metrics().nats_dropped.get()), (1, 0));
    assert_eq!(one.metrics().subscriptions.get(), i64::try_from(USERS).unwrap() + own_subscriptions(link));
    drop(subs);
    assert_eq!(one.metrics().subscriptions.get(), own_subscriptions(link));
}

async fn a_node_goes_to_another_server_of_its_cluster(link: NatsLink) {
    let mut cluster = Cluster::start().await;
    let servers = &mut cluster.servers;
    let connect = async |node: &str, server: &NatsServer| {
        let mut options = NatsOptions::new(node, [server.client_url()]).password("node", &server.passwords().node);
        options.link = link;
        connect(options).await.unwrap()
    };
    let (one, two) = (connect("n1", &servers[0]).await, connect("n2", &servers[2]).await);
    let heard = Heard::default();
    let _sub = one.subscribe(&user("bob"), heard.listen());
    assert_eq!(one.fence().await, Ok(1));
    // It knows the address of the first server only, which told it about the others.
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

async fn what_nobody_else_hears_is_told(link: NatsLink) {
    let site = Site::start().await.over(link);
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let (unheard, heard) = (Heard::default(), Heard::default());
    unheard.listen_no_responders(&*one);
    let _own = one.subscribe(&user("alice"), heard.listen());
    let theirs = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    one.publish_tagged(&user("alice"), "own".into(), "alice.dm:alice:alice.1");
    one.publish_tagged(&user("bob"), "theirs".into(), "bob.dm:alice:bob.17");
    one.publish_tagged(&user("eve"), "nobody's".into(), "eve.room:lobby.3");
    unheard.has("eve.room:lobby.3").await;
    heard.has("theirs").await;
    assert_eq!(unheard.all(), ["alice.dm:alice:alice.1", "eve.room:lobby.3"]);
    assert_eq!(heard.all(), ["theirs"], "a node does not hear itself");

    // Only the server's word counts, not a notice from a third party.
    two.publish(&Subject::node("n1", "no_responders.forged"), "".into());
    drop(theirs);
    two.fence().await.unwrap();
    until("the subscription is gone", async || {
        one.publish_tagged(&user("bob"), "late".into(), "bob.late");
        one.fence().await.unwrap();
        unheard.all().iter().any(|tag| tag == "bob.late")
    })
    .await;
    assert!(!unheard.all().iter().any(|tag| tag == "forged"));
    assert_eq!(two.metrics().subscriptions.get(), own_subscriptions(link));
}

async fn while_the_server_is_down_a_publish_returns_at_once(link: NatsLink) {
    let mut site = Site::start().await.over(link);
    let bus = site.bus("n1").await;
    site.server.kill9();
    until("the loss is noticed", async || bus.connected().is_none()).await;
    // Each by itself: how long all of them take says more about the machine.
    let mut slowest = Duration::ZERO;
    for _ in 0..100_000 {
        let begin = Instant::now();
        bus.publish(&user("bob"), Bytes::from_static(&[0; 300]));
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    assert_eq!((bus.metrics().nats_dropped.get(), bus.metrics().nats_queued_bytes.get()), (100_000, 0));

    // More subscriptions than the library queues: the fence still comes after the last of them.
    let heard = Heard::default();
    let mut subs: Vec<_> = (0..70_000).map(|_| bus.subscribe(&user("carol"), heard.listen())).collect();
    subs.push(bus.subscribe(&user("dave"), heard.listen()));
    site.server.restart().await.unwrap();
    until("it is back", async || bus.fence().await == Ok(2)).await;
    let other = site.bus("n2").await;
    other.publish(&user("dave"), "hello".into());
    heard.has("hello").await;
}

async fn a_node_starts_without_a_server_and_finds_it_later(link: NatsLink) {
    let port = free_ports(1).unwrap()[0];
    let passwords = Passwords::random();
    let mut options = NatsOptions::new("n1", [format!("nats://node:{}@127.0.0.1:{port}", passwords.node)]);
    (options.connect_timeout, options.link) = (Duration::from_millis(200), link);
    let bus = connect(options).await.unwrap();
    assert_eq!(bus.connected(), None);
    let heard = Heard::default();
    let _sub = bus.subscribe(&user("bob"), heard.listen());
    let folder = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(folder.path());
    (options.port, options.passwords) = (port, passwords);
    let site = Site::with(options, folder).await.over(link);
    until("it is found", async || bus.fence().await == Ok(1)).await;
    let other = site.bus("n2").await;
    other.publish(&user("bob"), "hello".into());
    heard.has("hello").await;
}

async fn a_stalled_server_costs_bounded_memory_and_no_time(link: NatsLink) {
    let site = Site::start().await.over(link);
    let mut options = site.options("n1");
    options.ping_interval = Duration::from_secs(10);
    let bus = connect(options).await.unwrap();
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
    let queued = bus.metrics().nats_queued_bytes.get();
    assert!((32 << 20..=64 << 20).contains(&queued), "{queued}");
    assert!(bus.metrics().nats_dropped.get() > 0);
    assert_eq!(events.recv().await, Ok(BusEvent::Overflow));
    site.server.resume();
    until("the queue is empty", async || bus.metrics().nats_queued_bytes.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_cannot_keep_up_is_told() {
    let site = Site::start().await.over(NatsLink::AsyncNats);
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
    assert!(one.metrics().nats_slow_consumers.get() > 0);
}

async fn close_sends_what_waits(link: NatsLink) {
    // Fewer than the receiver's queue holds: in these tests one thread does everything.
    const COUNT: u64 = 3_000;
    let site = Site::start().await.over(link);
    let (one, two) = (site.bus("n1").await, site.bus("n2").await);
    let heard = Heard::default();
    let _sub = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    // Far more than the sockets between here and the server hold.
    let text = |i: u64| format!("{i:04096}");
    for i in 0..COUNT {
        one.publish(&user("bob"), Bytes::from(text(i)));
    }
    one.close().await;
    assert_eq!(one.connected(), None);
    assert_eq!(one.fence().await, Err(BusError::NotConnected));
    heard.has(&text(COUNT - 1)).await;
    assert_eq!((heard.all().len() as u64, one.metrics().nats_dropped.get()), (COUNT, 0));
}

on_both_links!(after_a_fence_what_another_node_publishes_arrives);
on_both_links!(single: concurrent_fences_share_a_round_trip, a_fence_does_not_wait_for_a_stopped_server, a_stopped_server_is_noticed_and_a_fence_in_flight_ends, a_fence_that_loses_its_connection_says_so_at_once, ten_thousand_subscriptions_survive_a_restart, a_node_goes_to_another_server_of_its_cluster, what_nobody_else_hears_is_told, while_the_server_is_down_a_publish_returns_at_once, a_node_starts_without_a_server_and_finds_it_later, a_stalled_server_costs_bounded_memory_and_no_time, close_sends_what_waits);
