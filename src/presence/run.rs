//! The one task that does what is due: users who are quiet, looks at watched users within their rate, and notes of who was
//! seen.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{sleep_until, timeout};

use super::{Inner, LOOKS, Presence, seen::Round};
use crate::{routing::PARTS, session::Tick};

/// Users who are told of in one go.
const CHANGES: usize = 1_024;
/// The rate of looks is kept to in pieces of so many milliseconds.
const SLICE: Tick = 50;
/// How long the end of a node may be held up by what is still to be told.
pub(crate) const ENDING: Duration = Duration::from_secs(3);

/// Looks of the present slice.
struct Pace {
    since: Tick,
    taken: usize,
    most: usize,
}

impl Pace {
    fn left(&mut self, now: Tick) -> usize {
        if now >= self.since + SLICE {
            (self.since, self.taken) = (now, 0);
        }
        self.most - self.taken
    }
}

impl Presence {
    /// Works until it is dropped.
    pub async fn run(self) {
        let inner = self.0;
        let mut work: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut round = Round::new(PARTS, inner.settings.last_seen, inner.clock.now());
        let per_slice = u64::from(inner.settings.probes_per_sec) * SLICE / 1_000;
        let (mut tell_at, mut has_told) = (0, false);
        let mut pace = Pace { since: 0, taken: 0, most: usize::try_from(per_slice).unwrap_or(LOOKS).max(1) };
        loop {
            let now = inner.clock.now();
            let changes = inner.changes.lock().take_due(now, CHANGES);
            if !changes.is_empty() {
                work.push(whole(inner.clone().settle(changes)));
            }
            let room = pace.left(now).min(LOOKS.saturating_sub(work.len()));
            let looks = inner.watches.lock().take_due(now, room);
            pace.taken += looks.len();
            for (user, look) in looks {
                work.push(whole(inner.clone().probe(user, look)));
            }
            if let Some(part) = round.take_due(now) {
                work.push(whole(inner.clone().note_part(part)));
            }
            if tell_at <= now {
                inner.tell_watched(&mut has_told);
                let wait = inner.settings.probe;
                tell_at = now.saturating_add(wait / 2 + rand::random_range(0..=wait / 2));
            }
            let next = inner.next(&mut pace, &round, work.len() >= LOOKS).min(tell_at);
            tokio::select! {
                () = sleep_until(inner.clock.instant(next)) => {}
                () = inner.wake.notified() => {}
                Some(()) = work.next(), if !work.is_empty() => {}
            }
        }
    }

    /// The node ends: what waits to be told is told now, and those who were here are noted.
    pub async fn finish(&self) {
        let changes = self.0.changes.lock().take_due(Tick::MAX, usize::MAX);
        if timeout(ENDING, self.0.clone().settle(changes)).await.is_err() {
            tracing::warn!("the node ended before all who left were noted as seen");
        }
    }
}

impl Inner {
    /// When there is something to do again, unless something happens before.
    fn next(&self, pace: &mut Pace, round: &Round, is_busy: bool) -> Tick {
        let now = self.clock.now();
        let looks = self.watches.lock().next().filter(|_| !is_busy);
        let looks = looks.map(|due| if pace.left(now) == 0 { due.max(pace.since + SLICE) } else { due });
        let changes = self.changes.lock().next();
        [Some(round.next()), looks, changes].into_iter().flatten().min().unwrap_or(Tick::MAX)
    }
}

/// A panic costs that piece of work only.
fn whole(work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .map(|done| {
            if done.is_err() {
                tracing::error!("a look at users panicked")
            }
        })
        .boxed()
}
