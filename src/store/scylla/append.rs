//! Appending: the loop around the conditional insert that ends with every message decided, or with the time
//! used up.
//!
//! Read top-down: [`Inner::append`] bounds the time, `insert_all` is the loop, `announce` makes the result
//! visible. It rests on three rules. What happened to a message is read from rows with its (sender, cid), never
//! concluded from what happened to a batch (R16). After an error the same batch goes to the same seq until the database says
//! whether that seq is taken (R17). A cid that may be in the previous bucket is looked for there (R15).

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout_at};

use super::{
    BUCKET, Inner, bucket_of,
    known::{Head, Log},
    lwt::Outcome,
    options::Step,
    retry::{AFTER_CONFLICT, AFTER_ERROR, Backoff},
    rows, signed, unsigned,
    work::Work,
};
use crate::{
    model::{ConvId, NewMessage, Seq, UserId},
    store::{Appended, STORE_DEADLINE, StoreError, StoreResult},
};

/// The part of the deadline that is left for raising heads: without them a stored message cannot be answered.
const ANNOUNCE_RESERVE: Duration = Duration::from_millis(1500);

/// A batch that was sent and not answered.
struct Sent {
    first: Seq,
    items: Vec<usize>,
}

impl Inner {
    pub(super) async fn append(self: &Arc<Self>, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let log = match Log::of(conv) {
            Ok(log) => log,
            Err(e) => return vec![Err(e); batch.len()],
        };
        let deadline = Instant::now() + STORE_DEADLINE;
        let mut work = Work::new(batch);
        let mut last_error = StoreError::unavailable("no answer in time");
        // Running out of time is no result of its own: what is not decided by then is answered with the last error.
        let _ = timeout_at(deadline - ANNOUNCE_RESERVE, self.insert_all(&log, &mut work, &mut last_error)).await;
        if self.stop_after == Some(Step::Inserted) {
            work.withdraw(&StoreError::unavailable("stopped after the insert"));
            return work.answers(&last_error);
        }
        if !timeout_at(deadline, self.announce(&log, &work, &mut last_error)).await.is_ok_and(|done| done) {
            work.withdraw(&last_error);
        }
        work.answers(&last_error)
    }

    async fn insert_all(self: &Arc<Self>, log: &Log<'_>, work: &mut Work, last_error: &mut StoreError) {
        let mut backoff = Backoff::new();
        let (mut unanswered, mut searched) = (None, None);
        while work.undecided().next().is_some() {
            match self.insert_some(log, work, &mut unanswered, &mut searched).await {
                Ok(true) => backoff.reset(),
                Ok(false) => backoff.wait(AFTER_CONFLICT).await,
                Err(e) => {
                    tracing::debug!(conv = %log.id, error = %e, "append: trying again");
                    *last_error = e;
                    backoff.wait(AFTER_ERROR).await;
                }
            }
        }
    }

    /// One try; true when it decided something.
    async fn insert_some(
        self: &Arc<Self>,
        log: &Log<'_>,
        work: &mut Work,
        unanswered: &mut Option<Sent>,
        searched: &mut Option<Seq>,
    ) -> StoreResult<bool> {
        let first = match unanswered {
            Some(sent) => sent.first,
            None => self.next_free(log).await?,
        };
        let bucket = bucket_of(first);
        if unanswered.is_none() {
            if bucket > 0 && *searched != Some(bucket - 1) {
                self.find_in_full_bucket(log, bucket - 1, work).await?;
                *searched = Some(bucket - 1);
            }
            let room = usize::try_from((bucket + 1) * BUCKET + 1 - first).unwrap_or(usize::MAX);
            let items = work.chunk(room);
            if items.is_empty() {
                return Ok(true);
            }
            *unanswered = Some(Sent { first, items });
        }
        let Some(sent) = unanswered else { return Ok(true) };
        let outcome = self.insert(log.id, sent.first, work, &sent.items).await?;
        let items = unanswered.take().map(|sent| sent.items).unwrap_or_default();
        match outcome {
            Outcome::Applied => {
                self.take_places(log, first, work, &items);
                Ok(true)
            }
            Outcome::Refused(stored) => self.resolve_refusal(log, first, stored, work).await,
        }
    }

    /// The seq after the known top. It may be taken by now; then the insert is refused and the top is read again.
    async fn next_free(self: &Arc<Self>, log: &Log<'_>) -> StoreResult<Seq> {
        let known = self.known.get(log.id).top;
        let top = if known > 0 { known } else { self.scan_to_top(log, |_| ()).await? };
        Ok(top + 1)
    }

    fn take_places(&self, log: &Log<'_>, first: Seq, work: &mut Work, items: &[usize]) {
        self.known.update(log.id, |known| {
            for (seq, item) in (first..).zip(items) {
                let message = work.message(*item);
                let ts = message.ts;
                known.see(log.place_of(message.sender.as_str()), Head { seq, ts });
                work.decide(*item, Ok(Appended { seq, ts, fresh: true }));
            }
        });
    }

    /// A batch at `first` was refused: messages whose cids are stored are decided, and the known top moves past
    /// the rows that were in the way.
    async fn resolve_refusal(
        self: &Arc<Self>,
        log: &Log<'_>,
        first: Seq,
        mut stored: Vec<(String, Seq)>,
        work: &mut Work,
    ) -> StoreResult<bool> {
        let before = work.undecided().count();
        // All rows up to the top are read: the batch that won may be longer than ours. Some of them may be our own
        // messages, sent by another node, or by this one in a try that was not answered.
        let top = self.scan_to_top(log, |row| stored.push((format!("{}/{}", row.sender, row.cid), row.seq))).await?;
        for (key, at) in stored {
            if let Some(item) = work.undecided_with(&key) {
                self.decide_stored(log, item, at, work).await?;
            }
        }
        if top < first && work.undecided().count() == before {
            self.find_cids(log, bucket_of(first), work).await?;
        }
        Ok(work.undecided().count() < before)
    }

    /// Decides the messages whose cids are in `bucket`, which the caller knows to be full. Its last row may have
    /// been seen before the write that made it reached a quorum, so one serial read settles the bucket first;
    /// after that a plain read's answer is final.
    async fn find_in_full_bucket(self: &Arc<Self>, log: &Log<'_>, bucket: Seq, work: &mut Work) -> StoreResult<()> {
        let conv = log.id.as_str();
        if self.known.get(log.id).sealed <= bucket {
            let last = signed((bucket + 1) * BUCKET);
            let row = self.ask(&self.cql.row_serial, (conv, signed(bucket), last)).await?;
            if rows::first::<(i64,)>(row)?.is_none() {
                return Err(StoreError::unavailable("the last row of a full bucket is missing"));
            }
            self.known.update(log.id, |known| known.sealed = known.sealed.max(bucket + 1));
        }
        self.find_cids(log, bucket, work).await
    }

    /// Decides the messages whose cids a plain read finds in `bucket`.
    async fn find_cids(self: &Arc<Self>, log: &Log<'_>, bucket: Seq, work: &mut Work) -> StoreResult<()> {
        let open: Vec<usize> = work.undecided().collect();
        for some in open.chunks(MAX_IN) {
            let keys: Vec<&str> = some.iter().map(|item| work.key(*item)).collect();
            let found = self.ask(&self.cql.cids, (log.id.as_str(), signed(bucket), keys)).await?;
            for (key, at) in rows::all::<(String, i64)>(found)? {
                if let Some(item) = work.undecided_with(&key) {
                    self.decide_stored(log, item, unsigned(at), work).await?;
                }
            }
        }
        Ok(())
    }

    /// The message's (sender, cid) is stored at `at`: a retry, or another body under the same cid.
    async fn decide_stored(self: &Arc<Self>, log: &Log<'_>, item: usize, at: Seq, work: &mut Work) -> StoreResult<()> {
        let Some(row) = self.read_row(log.id, at).await? else {
            return Err(StoreError::unavailable("a stored message is not visible yet"));
        };
        let same = row.body == work.message(item).body;
        let stored = Appended { seq: row.seq, ts: row.ts, fresh: false };
        work.decide(item, if same { Ok(stored) } else { Err(StoreError::CidReused { seq: row.seq }) });
        Ok(())
    }

    /// Raises the heads and the senders' read marks for everything decided, fresh or not (R3). Tries until it is
    /// done; the caller bounds the time.
    async fn announce(self: &Arc<Self>, log: &Log<'_>, work: &Work, last_error: &mut StoreError) -> bool {
        let highest = work.highest_by_sender();
        let Some(top) = highest.iter().map(|(_, seq)| *seq).max() else { return true };
        let mut backoff = Backoff::new();
        loop {
            match self.raise_all(log, top, &work.marks_by_sender()).await {
                Ok(()) => return true,
                Err(e) => *last_error = e,
            }
            if self.stop_after.is_some() {
                return false;
            }
            backoff.wait(AFTER_ERROR).await;
        }
    }

    async fn raise_all(self: &Arc<Self>, log: &Log<'_>, top: Seq, by_sender: &[(UserId, Seq)]) -> StoreResult<()> {
        self.ensure_heads(log, top, false).await?;
        for (sender, seq) in by_sender {
            self.raise_read_mark(sender, log.id, *seq).await?;
        }
        Ok(())
    }
}

/// ScyllaDB takes at most 100 keys in an IN.
const MAX_IN: usize = 64;
