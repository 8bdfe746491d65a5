//! What every bus promises, whichever engine carries it: one rule per function, one test per rule and engine. An engine
//! joins with one line, `bus_contract!(name, connect)`.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::ConnectOptions;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use natter::{
    bus::{Bus, BusError, BusEvent},
    model::UserId,
    subject::{QUEUE_GROUP, Subject},
};
use tokio::{sync::broadcast, time::timeout};

use super::site::{Heard, Site, user};
use crate::harness::{
    PATIENCE,
    proxy::{Direction, Fault, Proxy},
    until,
};

/// Far more than a call that must not wait takes, far less than what it would wait for.
const AT_ONCE: Duration = Duration::from_millis(300);

/// What an engine connects with. It must notice within a few seconds that a connection no longer carries anything.
pub struct Login {
    pub node: String,
    pub url: String,
    /// The password of the nodes' account.
    pub password: String,
}

/// An engine, as a function that connects a node.
pub type Connect = fn(Login) -> BoxFuture<'static, Arc<dyn Bus>>;

/// A server and an engine.
pub struct Bed {
    site: Site,
    connect: Connect,
}

impl Bed {
    pub async fn new(connect: Connect) -> Self {
        Self { site: Site::start().await, connect }
    }

    async fn node(&self, name: &str) -> Arc<dyn Bus> {
        self.node_at(name, self.site.server.client_addr()).await
    }

    async fn node_at(&self, name: &str, addr: SocketAddr) -> Arc<dyn Bus> {
        let password = self.site.server.passwords().node.clone();
        let login = Login { node: name.to_owned(), url: format!("nats://{addr}"), password };
        let bus = (self.connect)(login).await;
        assert_eq!(bus.connected(), Some(1));
        bus
    }

    /// A node whose connection to the server can be broken.
    async fn breakable(&self, name: &str) -> (Arc<dyn Bus>, Proxy) {
        let proxy = Proxy::to(self.site.server.client_addr()).await;
        (self.node_at(name, proxy.addr()).await, proxy)
    }
}

/// Makes a test of every rule for one engine. `$connect` is an async function from a [`Login`] to a bus.
macro_rules! bus_contract {
    ($engine:ident, $connect:path) => {
        mod $engine {
            bus_contract! { @tests $connect;
                messages_come_in_the_order_in_which_they_were_published,
                of_a_queue_group_one_member_hears,
                a_node_does_not_hear_itself,
                what_no_other_node_hears_is_told_with_its_tag,
                a_request_is_answered_in_its_inbox_and_nowhere_else,
                a_subscription_ends_when_it_is_dropped,
                a_fence_waits_for_the_server_in_both_directions,
                a_fence_comes_after_every_subscription_before_it,
                fences_at_the_same_time_all_come_back,
                a_fence_that_loses_its_connection_ends_at_once,
                a_lost_connection_and_the_next_are_told,
                subscriptions_are_made_again_on_the_next_connection,
                without_a_connection_a_publish_is_dropped,
                nothing_waits_while_the_connection_is_stalled,
                closing_sends_what_waits,
            }
        }
    };
    (@tests $connect:path; $($rule:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let bed = crate::bus::contract::Bed::new(|login| Box::pin($connect(login))).await;
                crate::bus::contract::$rule(&bed).await;
            }
        )+
    };
}

fn text(number: usize) -> Bytes {
    number.to_string().into()
}

async fn event(events: &mut broadcast::Receiver<BusEvent>) -> BusEvent {
    timeout(PATIENCE, events.recv()).await.expect("no event came").unwrap()
}

pub async fn messages_come_in_the_order_in_which_they_were_published(bed: &Bed) {
    const COUNT: usize = 2_000;
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let heard = Heard::default();
    let _sub = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    for number in 0..COUNT {
        one.publish(&user("bob"), text(number));
    }
    heard.has_count(COUNT).await;
    assert_eq!(heard.all(), (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
}

pub async fn of_a_queue_group_one_member_hears(bed: &Bed) {
    const COUNT: usize = 100;
    let (one, two, three) = (bed.node("n1").await, bed.node("n2").await, bed.node("n3").await);
    let (heard, last) = (Heard::default(), Heard::default());
    let members = [&one, &two];
    let _subs = members.map(|bus| bus.queue_subscribe(&Subject::nodes(), QUEUE_GROUP, heard.listen()));
    let _last = members.map(|bus| bus.subscribe(&user("end"), last.listen()));
    for member in members {
        member.fence().await.unwrap();
    }
    for number in 0..COUNT {
        three.publish(&Subject::nodes(), text(number));
    }
    three.publish(&user("end"), "end".into());
    last.has_count(2).await;
    heard.has_count(COUNT).await;
    assert_eq!(heard.all().iter().collect::<BTreeSet<_>>().len(), COUNT);
    assert_eq!(heard.all().len(), COUNT, "a message came to both members");
}

pub async fn a_node_does_not_hear_itself(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let (at_one, at_two) = (Heard::default(), Heard::default());
    let _subs = [(&one, &at_one), (&two, &at_two)].map(|(bus, heard)| bus.subscribe(&user("bob"), heard.listen()));
    one.fence().await.unwrap();
    two.fence().await.unwrap();
    one.publish(&user("bob"), "of one".into());
    at_two.has("of one").await;
    two.publish(&user("bob"), "of two".into());
    at_one.has("of two").await;
    assert_eq!((at_one.all(), at_two.all()), (vec!["of two".to_owned()], vec!["of one".to_owned()]));
}

pub async fn what_no_other_node_hears_is_told_with_its_tag(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let (unheard, heard) = (Heard::default(), Heard::default());
    unheard.listen_no_responders(&*one);
    let _own = one.subscribe(&user("alice"), heard.listen());
    let _theirs = two.subscribe(&user("bob"), heard.listen());
    one.fence().await.unwrap();
    two.fence().await.unwrap();
    one.publish_tagged(&user("alice"), "own".into(), "alice.dm:alice:alice.1");
    one.publish_tagged(&user("bob"), "theirs".into(), "bob.dm:alice:bob.17");
    one.publish(&user("eve"), "nobody asked".into());
    one.publish_tagged(&user("eve"), "nobody's".into(), "eve.room:lobby.3");
    unheard.has("eve.room:lobby.3").await;
    heard.has("theirs").await;
    assert_eq!(unheard.all(), ["alice.dm:alice:alice.1", "eve.room:lobby.3"]);
}

pub async fn a_request_is_answered_in_its_inbox_and_nowhere_else(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let (answering, taken) = (Arc::clone(&one), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&taken);
    let _sub = one.queue_subscribe(
        &Subject::all_sends(),
        QUEUE_GROUP,
        Arc::new(move |message| {
            let answer = Bytes::from(format!("answer to {}", message.subject));
            answering.reply("billing", &message.reply.expect("a request says where its answer goes"), answer);
            counter.fetch_add(1, Ordering::AcqRel);
        }),
    );
    one.fence().await.unwrap();
    let server = &bed.site.server;
    let login = ConnectOptions::with_user_and_password("billing".into(), server.passwords().billing.clone());
    let service = login.custom_inbox_prefix("_INBOX_billing").connect(server.client_url()).await.unwrap();
    let subject = Subject::send_user(&UserId::new("billing").unwrap(), &UserId::new("bob").unwrap()).to_string();
    let answer =
        timeout(PATIENCE, service.request(subject.clone(), "x".into())).await.expect("no answer came").unwrap();
    assert_eq!(answer.payload, format!("answer to {subject}"));

    // Otherwise a service could make a node publish where the service may not.
    let heard = Heard::default();
    let _bob = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    service.publish_with_reply(subject, user("bob").to_string(), "x".into()).await.unwrap();
    until("the second request was taken", async || taken.load(Ordering::Acquire) == 2).await;
    one.publish(&user("bob"), "real".into());
    heard.has("real").await;
    assert_eq!(heard.all(), ["real"]);
}

pub async fn a_subscription_ends_when_it_is_dropped(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let (heard, unheard) = (Heard::default(), Heard::default());
    unheard.listen_no_responders(&*two);
    let captured = Arc::new(());
    let (held, listen) = (Arc::clone(&captured), heard.listen());
    let sub = one.subscribe(
        &user("bob"),
        Arc::new(move |message| {
            let _held = &held;
            listen(message);
        }),
    );
    one.fence().await.unwrap();
    two.publish_tagged(&user("bob"), "first".into(), "first");
    heard.has("first").await;
    drop(sub);
    until("nobody hears bob's messages any more", async || {
        two.publish_tagged(&user("bob"), "late".into(), "late");
        two.fence().await.unwrap();
        unheard.all().iter().any(|tag| tag == "late")
    })
    .await;
    assert!(!unheard.all().iter().any(|tag| tag == "first"));
    until("what the callback captured is gone", async || Arc::strong_count(&captured) == 1).await;
}

pub async fn a_fence_waits_for_the_server_in_both_directions(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let two = bed.node("n2").await;
    for (round, direction) in Direction::BOTH.into_iter().enumerate() {
        one.fence().await.unwrap();
        proxy.apply(Fault::Hold(direction));
        let (heard, bob) = (Heard::default(), user(&format!("bob{round}")));
        let _sub = one.subscribe(&bob, heard.listen());
        let fencing = tokio::spawn({
            let one = Arc::clone(&one);
            async move { one.fence().await }
        });
        // The server answers others in the meantime, and the fence was sent long ago.
        for _ in 0..20 {
            two.fence().await.unwrap();
        }
        assert!(!fencing.is_finished(), "{direction:?} is held and the fence came back");
        proxy.heal();
        assert_eq!(fencing.await.unwrap(), Ok(1), "{direction:?}");
        two.publish(&bob, "hello".into());
        heard.has("hello").await;
    }
}

pub async fn a_fence_comes_after_every_subscription_before_it(bed: &Bed) {
    const AT_ONCE: usize = 50;
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    for round in 0..20 {
        let heard = Heard::default();
        let users: Vec<_> = (0..AT_ONCE).map(|i| user(&format!("u{round}-{i}"))).collect();
        let _subs: Vec<_> = users.iter().map(|subject| one.subscribe(subject, heard.listen())).collect();
        assert_eq!(one.fence().await, Ok(1));
        for subject in &users {
            two.publish(subject, subject.to_string().into());
        }
        heard.has_count(AT_ONCE).await;
    }
}

pub async fn fences_at_the_same_time_all_come_back(bed: &Bed) {
    let one = bed.node("n1").await;
    for outcome in join_all((0..1_000).map(|_| one.fence())).await {
        assert_eq!(outcome, Ok(1));
    }
}

pub async fn a_fence_that_loses_its_connection_ends_at_once(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    proxy.apply(Fault::Hold(Direction::ToClient));
    let begin = Instant::now();
    let fencing = tokio::spawn({
        let one = Arc::clone(&one);
        async move { one.fence().await }
    });
    proxy.apply(Fault::Cut);
    let outcome = fencing.await.unwrap();
    assert!(matches!(outcome, Err(BusError::Reconnected | BusError::NotConnected)), "{outcome:?}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

pub async fn a_lost_connection_and_the_next_are_told(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let mut events = one.events();
    for generation in 2..4 {
        proxy.apply(Fault::Cut);
        assert_eq!(event(&mut events).await, BusEvent::Disconnected);
        assert_eq!(one.connected(), None);
        let begin = Instant::now();
        assert_eq!(one.fence().await, Err(BusError::NotConnected));
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        proxy.heal();
        assert_eq!(event(&mut events).await, BusEvent::Connected(generation));
        assert_eq!(one.connected(), Some(generation));
        assert_eq!(one.fence().await, Ok(generation));
    }
}

pub async fn subscriptions_are_made_again_on_the_next_connection(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let two = bed.node("n2").await;
    let (heard, mut events) = (Heard::default(), one.events());
    let _before = one.subscribe(&user("bob"), heard.listen());
    let _member = one.queue_subscribe(&Subject::nodes(), QUEUE_GROUP, heard.listen());
    let gone = one.subscribe(&user("gone"), heard.listen());
    one.fence().await.unwrap();
    proxy.apply(Fault::Cut);
    assert_eq!(event(&mut events).await, BusEvent::Disconnected);
    let _meanwhile = one.subscribe(&user("carol"), heard.listen());
    drop(gone);
    proxy.heal();
    assert_eq!(event(&mut events).await, BusEvent::Connected(2));
    assert_eq!(one.fence().await, Ok(2), "right after the event");
    for subject in [user("gone"), user("bob"), Subject::nodes(), user("carol")] {
        two.publish(&subject, subject.to_string().into());
    }
    heard.has(user("carol").as_str()).await;
    heard.has_count(3).await;
    let wanted = [user("bob"), Subject::nodes(), user("carol")].map(|subject| subject.to_string());
    assert_eq!(heard.all().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(wanted));
}

pub async fn without_a_connection_a_publish_is_dropped(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let two = bed.node("n2").await;
    let (heard, mut events) = (Heard::default(), one.events());
    let _sub = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    proxy.apply(Fault::Cut);
    assert_eq!(event(&mut events).await, BusEvent::Disconnected);
    one.publish(&user("bob"), "without a connection".into());
    one.publish_tagged(&user("bob"), "without a connection".into(), "tag");
    proxy.heal();
    assert_eq!(event(&mut events).await, BusEvent::Connected(2));
    one.publish(&user("bob"), "again".into());
    heard.has("again").await;
    assert_eq!(heard.all(), ["again"]);
}

pub async fn nothing_waits_while_the_connection_is_stalled(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let heard = Heard::default();
    let _sub = one.subscribe(&user("bob"), heard.listen());
    one.fence().await.unwrap();
    proxy.apply_both(Fault::Hold);
    let mut slowest = Duration::ZERO;
    let payload = Bytes::from(vec![7; 16 << 10]);
    for number in 0..4_000 {
        let begin = Instant::now();
        one.publish(&user("carol"), payload.clone());
        one.publish_tagged(&user("carol"), text(number), "carol.1");
        one.reply("billing", "_INBOX_billing.x", text(number));
        drop(one.subscribe(&user("dave"), heard.listen()));
        let _ = one.connected();
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < AT_ONCE, "a call took {slowest:?}");
    let begin = Instant::now();
    let outcome = one.fence().await;
    assert!(outcome.is_err(), "nothing came back and the fence says {outcome:?}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    // And it carries on, on this connection or the next.
    proxy.heal();
    until("the bus is back", async || one.fence().await.is_ok()).await;
    let two = bed.node("n2").await;
    two.publish(&user("bob"), "hello".into());
    heard.has("hello").await;
}

pub async fn closing_sends_what_waits(bed: &Bed) {
    const COUNT: usize = 2_000;
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let heard = Heard::default();
    let _sub = two.subscribe(&user("bob"), heard.listen());
    two.fence().await.unwrap();
    for number in 0..COUNT {
        one.publish(&user("bob"), text(number));
    }
    one.close().await;
    assert_eq!(one.connected(), None);
    assert_eq!(one.fence().await, Err(BusError::NotConnected));
    heard.has_count(COUNT).await;
}
