//! What waits for a session: a queue that costs nothing while it is empty, with a stated rule for full.
//!
//! Filled by the router, the registry and `ops`; drained by the session's connection task. No tokio channel: one
//! allocates a block of 32 slots before the first message (measured: 1.5–2.3 KB per connection).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::{
    model::{ConvId, Seq},
    protocol::{CloseReason, LiveMessage, Op, Outcome, ServerFrame, SharedFrame, server::Announcement},
    session::{Cause, Tick, UpkeepDone},
};

/// Something for a session.
#[derive(Debug)]
pub enum Mail {
    /// A message that may be next.
    Live(Arc<LiveMessage>),
    /// A conversation is at least so far.
    Notice(ConvId, Seq),
    /// A receipt or a signal.
    Passing(Arc<SharedFrame>),
    /// Another session of this user exists.
    Announcement(Arc<Announcement>),
    /// What the client asked came to its end.
    Outcome {
        /// Which op it was.
        op: Op,
        /// The request's `ref`.
        reference: Option<u64>,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something that the session itself needed was done.
    Upkeep(UpkeepDone),
    /// Heads are to be compared after a delay.
    Compare {
        /// Why.
        cause: Cause,
        /// In milliseconds from now.
        delay: Tick,
    },
    /// A fresh token of the client, to be checked now: the keys that it waited for were fetched.
    Token {
        /// The request's `ref`.
        reference: Option<u64>,
        /// The token.
        token: String,
    },
    /// The connection is to be closed; with what to say before.
    Close(CloseReason, Option<Box<ServerFrame>>),
}

/// The queue of one session.
#[derive(Debug, Default)]
pub struct Mailbox {
    queue: Mutex<VecDeque<Mail>>,
    waker: AtomicWaker,
    lagged: AtomicBool,
    closed: AtomicBool,
}

/// Live messages that may wait for a session. More are dropped, and the session compares its heads instead: as
/// many as that, it is behind anyway. Answers to the session's own requests are not counted, they are bounded
/// by the requests under way.
const LIVE_WAITING: usize = 256;
/// Receipts and signals that may wait; more are dropped, they are only of the moment.
const PASSING_WAITING: usize = 512;

impl Mailbox {
    /// Adds a piece of mail, by the rules above.
    pub fn push(&self, mail: Mail) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        {
            let mut queue = self.queue.lock();
            match &mail {
                Mail::Live(_) | Mail::Notice(..) if queue.len() >= LIVE_WAITING => {
                    self.lagged.store(true, Ordering::Release);
                }
                Mail::Passing(_) if queue.len() >= PASSING_WAITING => return,
                _ => queue.push_back(mail),
            }
        }
        self.waker.wake();
    }

    /// Everything that waits, and whether live messages were dropped since the last call. Frees the queue's memory.
    pub fn take(&self) -> (VecDeque<Mail>, bool) {
        let lagged = self.lagged.load(Ordering::Acquire) && self.lagged.swap(false, Ordering::AcqRel);
        (std::mem::take(&mut *self.queue.lock()), lagged)
    }

    /// Whom to wake for mail.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether its session has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing more, and drops what waits.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.queue.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::UserId, protocol::Answer};

    fn live(seq: Seq) -> Mail {
        let user = UserId::new("a").unwrap();
        let conv = ConvId::direct(&user, &user);
        let frame = SharedFrame::encoded(bytes::Bytes::new());
        Mail::Live(Arc::new(LiveMessage { conv, seq, frame, from_bus: false }))
    }

    #[test]
    fn full_means_lagged_and_answers_still_get_through() {
        let mailbox = Mailbox::default();
        for seq in 1..=LIVE_WAITING as Seq + 5 {
            mailbox.push(live(seq));
        }
        mailbox.push(Mail::Outcome { op: Op::Read, reference: None, outcome: Ok(Answer::Done) });
        let (mail, lagged) = mailbox.take();
        assert!(lagged);
        assert_eq!(mail.len(), LIVE_WAITING + 1);
        assert!(!mailbox.take().1, "told once");
    }
}
