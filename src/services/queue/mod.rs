//! The durable way in for services: takes what waits in the queue by the same way as a request. The node runs it where
//! `queue.enabled` says so; JetStream keeps the messages (`bus::queue`).
//!
//! `share` decides which parts of the queue this node takes, `part` works on one, `lanes` keeps the order of a subject (R27).

mod lanes;
mod part;
mod share;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::share::{Plan, Share};
use super::Services;
use crate::{
    backoff::Backoff,
    bus::{
        NatsOptions,
        queue::{QueueError, QueueLink, Roster},
    },
    config::Config,
    store::Engine,
};

/// The longest time between two looks at who has which part.
const LOOK: Duration = Duration::from_secs(2);

/// So many looks may fail one after the other before JetStream is looked for anew.
const LOOKS: u32 = 3;

/// A node that has not said for so long that it takes from the queue does not.
const SILENT: Duration = Duration::from_secs(7);

/// The waits before JetStream is looked for again.
const FIRST_AGAIN: Duration = Duration::from_millis(500);
const MOST_AGAIN: Duration = Duration::from_secs(30);

/// What the durable way in is made of.
pub struct Intake {
    services: Services,
    engine: Arc<dyn Engine>,
    options: NatsOptions,
    config: Config,
    settings: Settings,
}

/// How a message is tried.
struct Settings {
    tries: u32,
    first: Duration,
    longest: Duration,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl Intake {
    /// One for this node; `None` where the configuration wants none.
    pub fn new(config: &Config, options: NatsOptions, services: Services, engine: Arc<dyn Engine>) -> Option<Self> {
        let settings = Settings {
            tries: config.queue.tries,
            first: Duration::from_millis(config.queue.retry_ms),
            longest: Duration::from_millis(config.queue.retry_max_ms),
        };
        config.queue.enabled.then(|| Self { services, engine, options, config: config.clone(), settings })
    }

    fn in_hand(&self) -> usize {
        self.config.queue.in_hand as usize
    }

    /// Takes from the queue until `stop`, and gives back what it has.
    pub async fn run(self, stop: CancellationToken) {
        let intake = Arc::new(self);
        let mut backoff = Backoff::new(FIRST_AGAIN, MOST_AGAIN);
        let mut warned = None;
        while !stop.is_cancelled() {
            let error = tokio::select! {
                found = intake.find() => match found {
                    Ok(link) => {
                        intake.services.metrics.queue_away.set(0);
                        if warned.take().is_some() {
                            tracing::info!("the durable queue is there");
                        }
                        let begun = tokio::time::Instant::now();
                        let ended = intake.share(&link, &stop).await;
                        if begun.elapsed() > MOST_AGAIN {
                            backoff.reset();
                        }
                        ended
                    }
                    Err(error) => Some(error),
                },
                () = stop.cancelled() => None,
            };
            let Some(error) = error else { return };
            intake.services.metrics.queue_away.set(1);
            let words = error.to_string();
            if warned.as_ref() != Some(&words) {
                tracing::warn!(
                    error = words,
                    "nothing is taken from the durable queue; it is looked for again and again"
                );
                warned = Some(words);
            }
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn find(&self) -> Result<QueueLink, QueueError> {
        let link = QueueLink::connect(&self.options).await?;
        link.prepare(&self.config).await?;
        Ok(link)
    }

    /// Takes its share of the parts until `stop`, or until the queue cannot be looked at any more.
    async fn share(self: &Arc<Self>, link: &QueueLink, stop: &CancellationToken) -> Option<QueueError> {
        let mut roster = match link.roster(SILENT).await {
            Ok(roster) => roster,
            Err(error) => return Some(error),
        };
        let mut turns = Turns { intake: self, link, own: BTreeMap::new(), tasks: JoinSet::new() };
        let mut share = Share::default();
        let mut pace = Backoff::new(LOOK, LOOK);
        let mut failed = 0;
        let ended = loop {
            match turns.look(&mut share, &mut roster).await {
                Ok(()) => failed = 0,
                // The turns that this node has may be well: they end by themselves where they are not.
                Err(_) if failed < LOOKS => failed += 1,
                Err(error) => break Some(error),
            }
            let next = sleep(pace.next());
            tokio::pin!(next);
            let stopped = loop {
                tokio::select! {
                    () = &mut next => break false,
                    () = stop.cancelled() => break true,
                    Some(ended) = turns.tasks.join_next() => turns.ended(ended.ok()),
                }
            };
            if stopped {
                break None;
            }
        };
        roster.leave().await;
        turns.end_all().await;
        ended
    }
}

/// The turns of this node.
struct Turns<'a> {
    intake: &'a Arc<Intake>,
    link: &'a QueueLink,
    own: BTreeMap<u16, (CancellationToken, AbortHandle)>,
    tasks: JoinSet<u16>,
}

impl Turns<'_> {
    async fn look(&mut self, share: &mut Share, roster: &mut Roster) -> Result<(), QueueError> {
        let nodes = roster.count().await;
        let held = self.link.held().await?;
        let own = self.own.keys().copied().collect();
        let Plan { remove, take, give } = share.look(&held, &own, nodes);
        for name in remove {
            self.link.remove(&name).await?;
        }
        // The last ones: the others take what is free from the first on.
        for (stop, _) in self.own.values().rev().take(give) {
            stop.cancel();
        }
        for part in take {
            self.take(part).await?;
        }
        Ok(())
    }

    async fn take(&mut self, part: u16) -> Result<(), QueueError> {
        let Some(turn) = self.link.take(part, self.intake.in_hand()).await? else { return Ok(()) };
        let stop = CancellationToken::new();
        let working = part::work(self.intake.clone(), self.link.clone(), turn, stop.clone());
        let task = self.tasks.spawn(async move {
            if let Err(error) = working.await {
                tracing::info!(part, %error, "a turn at the durable queue is over");
            }
            part
        });
        self.own.insert(part, (stop, task));
        Ok(())
    }

    /// A turn is over; of one that panicked nobody knows which.
    fn ended(&mut self, part: Option<u16>) {
        if let Some(part) = part {
            self.own.remove(&part);
        }
        self.own.retain(|_, (_, task)| !task.is_finished());
    }

    async fn end_all(mut self) {
        for (stop, _) in self.own.values() {
            stop.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}
