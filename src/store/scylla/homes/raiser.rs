//! Raises of users' inbox rows: one is under way per user, and what comes meanwhile goes with the next. Each is stamped,
//! so that readers can tell whether anything has changed since they looked.
//!
//! A raise with number k writes its heads and marks together with stamp 2k - 1 of this incarnation, in one batch of one
//! partition, until a quorum has it; the same batch again after a time-out, before anything newer. Once it is
//! acknowledged, and some seconds later, stamp 2k says that it is *settled*, unless a newer raise came first. Numbers come
//! from one counter per process: they need not be dense, only grow.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use compact_str::{CompactString, ToCompactString};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{Inner, gathered::Write};
use crate::{
    model::{ConvId, ReadMark, Seq, UserId},
    store::{
        fence,
        scylla::{
            inbox::preview_of,
            retry::{AFTER_ERROR, Backoff},
            signed,
        },
    },
};

/// How long a user's inbox rests before its last stamp is settled: a busy user pays for one per burst.
const REST: Duration = Duration::from_secs(3);
/// Conversations of one batch.
const AT_ONCE: usize = 64;
/// How often settling is tried: unsettled, it costs comparisons and nothing else.
const SETTLE_TRIES: usize = 3;

/// What one inbox row is to be at least.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// The head and the message there: shared by all whom it concerns.
    pub(super) head: Option<Arc<fence::Raise>>,
    pub(super) mark: ReadMark,
}

/// A raised head: user, conversation, head, time, sender, cid, kind, preview, counts, timestamp.
pub(super) type HeadValues<'a> = (&'a str, &'a str, i64, i64, &'a str, &'a str, i8, &'a [u8], i64, i64, i64);
/// The same with the read mark at it, and the counts there, before the timestamp.
pub(super) type HeadAndMarkValues<'a> =
    (&'a str, &'a str, i64, i64, &'a str, &'a str, i8, &'a [u8], i64, i64, i64, i64, i64, i64);

/// All raises of a process.
#[derive(Default)]
pub(super) struct Raiser {
    numbers: AtomicU64,
    users: Mutex<HashMap<UserId, Arc<Raising>>>,
}

/// The raises of one user.
#[derive(Default)]
struct Raising {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    parts: HashMap<ConvId, Part>,
    callers: Vec<oneshot::Sender<()>>,
}

/// One raise of a user, as it is written, again and again if need be.
pub(super) struct Raise {
    pub(super) user: UserId,
    pub(super) parts: HashMap<ConvId, Part>,
    /// The incarnation, and its number for this raise.
    pub(super) life: CompactString,
    pub(super) number: u64,
}

impl Part {
    /// What stands in the inbox of the message's body.
    pub(super) fn preview(&self) -> &[u8] {
        let last = self.head.as_ref().and_then(|raise| raise.last.as_ref());
        last.map_or(&[], preview_of)
    }

    pub(super) fn upto(&self) -> Seq {
        self.head.as_ref().map_or(0, |raise| raise.upto)
    }

    fn join(&mut self, other: Self) {
        if other.upto() > self.upto() {
            self.head = other.head;
        }
        self.mark.raise(other.mark);
    }
}

impl Inner {
    /// Raises one row; the receiver hears when a quorum has it.
    pub(super) fn raise_row(self: &Arc<Self>, user: &UserId, conv: &ConvId, part: Part) -> oneshot::Receiver<()> {
        let (caller, raised) = oneshot::channel();
        let mut users = self.raiser().users.lock();
        let known = users.get(user).cloned();
        let raising = known.clone().unwrap_or_default();
        {
            let mut waiting = raising.waiting.lock();
            waiting.parts.entry(conv.clone()).or_default().join(part);
            waiting.callers.push(caller);
        }
        if known.is_some() {
            raising.wake.notify_one();
        } else {
            users.insert(user.clone(), raising.clone());
            tokio::spawn(self.clone().raise_all(user.clone(), raising));
        }
        raised
    }

    fn raiser(&self) -> &Raiser {
        &self.homes.raiser
    }

    async fn raise_all(self: Arc<Self>, user: UserId, raising: Arc<Raising>) {
        let guard = BeginAnewOnPanic { raiser: self.raiser(), user: &user };
        let mut unsettled: Option<(CompactString, u64)> = None;
        loop {
            let Waiting { parts, callers } = raising.take();
            if parts.is_empty() {
                if timeout(REST, raising.wake.notified()).await.is_ok() {
                    continue;
                }
                if let Some((life, number)) = unsettled.take() {
                    self.settle(&user, &life, number, &raising).await;
                }
                if self.raiser().is_over(&user, &raising) {
                    std::mem::forget(guard);
                    return;
                }
                continue;
            }
            let number = self.raiser().numbers.fetch_add(1, Ordering::Relaxed) + 1;
            let life = self.homes.me.read().who.to_compact_string();
            let raise = Arc::new(Raise { user: user.clone(), parts, life: life.clone(), number });
            let (mut backoff, mut again) = (Backoff::new(), false);
            while let Err(error) = self.watched(self.write(Write::Raise(raise.clone()), again)).await {
                tracing::debug!(%user, %error, "raising heads: trying again");
                again = true;
                backoff.wait(AFTER_ERROR).await;
            }
            for caller in callers {
                let _ = caller.send(());
            }
            unsettled = Some((life, number));
        }
    }

    async fn settle(self: &Arc<Self>, user: &UserId, life: &CompactString, number: u64, raising: &Raising) {
        let mut backoff = Backoff::new();
        for tries in 0..SETTLE_TRIES {
            if !raising.waiting.lock().parts.is_empty() {
                return;
            }
            let settle = Write::Settle { user: user.clone(), life: life.clone(), number };
            match self.write(settle, tries > 0).await {
                Ok(()) => return,
                Err(_) => backoff.wait(AFTER_ERROR).await,
            }
        }
    }
}

/// A lost message leaves everything but the counts empty: never null, which would hide a value of the same timestamp.
pub(super) fn head_values<'a>(user: &'a str, conv: &'a str, raise: &'a fence::Raise) -> HeadValues<'a> {
    let fence::Raise { upto, last, counts, .. } = raise;
    let (upto, first, second) = (signed(*upto), signed(counts.first), signed(counts.second));
    match last {
        Some(row) => {
            let (sender, cid, kind) = (row.sender.as_str(), row.cid.as_str(), row.kind.byte().cast_signed());
            (user, conv, upto, signed(row.ts), sender, cid, kind, preview_of(row), first, second, upto)
        }
        None => (user, conv, upto, 0, "", "", 0, &[], first, second, upto),
    }
}

impl Raising {
    /// What waits, as much as one batch holds. Who waits for the rest waits on.
    fn take(&self) -> Waiting {
        let mut waiting = self.waiting.lock();
        if waiting.parts.len() <= AT_ONCE {
            return std::mem::take(&mut waiting);
        }
        // Some first, all callers with the last: rare, so that it need not be told which of them wait for what.
        let some: Vec<ConvId> = waiting.parts.keys().take(AT_ONCE).cloned().collect();
        let parts = some.into_iter().filter_map(|conv| waiting.parts.remove_entry(&conv)).collect();
        Waiting { parts, callers: Vec::new() }
    }
}

impl Raiser {
    /// Ends a user's task, unless something came.
    fn is_over(&self, user: &UserId, raising: &Raising) -> bool {
        let mut users = self.users.lock();
        let over = raising.waiting.lock().parts.is_empty();
        if over {
            users.remove(user);
        }
        over
    }
}

/// Whoever waits asks again, and finds a task that runs.
struct BeginAnewOnPanic<'a> {
    raiser: &'a Raiser,
    user: &'a UserId,
}

impl Drop for BeginAnewOnPanic<'_> {
    fn drop(&mut self) {
        self.raiser.users.lock().remove(self.user);
    }
}
