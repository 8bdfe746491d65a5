//! Rules of requests between nodes: whose answer is whose, and how a wait ends without one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use natter::{
    bus::{Bus, BusMessage, RequestError, Subscription},
    subject::{QUEUE_GROUP, Subject},
};
use parking_lot::Mutex;

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
const SOON: Duration = Duration::from_secs(2);

/// A node that keeps requests until it is told to answer.
struct Keeper {
    bus: Arc<dyn Bus>,
    kept: Arc<Mutex<Vec<BusMessage>>>,
    _sub: Subscription,
}

impl Keeper {
    async fn on(bus: &Arc<dyn Bus>, subject: &Subject) -> Self {
        let kept = Arc::<Mutex<Vec<BusMessage>>>::default();
        let keep = Arc::clone(&kept);
        let sub = bus.queue_subscribe(subject, QUEUE_GROUP, Arc::new(move |message| keep.lock().push(message)));
        bus.fence().await.unwrap();
        Self { bus: Arc::clone(bus), kept, _sub: sub }
    }

    async fn has(&self, count: usize) {
        until("the requests arrive", async || self.kept.lock().len() >= count).await;
    }

    /// Answers what it has, the last first, each with its own payload.
    fn answer(&self) {
        for message in self.kept.lock().drain(..).rev() {
            let answer = [b"re: ", &message.payload[..]].concat();
            self.bus.answer(&message.reply.expect("a request says where its answer goes"), answer.into());
        }
    }
}

pub async fn each_request_gets_its_own_answer(bed: &Bed) {
    const COUNT: usize = 200;
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let subject = Subject::log(17);
    let keeper = Keeper::on(&two, &subject).await;
    let asking = join_all((0..COUNT).map(|number| one.request(&subject, text(number), PATIENCE)));
    let answering = async {
        keeper.has(COUNT).await;
        keeper.answer();
    };
    let (answers, ()) = tokio::join!(asking, answering);
    let wanted: Vec<_> = (0..COUNT).map(|number| Ok(Bytes::from(format!("re: {number}")))).collect();
    assert_eq!(answers, wanted);
}

pub async fn that_nobody_hears_a_request_is_told_at_once(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let subject = Subject::log(17);
    // A node does not ask itself.
    let own = Keeper::on(&one, &subject).await;
    let begin = Instant::now();
    assert_eq!(one.request(&subject, text(1), PATIENCE).await, Err(RequestError::NoResponders));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(own.kept.lock().is_empty());
    // Of a queue group that it is in itself, another member is asked.
    let keeper = Keeper::on(&two, &subject).await;
    for number in 0..20 {
        let (answer, ()) = tokio::join!(one.request(&subject, text(number), PATIENCE), async {
            keeper.has(1).await;
            keeper.answer();
        });
        assert!(answer.is_ok(), "{answer:?}");
    }
    assert!(own.kept.lock().is_empty());
}

pub async fn a_late_answer_is_nobodys(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let subject = Subject::log(17);
    let keeper = Keeper::on(&two, &subject).await;
    let outcome = one.request(&subject, "early".into(), Duration::from_millis(50)).await;
    assert_eq!(outcome, Err(RequestError::TimedOut));
    drop(one.request(&subject, "never sent".into(), PATIENCE));
    keeper.has(1).await;
    let (outcome, ()) = tokio::join!(one.request(&subject, "second".into(), PATIENCE), async {
        keeper.has(2).await;
        // The last first: the answer to the first comes while nothing waits for it.
        keeper.answer();
    });
    assert_eq!(outcome, Ok("re: second".into()));
}

pub async fn a_request_ends_with_its_connection(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    let two = bed.node("n2").await;
    let subject = Subject::log(17);
    let keeper = Keeper::on(&two, &subject).await;
    let begin = Instant::now();
    let (outcome, ()) = tokio::join!(one.request(&subject, text(1), PATIENCE), async {
        keeper.has(1).await;
        proxy.apply(Fault::Cut);
    });
    assert_eq!(outcome, Err(RequestError::NotConnected));
    assert_eq!(one.request(&subject, text(2), PATIENCE).await, Err(RequestError::NotConnected));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    proxy.heal();
    until("it is back", async || one.fence().await.is_ok()).await;
    let (outcome, ()) = tokio::join!(one.request(&subject, text(3), PATIENCE), async {
        keeper.has(2).await;
        keeper.answer();
    });
    assert_eq!(outcome, Ok("re: 3".into()));
}

pub async fn a_stalled_connection_holds_a_request_no_longer_than_its_time(bed: &Bed) {
    let (one, proxy) = bed.breakable("n1").await;
    one.fence().await.unwrap();
    proxy.apply(Fault::Hold(Direction::ToServer));
    let begin = Instant::now();
    let outcome = one.request(&Subject::log(17), text(1), Duration::from_millis(100)).await;
    assert_eq!(outcome, Err(RequestError::TimedOut));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

pub async fn a_node_answers_into_the_inbox_of_a_node_and_nowhere_else(bed: &Bed) {
    let (one, two) = (bed.node("n1").await, bed.node("n2").await);
    let heard = Heard::default();
    let subjects = [user("bob"), Subject::nodes("status"), Subject::node("n2", "cmd"), Subject::node("n2", "answer.x")];
    let _subs = subjects.each_ref().map(|subject| two.subscribe(subject, heard.listen()));
    two.fence().await.unwrap();
    for subject in &subjects {
        one.answer(subject.as_str(), "forged".into());
    }
    one.publish(&user("bob"), "real".into());
    heard.has("real").await;
    assert_eq!(heard.all(), ["real"]);
}
