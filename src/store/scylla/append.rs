//! Appending: the loop around the conditional insert that ends with every message decided, or with the time
//! used up.
//!
//! Read top-down: [`Inner::append`] bounds the time, `insert_all` is the loop, `announce` makes the result
//! visible. Three rules carry it. What happened to a message is read from rows with its (sender, cid), never
//! from the fate of a batch (R16). After an error the same batch goes to the same seq until the database says
//! whether that seq is taken (R17). A cid that may stand in the bucket before is looked for there (R15).

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout_at};

use super::{
    BUCKET, Inner, bucket_of,
    known::{Direct, Mark},
    lwt::Outcome,
    options::Step,
    retry::{Backoff, CONFLICT, TROUBLE},
    rows, signed, unsigned,
    work::Work,
};
use crate::model::{ConvId, Seq, UserId};
use crate::store::{Appended, NewMessage, STORE_DEADLINE, StoreError, StoreResult};

/// What is kept of the deadline for raising heads: a message is lost time if it is stored and not announced.
const ANNOUNCE_RESERVE: Duration = Duration::from_millis(1500);

/// A batch that was sent and not answered.
struct Sent {
    first: Seq,
    items: Vec<usize>,
}

impl Inner {
    pub(super) async fn append(self: &Arc<Self>, conv: &ConvId, batch: Vec<NewMessage>) -> Vec<StoreResult<Appended>> {
        let direct = match Direct::of(conv) {
            Ok(direct) => direct,
            Err(e) => return vec![Err(e); batch.len()],
        };
        let deadline = Instant::now() + STORE_DEADLINE;
        let mut work = Work::new(batch);
        let mut trouble = StoreError::unavailable("no answer in time");
        // Running out of time is no result of its own: what is not decided by then is answered with the trouble.
        let _ = timeout_at(deadline - ANNOUNCE_RESERVE, self.insert_all(&direct, &mut work, &mut trouble)).await;
        if self.stop_after == Some(Step::Inserted) {
            work.withdraw(&StoreError::unavailable("stopped after the insert"));
            return work.answers(&trouble);
        }
        if !timeout_at(deadline, self.announce(&direct, &work, &mut trouble)).await.is_ok_and(|done| done) {
            work.withdraw(&trouble);
        }
        work.answers(&trouble)
    }

    async fn insert_all(self: &Arc<Self>, direct: &Direct<'_>, work: &mut Work, trouble: &mut StoreError) {
        let mut backoff = Backoff::new();
        let (mut unanswered, mut looked_in) = (None, None);
        while work.undecided().next().is_some() {
            match self.insert_some(direct, work, &mut unanswered, &mut looked_in).await {
                Ok(true) => backoff.reset(),
                Ok(false) => backoff.wait(CONFLICT).await,
                Err(e) => {
                    tracing::debug!(conv = %direct.id, error = %e, "append: trying again");
                    *trouble = e;
                    backoff.wait(TROUBLE).await;
                }
            }
        }
    }

    /// One try; true when it decided something.
    async fn insert_some(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        work: &mut Work,
        unanswered: &mut Option<Sent>,
        looked_in: &mut Option<Seq>,
    ) -> StoreResult<bool> {
        let first = match unanswered {
            Some(sent) => sent.first,
            None => self.next_free(direct).await?,
        };
        let bucket = bucket_of(first);
        if unanswered.is_none() {
            if bucket > 0 && *looked_in != Some(bucket - 1) {
                self.find_in_full_bucket(direct, bucket - 1, work).await?;
                *looked_in = Some(bucket - 1);
            }
            let room = usize::try_from((bucket + 1) * BUCKET + 1 - first).unwrap_or(usize::MAX);
            let items = work.chunk(room);
            if items.is_empty() {
                return Ok(true);
            }
            *unanswered = Some(Sent { first, items });
        }
        let Some(sent) = unanswered else { return Ok(true) };
        let outcome = self.insert(direct.id, sent.first, work, &sent.items).await?;
        let items = unanswered.take().map(|sent| sent.items).unwrap_or_default();
        match outcome {
            Outcome::Applied => {
                self.take_places(direct, first, work, &items);
                Ok(true)
            }
            Outcome::Refused(stored) => self.learn_from(direct, first, stored, work).await,
        }
    }

    /// The seq after the known top. It may be taken by now; then the insert is refused and the top is read again.
    async fn next_free(self: &Arc<Self>, direct: &Direct<'_>) -> StoreResult<Seq> {
        let known = self.known.get(direct.id).top;
        let top = if known > 0 { known } else { self.scan_to_top(direct, |_| ()).await? };
        Ok(top + 1)
    }

    fn take_places(&self, direct: &Direct<'_>, first: Seq, work: &mut Work, items: &[usize]) {
        self.known.learn(direct.id, |known| {
            for (seq, item) in (first..).zip(items) {
                let message = work.message(*item);
                let ts = message.ts;
                known.meet(direct.slot_of(message.sender.as_str()), Mark { seq, ts });
                work.decide(*item, Ok(Appended { seq, ts, fresh: true }));
            }
        });
    }

    /// A batch at `first` was refused: cids that are stored already are decided, and the top moves past the
    /// winners.
    async fn learn_from(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        first: Seq,
        mut stored: Vec<(String, Seq)>,
        work: &mut Work,
    ) -> StoreResult<bool> {
        let before = work.undecided().count();
        // The winners are read whole, their batch may be longer than ours. One of them may be ours all the same:
        // sent by another node, or by this one in a try that was not answered.
        let top = self.scan_to_top(direct, |row| stored.push((format!("{}/{}", row.sender, row.cid), row.seq))).await?;
        for (key, at) in stored {
            if let Some(item) = work.undecided_with(&key) {
                self.decide_stored(direct, item, at, work).await?;
            }
        }
        if top < first && work.undecided().count() == before {
            self.find_cids(direct, bucket_of(first), work).await?;
        }
        Ok(work.undecided().count() < before)
    }

    /// Decides the messages whose cids stand in `bucket`, which the caller knows to be full. Its last row may have
    /// been seen before the write that made it reached a quorum, so one serial read settles the bucket first;
    /// after that a plain read's answer is final.
    async fn find_in_full_bucket(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        bucket: Seq,
        work: &mut Work,
    ) -> StoreResult<()> {
        let conv = direct.id.as_str();
        if self.known.get(direct.id).sealed <= bucket {
            let last = signed((bucket + 1) * BUCKET);
            let row = self.ask(&self.cql.row_serial, (conv, signed(bucket), last)).await?;
            if rows::first::<(i64,)>(row)?.is_none() {
                return Err(StoreError::unavailable("the last row of a full bucket is missing"));
            }
            self.known.learn(direct.id, |known| known.sealed = known.sealed.max(bucket + 1));
        }
        self.find_cids(direct, bucket, work).await
    }

    /// Decides the messages whose cids a plain read finds in `bucket`.
    async fn find_cids(self: &Arc<Self>, direct: &Direct<'_>, bucket: Seq, work: &mut Work) -> StoreResult<()> {
        let open: Vec<usize> = work.undecided().collect();
        for some in open.chunks(MAX_IN) {
            let keys: Vec<&str> = some.iter().map(|item| work.key(*item)).collect();
            let found = self.ask(&self.cql.cids, (direct.id.as_str(), signed(bucket), keys)).await?;
            for (key, at) in rows::all::<(String, i64)>(found)? {
                if let Some(item) = work.undecided_with(&key) {
                    self.decide_stored(direct, item, unsigned(at), work).await?;
                }
            }
        }
        Ok(())
    }

    /// The message's (sender, cid) is stored at `at`: a retry, or another body under the same cid.
    async fn decide_stored(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        item: usize,
        at: Seq,
        work: &mut Work,
    ) -> StoreResult<()> {
        let Some(row) = self.read_row(direct.id, at).await? else {
            return Err(StoreError::unavailable("a stored message is not visible yet"));
        };
        let same = row.body == work.message(item).body;
        let stored = Appended { seq: row.seq, ts: row.ts, fresh: false };
        work.decide(item, if same { Ok(stored) } else { Err(StoreError::CidReused { seq: row.seq }) });
        Ok(())
    }

    /// Raises the heads and the senders' read marks for everything decided, fresh or not (R3). Tries until it is
    /// done; the caller bounds the time.
    async fn announce(self: &Arc<Self>, direct: &Direct<'_>, work: &Work, trouble: &mut StoreError) -> bool {
        let highest = work.highest_by_sender();
        let Some(top) = highest.iter().map(|(_, seq)| *seq).max() else { return true };
        let mut backoff = Backoff::new();
        loop {
            match self.raise_all(direct, top, &highest).await {
                Ok(()) => return true,
                Err(e) => *trouble = e,
            }
            if self.stop_after.is_some() {
                return false;
            }
            backoff.wait(TROUBLE).await;
        }
    }

    async fn raise_all(
        self: &Arc<Self>,
        direct: &Direct<'_>,
        top: Seq,
        by_sender: &[(UserId, Seq)],
    ) -> StoreResult<()> {
        self.ensure_heads(direct, top, false).await?;
        for (sender, seq) in by_sender {
            self.raise_read_mark(sender, direct.id, *seq).await?;
        }
        Ok(())
    }
}

/// ScyllaDB takes at most 100 keys in an IN.
const MAX_IN: usize = 64;
