//! Rules of the connection: what a fence proves, and what happens when the connection is lost, restored or stalled.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use natter::{
    bus::{BusError, BusEvent},
    subject::{QUEUE_GROUP, Subject},
};
use tokio::{sync::broadcast, time::timeout};

use super::{Bed, text};
use crate::{
    bus::site::{Heard, user},
    harness::{
        PATIENCE,
        proxy::{Direction, Fault},
        until,
    },
};

/// Far more than a call that must not wait takes, far less than what it would wait for.
const AT_ONCE: Duration = Duration::from_millis(300);

async fn event(events: &mut broadcast::Receiver<BusEvent>) -> BusEvent {
    timeout(PATIENCE, events.recv()).await.expect("no event came").unwrap()
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
    let _member = one.queue_subscribe(&Subject::nodes("status"), QUEUE_GROUP, heard.listen());
    let gone = one.subscribe(&user("gone"), heard.listen());
    one.fence().await.unwrap();
    proxy.apply(Fault::Cut);
    assert_eq!(event(&mut events).await, BusEvent::Disconnected);
    let _meanwhile = one.subscribe(&user("carol"), heard.listen());
    drop(gone);
    proxy.heal();
    assert_eq!(event(&mut events).await, BusEvent::Connected(2));
    assert_eq!(one.fence().await, Ok(2), "right after the event");
    for subject in [user("gone"), user("bob"), Subject::nodes("status"), user("carol")] {
        two.publish(&subject, subject.to_string().into());
    }
    heard.has(user("carol").as_str()).await;
    heard.has_count(3).await;
    let wanted = [user("bob"), Subject::nodes("status"), user("carol")].map(|subject| subject.to_string());
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
