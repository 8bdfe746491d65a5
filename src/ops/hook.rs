//! A service is asked about each message and each edit before it is stored (R28): it lets it pass, as it is or with another
//! body, or refuses it. Every door comes through here, `send` and `edit` call it; off unless it is configured.
//!
//! Questions of one conversation are under way together, and what came of them is done in the order in which they came. Each has its own time, so
//! a conversation is held up no longer than that, and no other one is.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{Ops, counted, fault, send::within_limit};
use crate::{
    bus::Bus,
    config::Unanswered,
    metrics::{HookOutcome, Metrics, StoreOp},
    model::{ConvId, NewMessage, UserId},
    overload::{Class, WaitingBytes, cost},
    protocol::{
        Encoding, ErrorCode, Refused,
        hook::{Decision, Question},
    },
    store::{Appended, StoreError, StoreResult, is_served},
    subject::Subject,
};

/// Messages that may wait for their answers.
const WAITING: usize = 16_384;
/// What one holds beside its body, about.
const BYTES: usize = 2_048;
/// What is read for a cid: a head, two places where the cid may stand, a row.
const READS: usize = 4;
/// Characters of the service's words that are passed on.
const WORDS: usize = 500;

/// Which service is asked, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub service: UserId,
    /// How long it has.
    pub timeout: Duration,
    /// What becomes of a message without an answer.
    pub unanswered: Unanswered,
    /// Questions under way at once.
    pub at_once: usize,
    /// Most bytes of a body.
    pub body_bytes: usize,
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hook(Arc<Inner>);

struct Inner {
    settings: Settings,
    subject: Subject,
    bus: Arc<dyn Bus>,
    bytes: WaitingBytes,
    places: Semaphore,
    /// The last one of each conversation with something under way: its number, and the end of its turn.
    lines: Mutex<HashMap<ConvId, (u64, oneshot::Receiver<()>)>>,
    next: AtomicU64,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

/// What came of a question.
enum Checked {
    /// To be stored; true: with another body than its sender gave it.
    Pass(NewMessage, bool),
    /// Not to be stored.
    Stop(NewMessage, Refused),
    /// Not asked about: whatever is stored of it, its sender tries again.
    Busy(Refused),
}

impl Hook {
    pub(super) fn new(settings: Settings, bus: Arc<dyn Bus>, bytes: WaitingBytes, metrics: Arc<Metrics>) -> Self {
        let (subject, places) = (Subject::hook_send(&settings.service), Semaphore::new(settings.at_once));
        let (lines, next, tasks) = (Mutex::default(), AtomicU64::new(0), TaskTracker::new());
        Self(Arc::new(Inner { settings, subject, bus, bytes, places, lines, next, tasks, metrics }))
    }

    /// The service itself is not asked about what it writes under its own name: it may answer a message with one.
    fn asks_about(&self, message: &NewMessage) -> bool {
        !(message.service && message.sender == self.0.settings.service)
    }

    /// Waits until everything that was asked is decided and handed on.
    pub(super) async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.tasks.reopen();
    }

    /// Asks, and calls `then` in the turn of the message.
    fn check(&self, conv: &ConvId, message: NewMessage, then: impl FnOnce(Checked) + Send + 'static) {
        let held = self.0.bytes.hold(message.body.size() + BYTES);
        let Some(held) = held.filter(|_| self.0.tasks.len() < WAITING) else {
            let text = "too many messages wait for the service that checks them; try again";
            return then(Checked::Busy(Refused::new(ErrorCode::Unavailable, text).after(fault::soon())));
        };
        let (inner, conv) = (self.0.clone(), conv.clone());
        let (turn, before) = inner.line_up(&conv);
        self.0.tasks.spawn(async move {
            let checked = inner.ask(&conv, message).await;
            if let Some(before) = before {
                // An error is the end of that turn as well.
                let _ = before.await;
            }
            drop(held);
            then(checked);
            inner.leave(&conv, turn);
        });
    }
}

/// A place in the line of a conversation. When it is dropped, also by a panic, the next one's turn begins.
struct Turn {
    number: u64,
    _over: oneshot::Sender<()>,
}

impl Inner {
    fn line_up(&self, conv: &ConvId) -> (Turn, Option<oneshot::Receiver<()>>) {
        let (over, is_over) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let before = self.lines.lock().insert(conv.clone(), (number, is_over));
        (Turn { number, _over: over }, before.map(|(_, is_over)| is_over))
    }

    fn leave(&self, conv: &ConvId, turn: Turn) {
        let mut lines = self.lines.lock();
        if lines.get(conv).is_some_and(|(last, _)| *last == turn.number) {
            lines.remove(conv);
        }
        drop(lines);
        drop(turn);
    }

    async fn ask(&self, conv: &ConvId, message: NewMessage) -> Checked {
        let decision = timeout(self.settings.timeout, self.decision(conv, &message)).await;
        let decision = decision.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let (outcome, checked) = match decision {
            Ok(Decision { allow: false, message: words, .. }) => {
                let words: String = words.unwrap_or_default().chars().take(WORDS).collect();
                let text = if words.is_empty() { "body: it was refused".to_owned() } else { format!("body: {words}") };
                (HookOutcome::Refused, Checked::Stop(message, Refused::new(ErrorCode::Rejected, text)))
            }
            Ok(Decision { body: Some(body), .. }) if body != message.body => {
                (HookOutcome::Changed, Checked::Pass(NewMessage { body, ..message }, true))
            }
            Ok(_) => (HookOutcome::Allowed, Checked::Pass(message, false)),
            Err(reason) => {
                tracing::debug!(%conv, service = %self.settings.service, reason, "a message could not be checked");
                (HookOutcome::Unanswered, self.unanswered(message))
            }
        };
        self.metrics.hook_answers.of(outcome).inc();
        checked
    }

    /// The service's answer, or why there is none.
    async fn decision(&self, conv: &ConvId, message: &NewMessage) -> Result<Decision, String> {
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        let question = Encoding::Json.encode(&Question::of(conv, message));
        let answer = self.bus.request(&self.subject, question, self.settings.timeout).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let decision: Decision = Encoding::sniff(&answer).decode(&answer)?;
        if let Some(body) = &decision.body {
            within_limit(body, self.settings.body_bytes).map_err(|refused| refused.message)?;
        }
        Ok(decision)
    }

    fn unanswered(&self, message: NewMessage) -> Checked {
        match self.settings.unanswered {
            Unanswered::Allow => Checked::Pass(message, false),
            Unanswered::Refuse => {
                let text = "the service that checks messages does not answer; try again with the same cid";
                Checked::Stop(message, Refused::new(ErrorCode::Unavailable, text).after(fault::soon()))
            }
        }
    }
}

/// Called once with what became of a message: what the store says, or why it was not asked.
type Told<'a> = Result<&'a StoreResult<Appended>, Refused>;

/// Hands a message to the appender, where a service checks messages only if that lets it pass.
pub(super) fn submit(
    ops: &Arc<Ops>,
    conv: ConvId,
    message: NewMessage,
    answer: impl FnOnce(Told<'_>) + Send + 'static,
) {
    let Some(hook) = ops.hook.as_ref().filter(|hook| hook.asks_about(&message)) else {
        return ops.appender.submit(conv, message, Box::new(|result: &_| answer(Ok(result))));
    };
    let (ops, at) = (ops.clone(), conv.clone());
    hook.check(&conv, message, move |checked| match checked {
        Checked::Pass(message, false) => ops.appender.submit(at, message, Box::new(|result: &_| answer(Ok(result)))),
        Checked::Pass(message, true) => {
            let (again, first, conv) = (ops.clone(), message.clone(), at.clone());
            let on_stored = move |result: &StoreResult<Appended>| match result {
                // The first try got another body from the service than this one.
                Err(error @ StoreError::CidReused { .. }) => {
                    look_up(&again, conv, first, fault::refused(error), answer)
                }
                result => answer(Ok(result)),
            };
            ops.appender.submit(at, message, Box::new(on_stored));
        }
        Checked::Stop(message, refused) => look_up(&ops, at, message, refused, answer),
        Checked::Busy(refused) => answer(Err(refused)),
    });
}

/// A message that may not be stored may be stored already: then it is a second try, and goes the way of every second try with
/// the body that is stored. The first one may have raised no head and told nobody (R3).
fn look_up(
    ops: &Arc<Ops>,
    conv: ConvId,
    message: NewMessage,
    refused: Refused,
    answer: impl FnOnce(Told<'_>) + Send + 'static,
) {
    let again = ops.clone();
    ops.tasks.spawn(async move {
        let turn = match again.turn(Class::Listing, cost(READS, 0)).await {
            Ok(turn) => turn,
            Err(busy) => return answer(Err(busy)),
        };
        let found = again.store.logs.placed(&conv, &message.sender, &message.cid).await;
        turn.end(cost(READS, 0), is_served(&found));
        match counted(&again.metrics, StoreOp::Placed, found) {
            Ok(Some(row)) if row.kind == message.kind => {
                answer(Ok(&again.appender.append(conv, NewMessage { body: row.body, ..message }).await));
            }
            Ok(_) => answer(Err(refused)),
            Err(error) => answer(Err(fault::refused(&error))),
        }
    });
}

/// The same for whoever can wait.
///
/// # Errors
/// Why it is not stored.
pub(super) async fn append(
    ops: &Arc<Ops>,
    conv: ConvId,
    message: NewMessage,
) -> Result<StoreResult<Appended>, Refused> {
    let (told, outcome) = oneshot::channel();
    submit(ops, conv, message, move |outcome| drop(told.send(outcome.cloned())));
    outcome.await.unwrap_or_else(|_| Ok(Err(StoreError::unavailable("the message was not checked; try again"))))
}
