//! What only natter's own link does: it leaves a server that is about to stop before it is thrown out, it notices a way that
//! swallows only what goes out, and a subscription costs next to nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use natter::{
    bus::{BusEvent, NatsOptions},
    config::{NatsLink, ServerUrl},
};

use super::site::{Heard, Site, connect, user};
use crate::harness::{
    nats::Cluster,
    proxy::{Direction, Fault, Proxy},
    until,
};

/// A server in lame duck mode throws its clients out after ten seconds at the earliest.
const BEFORE_THROWN_OUT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_a_server_that_is_about_to_stop() {
    let mut cluster = Cluster::start().await;
    let servers = &mut cluster.servers;
    let options = |node: &str, at: usize, servers: &[natter::nats_server::NatsServer]| {
        let mut options = NatsOptions::new(node, [servers[at].client_url()]);
        options = options.password("node", &servers[at].passwords().node);
        options.link = NatsLink::Own;
        options
    };
    let one = connect(options("n1", 0, servers)).await.unwrap();
    let two = connect(options("n2", 2, servers)).await.unwrap();
    let (heard, unheard) = (Heard::default(), Heard::default());
    unheard.listen_no_responders(&*one);
    let _sub = one.subscribe(&user("bob"), heard.listen());
    one.fence().await.unwrap();
    let mut events = one.events();
    let begin = Instant::now();
    // SAFETY: a signal to a process that this test started.
    assert_eq!(unsafe { libc::kill(i32::try_from(servers[0].pid()).unwrap(), libc::SIGUSR2) }, 0);
    // Up to the move, whatever is published is answered.
    let mut published = 0;
    while events.is_empty() {
        published += usize::from(one.publish_tagged(&user("nobody"), "x".into(), "tag"));
        one.fence().await.ok();
    }
    assert_eq!(events.recv().await, Ok(BusEvent::Disconnected));
    assert_eq!(events.recv().await, Ok(BusEvent::Connected(2)));
    assert!(begin.elapsed() < BEFORE_THROWN_OUT, "{:?}", begin.elapsed());
    assert!(servers[0].exited().is_none(), "the server is gone already");
    assert_eq!(one.fence().await, Ok(2));
    assert!(unheard.count() + 1 >= published, "{} of {published} were answered", unheard.count());
    until("the others know", async || {
        two.publish(&user("bob"), "hello".into());
        two.fence().await.unwrap();
        heard.count() > 0
    })
    .await;
    assert_eq!(two.connected(), Some(1));
}

/// What comes in all the time proves nothing about what goes out. (The library takes it for a sign of life.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_swallows_what_goes_out_is_noticed() {
    let site = Site::start().await.over(NatsLink::Own);
    let proxy = Proxy::to(site.server.client_addr()).await;
    let mut options = site.options("n1");
    options.urls = vec![ServerUrl::new(proxy.nats_url())];
    let (one, two) = (connect(options).await.unwrap(), site.bus("n2").await);
    let heard = Heard::default();
    let _sub = one.subscribe(&user("bob"), heard.listen());
    one.fence().await.unwrap();
    proxy.apply(Fault::Hold(Direction::ToServer));
    let say_until = async |what: &str, holds: &dyn Fn() -> bool| {
        until(what, async || {
            two.publish(&user("bob"), "hello".into());
            two.fence().await.unwrap();
            holds()
        })
        .await;
    };
    say_until("it is noticed", &|| one.connected().is_none()).await;
    let before = heard.count();
    assert!(before > 0, "nothing came in");
    proxy.heal();
    say_until("it is back and hears", &|| one.connected().is_some() && heard.count() > before).await;
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Alone in its process, because it looks at the memory of all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --test it what_a_subscription_costs -- --ignored --nocapture --test-threads 1"]
async fn what_a_subscription_costs() {
    const USERS: usize = 100_000;
    for link in [NatsLink::Own, NatsLink::AsyncNats] {
        let mut site = Site::start().await.over(link);
        let bus = site.bus("n1").await;
        let subjects: Vec<_> = (0..USERS).map(|i| user(&format!("u{i:08}"))).collect();
        let on_message: natter::bus::OnMessage = Arc::new(|_| ());
        let before = resident();
        let begin = Instant::now();
        let subs: Vec<_> = subjects.iter().map(|subject| bus.subscribe(subject, on_message.clone())).collect();
        until("the server has them", async || bus.fence().await == Ok(1)).await;
        let took = begin.elapsed();
        let each = (resident() - before) / USERS;
        let mut events = bus.events();
        site.server.restart().await.unwrap();
        while events.recv().await != Ok(BusEvent::Connected(2)) {}
        let begin = Instant::now();
        until("the server has them again", async || bus.fence().await == Ok(2)).await;
        println!(
            "{link:?}: {each} bytes a subscription with its handle, {took:?} for {USERS}, {:?} after a restart",
            begin.elapsed()
        );
        drop(subs);
        if link == NatsLink::Own {
            assert!(each < 400, "{each} bytes");
        }
    }
}
