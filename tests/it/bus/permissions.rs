//! What the servers allow to whom, with the exact configuration that is deployed: the trust boundary (R9, R13).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use natter::{
    bus::{RequestError, queue::QueueLink},
    config::Config,
    model::{RoomId, UserId},
    subject::{QUEUE_GROUP, Subject},
};

use super::site::{Heard, Site, user};
use crate::harness::{PATIENCE, until, wait::until_ok};

/// A guest, someone who is not a node, and how often the server refused it.
struct Guest {
    client: Client,
    refused: Arc<AtomicUsize>,
}

impl Guest {
    async fn connect(site: &Site, name: &str, password: &str) -> Self {
        let refused = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&refused);
        let client = ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned())
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .event_callback(move |event| {
                if matches!(&event, Event::ServerError(e) if e.to_string().contains("Permissions Violation")) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                std::future::ready(())
            })
            .connect(site.guest_url())
            .await
            .unwrap();
        Self { client, refused }
    }

    async fn billing(site: &Site) -> Self {
        Self::connect(site, "billing", &site.server.passwords().billing).await
    }

    async fn operator(site: &Site) -> Self {
        Self::connect(site, "operator", &site.server.passwords().operator).await
    }

    async fn refused(&self, times: usize) {
        until("the server refused", async || self.refused.load(Ordering::Relaxed) >= times).await;
        assert_eq!(self.refused.load(Ordering::Relaxed), times);
    }
}

const FOREIGN: [&str; 28] = [
    ">",
    "natter.>",
    "natter.*.bob",
    "*.user.bob",
    "*.>",
    "natter.user.bob",
    "natter.user.*",
    "natter.room.lobby",
    "natter.presence.>",
    "natter.presence.bob",
    "*.presence.bob",
    "natter.log.>",
    "natter.log.*",
    "natter.log.17",
    "*.log.17",
    "natter.send.>",
    "natter.do.>",
    "natter.feed.>",
    "natter.feed.shop",
    "natter.hook.>",
    "natter.hook.shop.send",
    "natter.node.n1.no_responders.>",
    "natter.nodes.status",
    "natter.nodes.>",
    "natter.node.n1.cmd.>",
    "$SRV.>",
    "$SRV.PING",
    "_INBOX_node.>",
];

async fn no_guest_hears_what_is_for_users(site: Site) {
    let node = site.bus("n1").await;
    let unheard = Heard::default();
    unheard.listen_no_responders(&*node);
    for guest in [Guest::billing(&site).await, Guest::operator(&site).await] {
        let mut foreign = Vec::new();
        for subject in FOREIGN {
            foreign.push(guest.client.subscribe(subject).await.unwrap());
            foreign.push(guest.client.queue_subscribe(subject, QUEUE_GROUP.to_owned()).await.unwrap());
        }
        let mut events = guest.client.subscribe("natter.event.>").await.unwrap();
        guest.refused(FOREIGN.len() * 2).await;

        node.publish_tagged(&user("bob"), "secret".into(), "bob");
        node.publish(&Subject::room(&RoomId::new("lobby").unwrap()), "secret".into());
        node.publish(&Subject::presence(&UserId::new("bob").unwrap()), "secret".into());
        let nobody = node.request(&Subject::log(17), "secret".into(), PATIENCE).await;
        assert_eq!(nobody, Err(RequestError::NoResponders), "a guest looks like a home");
        // What this one gets comes after everything before it.
        until("the event is heard", async || {
            node.publish(&Subject::event("offline"), "{}".into());
            node.fence().await.unwrap();
            events.next().now_or_never().is_some()
        })
        .await;
        assert!(foreign.iter_mut().all(|sub| !matches!(sub.next().now_or_never(), Some(Some(_)))));
    }
    assert_eq!(unheard.all(), ["bob", "bob"], "a guest's subscription made an absent user look present");
}

async fn a_service_speaks_as_itself_and_as_nobody_else(site: Site) {
    let node = site.bus("n1").await;
    let heard = Heard::default();
    let room = Subject::room(&RoomId::new("lobby").unwrap());
    let log = Subject::log(17);
    let presence = Subject::presence(&UserId::new("bob").unwrap());
    let commands = [Subject::command("n1", "drain"), Subject::nodes("status")];
    let own = [[Subject::all_sends(), Subject::all_signals()], [Subject::all_dos(), room], commands].concat();
    let _subs: Vec<_> =
        own.iter().chain([&user("bob"), &presence, &log]).map(|s| node.subscribe(s, heard.listen())).collect();
    site.settled(&*node).await;

    let billing = Guest::billing(&site).await;
    let forbidden = [
        "natter.user.bob",
        "natter.room.lobby",
        "natter.presence.bob",
        "natter.log.17",
        "natter.node.n1.take",
        "natter.node.n1.answer.1",
        "natter.send.shop.user.bob",
        "natter.send.billing",
        "natter.signal.shop.user.bob",
        "natter.do.shop.history",
        "natter.do.billing",
        "natter.queue.shop.user.bob",
        "natter.event.offline",
        "natter.feed.billing",
        "natter.hook.billing.send",
        "natter.node.n1.cmd.drain",
        "natter.nodes.status",
        "natter.node.n1.told.1",
        "$SRV.PING",
        "natter.node.n1.fence.1",
        "_INBOX_node.x",
        "_INBOX_operator.x",
        "$JS.API.STREAM.DELETE.x",
    ];
    for subject in forbidden {
        billing.client.publish(subject, "forged".into()).await.unwrap();
    }
    billing.refused(forbidden.len()).await;
    for subject in ["natter.send.billing.user.bob", "natter.signal.billing.user.bob", "natter.do.billing.history"] {
        billing.client.publish(subject, subject.into()).await.unwrap();
        heard.has(subject).await;
    }
    assert_eq!(heard.all().len(), 3, "{:?}", heard.all());
    billing.refused(forbidden.len()).await;
}

async fn a_request_is_answered_in_the_services_inbox_and_nowhere_else(site: Site) {
    let (node, other) = (site.bus("n1").await, site.bus("n2").await);
    let answering = node.clone();
    let _sub = node.queue_subscribe(
        &Subject::all_sends(),
        QUEUE_GROUP,
        Arc::new(move |message| {
            if let Some(reply) = message.reply {
                answering.reply("billing", &reply, Bytes::from(format!("answer to {}", message.subject)));
            }
        }),
    );
    site.settled(&*node).await;
    let billing = Guest::billing(&site).await;
    let subject = Subject::send_user(&UserId::new("billing").unwrap(), &UserId::new("bob").unwrap());
    let answer = billing.client.request(subject.to_string(), "x".into()).await.unwrap();
    assert_eq!(answer.payload, "answer to natter.send.billing.user.bob");

    // A service that names a user's subject would make the node publish there on its behalf.
    let heard = Heard::default();
    let _bob = other.subscribe(&user("bob"), heard.listen());
    other.fence().await.unwrap();
    // So would one that names another's inbox.
    for (number, foreign) in ["natter.user.bob", "_INBOX_operator.x", "_INBOX.x"].into_iter().enumerate() {
        billing.client.publish_with_reply(subject.to_string(), foreign, "x".into()).await.unwrap();
        until("the node refused", async || node.metrics().nats_dropped.get() == number as u64 + 1).await;
    }
    node.publish(&user("bob"), "real".into());
    heard.has("real").await;
    assert_eq!(heard.all(), ["real"]);
}

async fn a_service_answers_what_it_is_asked_once_and_nothing_else(site: Site) {
    let node = site.bus("n1").await;
    let billing = Guest::billing(&site).await;
    let mut asked = billing.client.subscribe("natter.hook.billing.>").await.unwrap();
    let _feed = billing.client.subscribe("natter.feed.billing").await.unwrap();
    let answers = async {
        let question = asked.next().await.unwrap();
        let reply = question.reply.unwrap();
        assert!(reply.starts_with("natter.node.n1.answer."), "{reply}");
        billing.client.publish(reply.clone(), "yes".into()).await.unwrap();
        // Another answer, and one to a question that was never put, are nobody's.
        billing.client.publish(reply, "no".into()).await.unwrap();
        billing.client.publish("natter.node.n1.answer.1", "no".into()).await.unwrap();
        billing.refused(2).await;
    };
    let subject = Subject::hook_send(&UserId::new("billing").unwrap());
    let asks = async {
        loop {
            // Until the servers know that somebody listens.
            match node.request(&subject, "may this pass?".into(), PATIENCE).await {
                Err(RequestError::NoResponders) => tokio::task::yield_now().await,
                answer => break answer,
            }
        }
    };
    let (answer, ()) = tokio::join!(asks, answers);
    assert_eq!(answer.unwrap(), "yes");
}

async fn an_operator_commands_nodes_and_writes_to_no_user(site: Site) {
    let node = site.bus("n1").await;
    let heard = Heard::default();
    let subjects =
        [Subject::command("n1", "status"), Subject::command("n1", "drain"), Subject::nodes("status"), user("bob")];
    let _subs = subjects.each_ref().map(|subject| node.subscribe(subject, heard.listen()));
    site.settled(&*node).await;
    let operator = Guest::operator(&site).await;
    let forbidden = [
        "natter.user.bob",
        "natter.room.lobby",
        "natter.presence.bob",
        "natter.log.17",
        "natter.send.billing.user.bob",
        "natter.node.n1.fence.1",
        "natter.node.n1.take",
        "natter.node.n1.answer.1",
        "natter.node.n1.cmd",
        "natter.node.n1.cmd.a.b",
        "natter.node.n1.told.1",
        "_INBOX_operator.x",
    ];
    for subject in forbidden {
        operator.client.publish(subject, "forged".into()).await.unwrap();
    }
    for subject in &subjects[..3] {
        operator.client.publish(subject.to_string(), subject.to_string().into()).await.unwrap();
        heard.has(subject.as_str()).await;
    }
    operator.refused(forbidden.len()).await;
    assert_eq!(heard.all().len(), 3);
}

/// The stream, its consumers and the API of JetStream; and what a service could make the server do that answers its publish.
async fn the_queue_is_the_nodes_alone(site: Site) {
    let config = Config::default();
    let link = until_ok(PATIENCE, "JetStream takes the streams", async || {
        let link = QueueLink::connect(&site.options("n1")).await.map_err(|error| error.to_string())?;
        link.prepare(&config).await.map_err(|error| error.to_string())?;
        Ok(link)
    })
    .await;
    let part = until_ok(PATIENCE, "a node takes a part", async || {
        link.take(3, 10).await.map_err(|error| error.to_string())?.ok_or_else(|| "somebody has it".to_owned())
    })
    .await;
    assert!(link.take(3, 10).await.unwrap().is_none(), "two have one part");
    let api = [
        "INFO",
        "STREAM.INFO.NATTER_QUEUE",
        "STREAM.CREATE.X",
        "STREAM.UPDATE.NATTER_QUEUE",
        "STREAM.PURGE.NATTER_QUEUE",
        "STREAM.DELETE.NATTER_QUEUE",
        "STREAM.MSG.DELETE.NATTER_QUEUE",
        "STREAM.MSG.GET.NATTER_QUEUE",
        "DIRECT.GET.NATTER_DEAD",
        "CONSUMER.CREATE.NATTER_QUEUE.x",
        "CONSUMER.DELETE.NATTER_QUEUE.x",
        "CONSUMER.MSG.NEXT.NATTER_QUEUE.x",
    ];
    let publishes: Vec<_> = api.iter().map(|call| format!("$JS.API.{call}")).collect();
    let more = [
        "$JS.ACK.NATTER_QUEUE.x.1.1.1.1.0",
        "natter.queue.shop.user.bob",
        "natter.queue.billing",
        "natter.queued.3.billing.user.bob",
        "natter.dead.billing.user.bob",
    ];
    let listens = [
        "$JS.>",
        "$JS.API.>",
        "$JS.EVENT.>",
        "natter.queue.>",
        "natter.queue.billing.>",
        "natter.queued.>",
        "natter.dead.>",
    ];
    for guest in [Guest::billing(&site).await, Guest::operator(&site).await] {
        for subject in publishes.iter().map(String::as_str).chain(more) {
            guest.client.publish(subject.to_owned(), "".into()).await.unwrap();
        }
        for subject in listens {
            drop(guest.client.subscribe(subject).await.unwrap());
        }
        guest.refused(publishes.len() + more.len() + listens.len()).await;
    }
    let operator = Guest::operator(&site).await;
    operator.client.publish("natter.queue.billing.user.bob", "forged".into()).await.unwrap();
    operator.refused(1).await;

    let billing = Guest::billing(&site).await;
    // A reply subject of acknowledgements is refused by the server itself.
    for (number, reply) in publishes.iter().enumerate() {
        billing.client.publish_with_reply("natter.queue.billing.user.bob", reply.clone(), "x".into()).await.unwrap();
        let kept = billing.client.request("natter.queue.billing.user.bob", "x".into()).await.unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept.payload).unwrap();
        let expected = (number as u64 + 1) * 2;
        assert_eq!(kept["seq"], expected, "{kept}");
        // What the forged one did comes before what follows it.
        let state = link.examine(&config).await.unwrap();
        let messages: Vec<_> = state.iter().map(|(_, state)| state.as_ref().map(|state| state.messages)).collect();
        assert_eq!(messages, [Some(expected), Some(0)], "after an answer to {reply}");
    }
    // Whatever the server makes of such an answer: nobody purges or deletes, not even a node.
    let node = ConnectOptions::with_user_and_password("node".into(), site.server.passwords().node.clone());
    let node = node.custom_inbox_prefix("_INBOX_node").connect(site.server.client_url()).await.unwrap();
    for (call, payload) in [("STREAM.PURGE.NATTER_QUEUE", ""), ("STREAM.MSG.DELETE.NATTER_QUEUE", r#"{"seq":1}"#)] {
        let answer = node.request(format!("$JS.API.{call}"), payload.into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_object(), "{call}: {answer}");
    }
    part.end().await;
    assert!(link.take(3, 10).await.unwrap().is_some(), "the part is free again");
}

async fn nobody_comes_in_without_a_password(site: Site) {
    for (name, password) in [("node", "wrong"), ("billing", site.server.passwords().node.as_str()), ("", "")] {
        let options = ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned());
        assert!(options.connect(site.guest_url()).await.is_err(), "{name}");
    }
    assert!(async_nats::connect(site.guest_url()).await.is_err());
}

/// Each test on one server, and on a cluster where the guests connect to another server than the nodes.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod one_server {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::start().await).await; })*
        }
        mod a_cluster {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::cluster().await).await; })*
        }
    };
}

on_both!(
    no_guest_hears_what_is_for_users,
    a_service_speaks_as_itself_and_as_nobody_else,
    a_request_is_answered_in_the_services_inbox_and_nowhere_else,
    a_service_answers_what_it_is_asked_once_and_nothing_else,
    an_operator_commands_nodes_and_writes_to_no_user,
    the_queue_is_the_nodes_alone,
    nobody_comes_in_without_a_password,
);
