//! An append on its way to its home. Held slots go to this node's engine; any other to the slot's subject, where NATS
//! finds the home; and where nobody answers, the home is looked for, or made. Called by the appender, as its store.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Probed, Shared, Words, jittered,
    takeover::Found,
    wire::{self, AppendAnswer, AppendRequest},
};
use crate::{
    bus::RequestError,
    model::{Cid, ConvId, NewMessage, Row, Seq, UserId},
    store::{
        Appended, CountsAt, Logs, STORE_DEADLINE, Span, StoreError, StoreFuture, StoreResult,
        slots::{Incarnation, Slot},
    },
    subject::Subject,
};

/// How long a home may say nothing before it is asked whether it is there; then twice as long, and so on.
const SILENCE: Duration = Duration::from_millis(280);
const LONGEST_SILENCE: Duration = Duration::from_millis(1_200);
/// The waits between two searches for a home.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// [`Logs`] whose appends go to their homes.
pub(super) struct HomeLogs(pub(super) Arc<Shared>);

impl Logs for HomeLogs {
    fn append<'a>(&'a self, conv: &'a ConvId, batch: Vec<NewMessage>) -> BoxFuture<'a, Vec<StoreResult<Appended>>> {
        Box::pin(self.0.route(conv, batch))
    }

    fn read_after<'a>(&'a self, conv: &'a ConvId, after: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.logs.read_after(conv, after, span)
    }

    fn read_before<'a>(&'a self, conv: &'a ConvId, before: Seq, span: Span) -> StoreFuture<'a, Vec<Row>> {
        self.0.logs.read_before(conv, before, span)
    }

    fn placed<'a>(&'a self, conv: &'a ConvId, sender: &'a UserId, cid: &'a Cid) -> StoreFuture<'a, Option<Row>> {
        self.0.logs.placed(conv, sender, cid)
    }

    fn top<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        self.0.logs.top(conv)
    }

    fn reaches<'a>(&'a self, conv: &'a ConvId, seq: Seq) -> StoreFuture<'a, Seq> {
        self.0.logs.reaches(conv, seq)
    }

    fn counts_at<'a>(&'a self, conv: &'a ConvId, seq: Seq, known: Seq) -> StoreFuture<'a, CountsAt> {
        self.0.logs.counts_at(conv, seq, known)
    }

    fn mend<'a>(&'a self, conv: &'a ConvId) -> StoreFuture<'a, Seq> {
        Box::pin(self.0.mend(conv))
    }
}

/// A batch whose messages are answered one by one. What is not at home yet stays open.
struct Open {
    batch: Vec<NewMessage>,
    results: Vec<Option<StoreResult<Appended>>>,
    /// Why the rest is still open.
    words: Words,
}

impl Open {
    fn new(batch: Vec<NewMessage>) -> Self {
        let results = vec![None; batch.len()];
        Self { batch, results, words: "the conversation's home did not answer in time".into() }
    }

    fn is_done(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }

    /// The open messages that go next, at most as many as fit into a request; always the same until they are answered.
    fn next(&self) -> Vec<NewMessage> {
        let open = self.batch.iter().zip(&self.results).filter(|(_, result)| result.is_none());
        let mut open: Vec<_> = open.map(|(message, _)| message.clone()).collect();
        open.truncate(wire::fitting(&open));
        open
    }

    /// Takes the answers to [`Open::next`]; false when none of them is final.
    fn take(&mut self, answers: Vec<StoreResult<Appended>>) -> bool {
        let mut progress = false;
        let open = self.results.iter_mut().filter(|result| result.is_none());
        for (result, answer) in open.zip(answers) {
            if answer != Err(StoreError::NotHome) {
                *result = Some(answer);
                progress = true;
            }
        }
        progress
    }

    fn finish(self) -> Vec<StoreResult<Appended>> {
        let Self { results, words, .. } = self;
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(StoreError::Unavailable(words.clone()))))
            .collect()
    }
}

/// What became of a request to a home.
enum Asked {
    /// It answered for each message.
    Answered(Vec<StoreResult<Appended>>),
    /// It does not take it now, for this reason.
    Refused(Words),
    /// Nobody is there who would answer; this one was found silent.
    Nobody(Option<Incarnation>),
}

/// What a home that says nothing was found to be.
pub(super) enum Seen {
    /// It has the request, or nothing is known: the answer is waited for.
    Waiting,
    /// It is there, but has not got the request.
    At(Incarnation),
    /// Gone, or never was.
    Nobody(Option<Incarnation>),
}

impl Shared {
    async fn route(self: &Arc<Self>, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let mut open = Open::new(batch);
        let deadline = Instant::now() + STORE_DEADLINE;
        // What is open at the deadline is unknown; the sender repeats it with the same cid.
        let _ = timeout_at(deadline, self.bring_home(Slot::of(conv), conv, &mut open)).await;
        open.finish()
    }

    async fn bring_home(self: &Arc<Self>, slot: Slot, conv: &ConvId, open: &mut Open) {
        let mut pause = None;
        while !open.is_done() {
            let batch = open.next();
            let asked = match self.slots.holds(slot) {
                true => Asked::Answered(self.gather.append(conv, batch).await),
                false => self.ask_home(slot, conv, batch).await,
            };
            let suspect = match asked {
                Asked::Answered(answers) => {
                    if open.take(answers) {
                        continue;
                    }
                    None
                }
                Asked::Refused(words) => {
                    open.words = words;
                    wait(&mut pause).await;
                    continue;
                }
                Asked::Nobody(suspect) => suspect,
            };
            if pause.is_some() {
                wait(&mut pause).await;
            }
            pause = pause.or(Some(FIRST_PAUSE));
            self.hints.lock().remove(&slot);
            match self.find(slot, suspect).await {
                Ok(Found::Here) => {}
                Ok(Found::At(home)) => drop(self.hints.lock().insert(slot, home)),
                Err(words) => open.words = words,
            }
        }
    }

    /// Asks the home, and waits as long as there is somebody who will answer.
    async fn ask_home(&self, slot: Slot, conv: &ConvId, batch: Vec<NewMessage>) -> Asked {
        let (id, count) = (self.next_id.fetch_add(1, Ordering::Relaxed), batch.len());
        let payload = wire::encode(&AppendRequest { id, conv: conv.clone(), batch });
        let hint = self.hints.lock().get(&slot).cloned();
        let mut subject = hint.map_or_else(|| Subject::log(slot.number()), |home| Self::straight_to(&home));
        loop {
            self.metrics.appends_routed.inc();
            match self.wait_for_answer(&subject, payload.clone(), (slot, id)).await {
                Ok(answer) => return self.read_answer(answer, count),
                Err(Seen::Nobody(suspect)) => return Asked::Nobody(suspect),
                Err(Seen::At(home)) => {
                    // The subject led elsewhere, to a node that was home before and is stopped, or the answer was lost.
                    subject = Self::straight_to(&home);
                    self.hints.lock().insert(slot, home);
                }
                Err(Seen::Waiting) => {}
            }
        }
    }

    fn straight_to(home: &Incarnation) -> Subject {
        Subject::node(&home.node, "append")
    }

    fn read_answer(&self, answer: Result<Bytes, RequestError>, count: usize) -> Asked {
        let answer = match answer {
            Ok(payload) => wire::decode::<AppendAnswer>(&payload),
            Err(_) => return Asked::Nobody(None),
        };
        match answer {
            Ok(AppendAnswer::Done(outcomes)) if outcomes.len() == count => {
                self.metrics.appends_answered_elsewhere.inc();
                Asked::Answered(outcomes.into_iter().map(Into::into).collect())
            }
            Ok(AppendAnswer::Done(_)) => Asked::Refused("the conversation's home answered for another batch".into()),
            Ok(AppendAnswer::Refused(words)) => Asked::Refused(words.into()),
            Err(error) => Asked::Refused(format!("the answer of the conversation's home: {error}").into()),
        }
    }

    /// One request, and looks at who should answer while nothing comes.
    pub(super) async fn wait_for_answer(
        &self,
        subject: &Subject,
        payload: Bytes,
        (slot, id): (Slot, u64),
    ) -> Result<Result<Bytes, RequestError>, Seen> {
        let mut answer = self.bus.request(subject, payload, STORE_DEADLINE);
        let mut silence = SILENCE;
        loop {
            let seen = async {
                sleep(silence).await;
                self.look(slot, id).await
            };
            tokio::select! {
                // What is there is not looked for.
                biased;
                answer = &mut answer => return Ok(answer),
                seen = seen => match seen {
                    Seen::Waiting => silence = jittered(silence * 2).min(LONGEST_SILENCE),
                    other => return Err(other),
                },
            }
        }
    }

    /// Looks for the home that should have answered.
    async fn look(&self, slot: Slot, id: u64) -> Seen {
        let home = match self.slots.term(slot).await {
            Ok(Some(term)) if term.home.node != self.own => term.home,
            Ok(_) => return Seen::Nobody(None),
            // Then a home could not append either.
            Err(_) => return Seen::Waiting,
        };
        match self.probe(&home, slot, id).await {
            Probed::Same(alive) if alive.under_way => Seen::Waiting,
            Probed::Same(alive) if alive.serves => Seen::At(home),
            Probed::Same(_) => Seen::Nobody(None),
            Probed::Over | Probed::Silent => Seen::Nobody(Some(home)),
            Probed::Cut => Seen::Nobody(None),
        }
    }
}

/// A growing, jittered wait.
pub(super) async fn wait(pause: &mut Option<Duration>) {
    let now = pause.unwrap_or(FIRST_PAUSE);
    sleep(jittered(now)).await;
    *pause = Some((now * 2).min(LONGEST_PAUSE));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Cid, UserId};

    fn message(cid: usize) -> NewMessage {
        let (sender, cid) = (UserId::new("alice").unwrap(), Cid::new(&cid.to_string()).unwrap());
        NewMessage::of_user(sender, cid, 1, Body::text("hi"))
    }

    fn stored(seq: Seq) -> StoreResult<Appended> {
        Ok(Appended { seq, ts: 1, fresh: true, expires: None })
    }

    #[test]
    fn what_was_answered_stays_and_what_was_not_at_home_goes_again() {
        let mut open = Open::new((0..4).map(message).collect());
        assert!(open.take(vec![stored(1), Err(StoreError::NotHome), Err(StoreError::CidReused { seq: 9 })]));
        assert_eq!(open.next(), [message(1), message(3)]);
        assert!(!open.take(vec![Err(StoreError::NotHome); 2]));
        assert!(open.take(vec![stored(2)]) && !open.is_done());
        assert_eq!(open.next(), [message(3)]);
        open.words = "why".into();
        let results = open.finish();
        assert_eq!(
            results,
            [stored(1), stored(2), Err(StoreError::CidReused { seq: 9 }), Err(StoreError::unavailable("why"))]
        );
    }
}
