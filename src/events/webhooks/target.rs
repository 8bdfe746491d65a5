//! One target of a webhook: takes events at any time, and posts them one after the other over a connection that is kept.
//! What fails is tried again, after pauses that grow, and given up when the target refused it too often or it is too old.
//! Called by [`super::Webhooks`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use compact_str::CompactString;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    breaker::Breaker,
    queue::{Post, Queue},
    signing::Signer,
};
use crate::{
    backoff::Backoff,
    config::{Webhook, webhook_key},
    metrics::{Metrics, PostOutcome},
    model::{UserId, now_millis},
    outgoing::{AGENT, Connection, Place, Reason, no_answer},
};

/// The longest pause between two tries of one event.
const PAUSE: Duration = Duration::from_secs(60);
/// Answers after which an event is given up, if it may be the event that is at fault.
const REFUSALS: u32 = 8;
/// An event that could not be posted for so long is given up.
const AGE: Duration = Duration::from_secs(3_600);
/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER_BYTES: usize = 64 << 10;

/// Where posts go, and those that wait.
pub(super) struct Target {
    name: UserId,
    place: Place,
    signer: Signer,
    queue: Queue,
    breaker: Mutex<Breaker>,
    timeout: Duration,
    retry: Duration,
    /// Those that wait and those that are being posted.
    held: AtomicUsize,
    done: Notify,
    metrics: Arc<Metrics>,
}

/// What became of one try.
enum Tried {
    Taken,
    /// An answer that is no success.
    Refused(StatusCode, Option<Duration>),
    Unreached(Reason),
}

type Way = Option<Connection<Full<Bytes>>>;

impl Target {
    /// A target that takes events, and posts none before somebody works.
    pub(super) fn new(name: &UserId, of: &Webhook, metrics: Arc<Metrics>) -> Result<Self, Reason> {
        let key = of.secret.as_ref().and_then(webhook_key).ok_or("its secret cannot be used")?;
        Ok(Self {
            name: name.clone(),
            place: Place::new(&of.url, of.ca_file.as_deref(), "ca_file")?,
            signer: Signer::new(&key),
            queue: Queue::new(of.queue as usize),
            breaker: Mutex::new(Breaker::new()),
            timeout: Duration::from_millis(of.timeout_ms),
            retry: Duration::from_millis(of.retry_ms),
            held: AtomicUsize::new(0),
            done: Notify::new(),
            metrics,
        })
    }

    /// Takes an event; returns at once.
    pub(super) fn post(&self, id: CompactString, payload: Bytes) {
        self.held.fetch_add(1, Ordering::AcqRel);
        self.metrics.webhooks_waiting.inc();
        let dropped = self.queue.push(Post { id, payload, since: Instant::now() });
        (0..dropped).for_each(|_| self.drop_one());
    }

    /// Waits until everything is posted or given up; not for a target that is left alone.
    pub(super) async fn idle(&self) {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            if self.held.load(Ordering::Acquire) == 0 || self.breaker.lock().is_open() {
                return;
            }
            done.await;
        }
    }

    /// The node ends: what waits is not posted any more.
    pub(super) fn abandon(&self) {
        self.queue.clear();
        let left = self.held.swap(0, Ordering::AcqRel);
        if left > 0 {
            self.metrics.webhooks_dropped.inc_by(left as u64);
            self.metrics.webhooks_waiting.dec_by(i64::try_from(left).unwrap_or(i64::MAX));
            tracing::warn!(webhook = %self.name, events = left, "the node ends before these events were posted");
        }
    }

    /// Posts for ever. Several may work at a time.
    pub(super) async fn work(self: Arc<Self>) {
        let mut way = None;
        loop {
            let post = self.queue.pop().await;
            if self.deliver(&post, &mut way).await {
                self.let_go();
            } else {
                self.drop_one();
            }
        }
    }

    fn let_go(&self) {
        // None is left where the node ends and they were abandoned.
        if self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| held.checked_sub(1)).is_ok() {
            self.metrics.webhooks_waiting.dec();
        }
        self.done.notify_waiters();
    }

    fn drop_one(&self) {
        self.metrics.webhooks_dropped.inc();
        self.let_go();
    }

    /// False when it is given up.
    async fn deliver(&self, post: &Post, way: &mut Way) -> bool {
        let (mut pause, mut refusals) = (Backoff::new(self.retry, PAUSE), 0);
        loop {
            self.admitted().await;
            let wait = match self.attempt(post, way).await {
                Tried::Taken => {
                    self.note(PostOutcome::Ok, true);
                    return true;
                }
                Tried::Refused(status, after) => {
                    let fault = fault_of(status);
                    refusals += u32::from(fault != Fault::OfTheTarget);
                    self.note(PostOutcome::Refused, fault == Fault::OfTheEvent);
                    tracing::debug!(webhook = %self.name, id = %post.id, %status, "an event was not taken");
                    after
                }
                Tried::Unreached(reason) => {
                    *way = None;
                    self.note(PostOutcome::Failed, false);
                    tracing::debug!(webhook = %self.name, id = %post.id, reason, "an event could not be posted");
                    None
                }
            };
            if refusals >= REFUSALS || post.since.elapsed() >= AGE {
                tracing::warn!(webhook = %self.name, id = %post.id, refusals, "an event is given up");
                return false;
            }
            // On top of what the target asks for: so nodes that were asked for the same do not come back together.
            sleep(pause.next() + wait.unwrap_or_default()).await;
        }
    }

    /// Waits while the target is left alone.
    async fn admitted(&self) {
        loop {
            let admitted = self.breaker.lock().admit(Instant::now());
            match admitted {
                Ok(()) => return,
                Err(until) => sleep_until(until).await,
            }
        }
    }

    fn note(&self, outcome: PostOutcome, works: bool) {
        self.metrics.webhook_posts.of(outcome).inc();
        let (was_open, is_open) = {
            let mut breaker = self.breaker.lock();
            let was = breaker.is_open();
            if works {
                breaker.on_success()
            } else {
                breaker.on_failure(Instant::now())
            }
            (was, breaker.is_open())
        };
        match (was_open, is_open) {
            (false, true) => {
                self.metrics.webhooks_paused.inc();
                self.done.notify_waiters();
                tracing::warn!(webhook = %self.name, "the target fails, its events wait");
            }
            (true, false) => {
                self.metrics.webhooks_paused.dec();
                tracing::info!(webhook = %self.name, "the target works again");
            }
            _ => {}
        }
    }

    async fn attempt(&self, post: &Post, way: &mut Way) -> Tried {
        let request = match self.request(post) {
            Ok(request) => request,
            Err(reason) => return Tried::Unreached(reason),
        };
        let answer = match timeout(self.timeout, self.send(request, way)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return Tried::Unreached(reason),
            Err(_) => return Tried::Unreached("no answer in time".to_owned()),
        };
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = answer.status();
        self.read(answer, way).await;
        if status.is_success() {
            return Tried::Taken;
        }
        Tried::Refused(status, after.map(|seconds| Duration::from_secs(seconds).min(AGE)))
    }

    fn request(&self, post: &Post) -> Result<Request<Full<Bytes>>, Reason> {
        let seconds = now_millis() / 1_000;
        Request::post(self.place.path())
            .header(HOST, self.place.authority())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", post.id.as_str())
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.signer.sign(&post.id, seconds, &post.payload))
            .body(Full::new(post.payload.clone()))
            .map_err(|error| error.to_string())
    }

    /// Over the connection that is kept, if that still stands. The target may close it in the same moment, so a failure on
    /// it says nothing yet.
    async fn send(&self, request: Request<Full<Bytes>>, way: &mut Way) -> Result<Response<Incoming>, Reason> {
        if let Some(mut kept) = way.take()
            && kept.sender.ready().await.is_ok()
            && let Ok(answer) = kept.sender.send_request(request.clone()).await
        {
            *way = Some(kept);
            return Ok(answer);
        }
        let mut fresh = self.place.connect().await?;
        let answer = fresh.sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        *way = Some(fresh);
        Ok(answer)
    }

    /// Nobody is interested in what it says, but the connection is free only after that.
    async fn read(&self, answer: Response<Incoming>, way: &mut Way) {
        let whole = timeout(self.timeout, Limited::new(answer.into_body(), ANSWER_BYTES).collect()).await;
        if !matches!(whole, Ok(Ok(_))) {
            *way = None;
        }
    }
}

/// Whose fault it is that an event was not taken.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The target works, and does not want this one.
    OfTheEvent,
    /// It may be this one that breaks the target, so it is not tried for ever.
    Unclear,
    /// It is away, has too much to do, or is another one than was meant: any event would get that answer.
    OfTheTarget,
}

fn fault_of(status: StatusCode) -> Fault {
    match status.as_u16() {
        401 | 403 | 404 | 405 | 408 | 410 | 425 | 429 | 502 | 503 | 504 => Fault::OfTheTarget,
        400..500 => Fault::OfTheEvent,
        _ => Fault::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_the_event_or_the_target_is_at_fault() {
        let fault = |status| fault_of(StatusCode::from_u16(status).unwrap());
        for status in [400, 413, 415, 418, 422] {
            assert_eq!(fault(status), Fault::OfTheEvent, "{status}");
        }
        for status in [301, 307, 500, 501] {
            assert_eq!(fault(status), Fault::Unclear, "{status}");
        }
        for status in [401, 403, 404, 410, 429, 503] {
            assert_eq!(fault(status), Fault::OfTheTarget, "{status}");
        }
    }
}
