//! Rules of publishing and subscribing: the order of messages, who receives them, and who is told.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_nats::ConnectOptions;
use bytes::Bytes;
use natter::{
    bus::BusError,
    model::UserId,
    subject::{QUEUE_GROUP, Subject},
};
use tokio::time::timeout;

use super::{Bed, text};
use crate::{
    bus::site::{Heard, user},
    harness::{PATIENCE, until},
};

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
    let _subs = members.map(|bus| bus.queue_subscribe(&Subject::nodes("status"), QUEUE_GROUP, heard.listen()));
    let _last = members.map(|bus| bus.subscribe(&user("end"), last.listen()));
    for member in members {
        member.fence().await.unwrap();
    }
    for number in 0..COUNT {
        three.publish(&Subject::nodes("status"), text(number));
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
