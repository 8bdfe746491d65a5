//! A turn of this node at one part of the queue: takes what is handed out, works on one message of each subject at a time,
//! tries again, and gives up. Called by [`super`].

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{super::reply, Intake, lanes::Lanes};
use crate::{
    backoff::Backoff,
    bus::queue::{Dead, QueueError, QueueLink, Queued, Turn},
    metrics,
    protocol::{Encoding, ErrorCode, Outcome, Refused},
};

/// What is under way when a turn is given up may end within this.
const LAST: Duration = Duration::from_secs(5);

/// The longest wait before a dead letter that was not kept is tried again.
const BURY_AGAIN: Duration = Duration::from_secs(30);

/// What became of a message.
enum Worked {
    /// It is done, and has left the queue.
    Done(Queued),
    /// The turn ended first.
    Left,
}

/// Works until `stop`, or until the turn is over.
///
/// # Errors
/// Why the turn is over.
pub(super) async fn work(
    intake: Arc<Intake>,
    link: QueueLink,
    mut turn: Turn,
    stop: CancellationToken,
) -> Result<(), QueueError> {
    let _held = Holding::new(&intake);
    let most = intake.in_hand();
    let mut lanes = Lanes::default();
    let mut working = FuturesUnordered::new();
    let ended = loop {
        if let Err(error) = turn.pull(most).await {
            break Err(error);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            Some(worked) = working.next(), if !working.is_empty() => {
                let Worked::Done(queued) = worked else { break Ok(()) };
                working.extend(lanes.done(&queued).map(|next| intake.work(&link, next, &stop)));
            }
            handed = turn.next() => match handed {
                Ok(queued) => {
                    let begun = queued.and_then(|queued| lanes.arrived(queued));
                    working.extend(begun.map(|queued| intake.work(&link, queued, &stop)));
                }
                Err(error) => break Err(error),
            },
        }
    };
    // What waits for another try does not wait any more; what the store has under way is acknowledged, or comes again.
    stop.cancel();
    let _ = timeout(LAST, async { while working.next().await.is_some() {} }).await;
    link.flush().await;
    turn.end().await;
    ended
}

/// Counts the turn while it lasts.
struct Holding(Arc<Intake>);

impl Holding {
    fn new(intake: &Arc<Intake>) -> Self {
        intake.services.metrics.queue_parts.inc();
        Self(intake.clone())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.services.metrics.queue_parts.dec();
    }
}

impl Intake {
    /// Tries a message until it is stored or given up.
    async fn work(&self, link: &QueueLink, queued: Queued, stop: &CancellationToken) -> Worked {
        let metrics = &self.services.metrics;
        let made = made_cid(&queued);
        let cid = queued.id.as_deref().unwrap_or(&made);
        let mut backoff = Backoff::new(self.settings.first, self.settings.longest);
        let mut tries = 0;
        let refused = loop {
            let Err(refused) = self.attempt(&queued, cid).await else { break None };
            if !refused.code.retry() {
                tries += 1;
                break Some(refused);
            }
            tries += u32::from(self.is_its_own(&refused).await);
            if tries >= self.settings.tries {
                break Some(refused);
            }
            metrics.queue_messages.of(metrics::Queued::Again).inc();
            let wait = backoff.next().max(Duration::from_millis(refused.retry_after_ms.unwrap_or_default()));
            if stopped_within(wait, stop).await {
                return Worked::Left;
            }
        };
        reply::count(metrics, refused.as_ref());
        if let Some(refused) = &refused {
            let subject = &queued.subject;
            let dead = Dead {
                subject,
                sequence: queued.sequence,
                cid,
                payload: queued.payload.clone(),
                code: refused.code.word(),
                reason: &refused.message,
                tries,
            };
            if !bury(link, &dead, stop).await {
                return Worked::Left;
            }
            let (code, message) = (refused.code.word(), &refused.message);
            tracing::warn!(%subject, code, message, tries, "a service's message was given up: natter dead shows it");
        }
        let outcome = if refused.is_some() { metrics::Queued::Dead } else { metrics::Queued::Stored };
        metrics.queue_messages.of(outcome).inc();
        link.done(&queued).await;
        Worked::Done(queued)
    }

    /// One try, by the way of a request.
    async fn attempt(&self, queued: &Queued, cid: &str) -> Outcome {
        let encoding = Encoding::sniff(&queued.payload);
        let ops = &self.services.ops;
        let (caller, ask) = super::super::read(ops, encoding, queued.subject.as_str(), &queued.payload, Some(cid))?;
        let (answer, answered) = oneshot::channel();
        ops.perform(&caller, ask, move |outcome| drop(answer.send(outcome)));
        let lost = |_| Err(Refused::new(ErrorCode::Unavailable, "the request ended without an answer: a defect"));
        answered.await.unwrap_or_else(lost)
    }

    /// Whether a refusal that may pass counts as a try: not while there is too much to do, or while the store is away, for
    /// that is no fault of the message.
    async fn is_its_own(&self, refused: &Refused) -> bool {
        refused.code == ErrorCode::Unavailable
            && refused.retry_after_ms.is_none()
            && self.engine.health().map(|health| health.is_ok()).await
    }
}

/// Keeps a dead letter, however long that takes: the message leaves the queue only then. False when the turn ended first.
async fn bury(link: &QueueLink, dead: &Dead<'_>, stop: &CancellationToken) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(200), BURY_AGAIN);
    while let Err(error) = link.bury(dead).await {
        tracing::warn!(%error, subject = %dead.subject, "a message that was given up is not kept yet");
        if stopped_within(backoff.next(), stop).await {
            return false;
        }
    }
    true
}

async fn stopped_within(wait: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = sleep(wait) => false,
        () = stop.cancelled() => true,
    }
}

/// The cid of a message that names none: the same at each try and on each node, and never another message's, also where the
/// stream is made anew and counts from 1 again.
fn made_cid(queued: &Queued) -> String {
    format!("queue-{}-{:x}", queued.sequence, queued.published)
}
