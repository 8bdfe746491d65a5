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
/// Answers that are no success, after which an event is given up.
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
        let less = |held: usize| held.checked_sub(1);
        let _ = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.metrics.webhooks_waiting.dec();
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
            let tried = timeout(self.timeout, self.attempt(post, way)).await;
            let tried = tried.unwrap_or_else(|_| Tried::Unreached("no answer in time".to_owned()));
            let wait = match tried {
                Tried::Taken => {
                    self.note(PostOutcome::Ok, true);
                    return true;
                }
                Tried::Refused(status, after) => {
                    refusals += 1;
                    // A target that finds fault with an event works; it is the event.
                    self.note(PostOutcome::Refused, is_about_the_event(status));
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
            sleep(pause.next().max(wait.unwrap_or_default())).await;
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
        match self.send(request, way).await {
            Ok(answer) if answer.status().is_success() => {
                self.read(answer, way).await;
                Tried::Taken
            }
            Ok(answer) => {
                let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let status = answer.status();
                self.read(answer, way).await;
                Tried::Refused(status, after.map(|seconds| Duration::from_secs(seconds).min(AGE)))
            }
            Err(reason) => Tried::Unreached(reason),
        }
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
        if Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.is_err() {
            *way = None;
        }
    }
}

/// Whether a status says that this event is refused, not that the target has too much to do or is broken.
fn is_about_the_event(status: StatusCode) -> bool {
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !busy.contains(&status)
}
