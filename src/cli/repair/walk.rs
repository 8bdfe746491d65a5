//! The walk over all conversations: piece by piece of the ring of tokens, so that it can go on where it ended.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::way::Way;
use crate::{
    backoff::Backoff,
    model::ConvId,
    store::{StoreError, StoreResult, scylla::Conversations},
};

/// The ring has 2^64 tokens; a piece has 2^54.
const PIECE_BITS: u32 = 54;
/// How often a piece is read again when the cluster does not answer.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often a terminal is told.
const SHOW: Duration = Duration::from_millis(200);

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Conversations above this token.
    pub(super) from: i64,
    pub(super) per_sec: u32,
    pub(super) at_once: usize,
    /// How long one conversation is tried.
    pub(super) patience: Duration,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Progress {
    done: Mutex<Done>,
    /// A terminal is watching.
    shown: bool,
}

#[derive(Debug)]
struct Done {
    conversations: u64,
    behind: u64,
    next: i64,
    told: Option<Instant>,
}

impl Progress {
    pub(super) fn new(from: i64, shown: bool) -> Self {
        Self { done: Mutex::new(Done { conversations: 0, behind: 0, next: from, told: None }), shown }
    }

    /// Everything up to `next` is done.
    pub(super) fn add(&self, conversations: u64, behind: u64, next: i64) {
        let mut done = self.done.lock();
        done.conversations += conversations;
        done.behind += behind;
        done.next = next;
        if self.shown && done.told.is_none_or(|told| told.elapsed() >= SHOW) {
            done.told = Some(Instant::now());
            let percent = (i128::from(next) - i128::from(i64::MIN)) * 100 / (1 << 64);
            let Done { conversations, behind, next, .. } = &*done;
            eprint!("\r{percent:3} %  {conversations} conversations, {behind} were behind; done up to token {next}   ");
        }
    }

    /// Leaves the line of a terminal.
    pub(super) fn end(&self) {
        if self.shown && self.done.lock().told.is_some() {
            eprintln!();
        }
    }

    /// Conversations, those that were behind, and the token up to which everything is done.
    pub(super) fn now(&self) -> (u64, u64, i64) {
        let done = self.done.lock();
        (done.conversations, done.behind, done.next)
    }
}

/// The piece after a token, up to a border that is the same wherever one begins.
fn piece_after(after: i64) -> Option<(i64, i64)> {
    let border = ((i128::from(after) >> PIECE_BITS) + 1) << PIECE_BITS;
    let upto = i64::try_from(border).unwrap_or(i64::MAX);
    (after < i64::MAX).then_some((after, upto))
}

/// So many at once, and so many per second.
struct Pace {
    every: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(per_sec: u32) -> Self {
        Self { every: Duration::from_secs(1) / per_sec.max(1), next: Mutex::new(Instant::now()) }
    }

    async fn turn(&self) {
        sleep_until(self.take(Instant::now())).await;
    }

    /// When the next one may begin.
    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock();
        let at = (*next).max(now);
        *next = at + self.every;
        at
    }
}

/// Why a piece was not done.
enum Fault {
    /// It could not be read to its end.
    Unread(StoreError),
    /// A conversation of it cannot be mended.
    Unmended(anyhow::Error),
}

/// Mends every conversation above the plan's token.
///
/// # Errors
/// When the cluster does not answer for long, or a conversation cannot be mended.
pub(super) async fn walk(way: &Way, plan: &Plan, progress: &Progress) -> anyhow::Result<()> {
    let (all, pace) = (way.all_conversations().await?, Pace::new(plan.per_sec));
    for (after, upto) in std::iter::successors(piece_after(plan.from), |(_, upto)| piece_after(*upto)) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut tries = 0;
        let (conversations, behind) = loop {
            match mend_piece(way, &all, (after, upto), plan, &pace).await {
                Ok(counts) => break counts,
                Err(Fault::Unmended(error)) => return Err(error),
                Err(Fault::Unread(error)) if tries == TRIES => return Err(error).context("reading the conversations"),
                Err(Fault::Unread(error)) => {
                    tries += 1;
                    tracing::warn!(%error, "the conversations could not be read; trying again");
                    sleep(backoff.next()).await;
                }
            }
        };
        progress.add(conversations, behind, upto);
    }
    Ok(())
}

/// How many conversations there were, and how many were behind.
async fn mend_piece(
    way: &Way,
    all: &Conversations,
    (after, upto): (i64, i64),
    plan: &Plan,
    pace: &Pace,
) -> Result<(u64, u64), Fault> {
    let counts = Mutex::new((0, 0));
    let found = all.between(after, upto).await.map_err(Fault::Unread)?;
    let mend = |conv: ConvId| {
        let counts = &counts;
        async move {
            pace.turn().await;
            let mended = timeout(plan.patience, mend(way, all, &conv)).await;
            let seconds = plan.patience.as_secs();
            let mended = mended.map_err(|_| anyhow::anyhow!("{conv} could not be mended within {seconds} s"));
            let behind = mended.map_err(Fault::Unmended)?;
            let mut counts = counts.lock();
            counts.0 += 1;
            counts.1 += u64::from(behind);
            Ok(())
        }
    };
    found.map_err(Fault::Unread).try_for_each_concurrent(plan.at_once, mend).await?;
    Ok(counts.into_inner())
}

/// Whether the conversation had a head below its end. Tries until it is done: a long log that lost its heads takes many
/// times what one call may.
async fn mend(way: &Way, all: &Conversations, conv: &ConvId) -> bool {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut before = None;
    loop {
        match mend_once(way, all, conv, &mut before).await {
            Ok(behind) => return behind,
            Err(error) => tracing::info!(%conv, %error, "not mended yet; trying again"),
        }
        sleep(backoff.next()).await;
    }
}

async fn mend_once(way: &Way, all: &Conversations, conv: &ConvId, before: &mut Option<u64>) -> StoreResult<bool> {
    let lowest = match *before {
        Some(lowest) => lowest,
        None => *before.insert(all.lowest_head(conv).await?),
    };
    Ok(lowest < way.mend(conv).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_ring_from_anywhere() {
        for from in [i64::MIN, -1, 0, 1, i64::MAX - 1] {
            let mut at = from;
            let mut count = 0;
            while let Some((after, upto)) = piece_after(at) {
                assert!(after == at && upto > after, "{after} to {upto}");
                (at, count) = (upto, count + 1);
            }
            assert_eq!(at, i64::MAX);
            assert!(count <= 1024, "{count}");
        }
        assert_eq!(std::iter::successors(piece_after(i64::MIN), |(_, upto)| piece_after(*upto)).count(), 1024);
        assert_eq!(piece_after(i64::MAX), None);
    }

    #[test]
    fn the_rate_holds_and_what_was_not_used_is_not_saved() {
        let pace = Pace::new(100);
        let begin = Instant::now() + Duration::from_secs(1);
        let times: Vec<_> = (0..50).map(|_| pace.take(begin)).collect();
        assert_eq!((times[0], times[49]), (begin, begin + Duration::from_millis(490)));
        let later = begin + Duration::from_secs(9);
        assert_eq!((pace.take(later), pace.take(later)), (later, later + Duration::from_millis(10)));
    }
}
