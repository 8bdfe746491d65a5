//! What waits for a session: a queue that costs nothing while it is empty, with a stated rule for full.
//!
//! Filled by the router, the registry and store requests; drained by the session's pump. No tokio channel: one
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

use super::live::{Live, Shared};
use crate::{
    model::{ConvId, Millis, Row, Seq},
    protocol::{CloseReason, ErrorCode, ServerFrame, server::Announcement},
    session::{Cause, Marking, Tick, joined::GapsPage},
};

/// Something for a session.
#[derive(Debug)]
pub enum Mail {
    /// A message that may be next.
    Live(Arc<Live>),
    /// A conversation is at least so far.
    Heard(ConvId, Seq),
    /// A receipt or a signal.
    Passing(Arc<Shared>),
    /// Another session of this user exists.
    Announcement(Arc<Announcement>),
    /// A send was answered.
    Appended {
        /// The request's `ref`.
        reference: Option<u64>,
        /// Where it went.
        conv: ConvId,
        /// Its place, or what to say.
        answer: Result<(Seq, Millis), (ErrorCode, String)>,
    },
    /// A page of a log.
    Page {
        /// Which log.
        conv: ConvId,
        /// The stored cursor, where the page starts at it.
        cursor: Option<Seq>,
        /// The rows.
        rows: Result<Vec<Row>, ()>,
    },
    /// A page of (conversation, head, cursor).
    Gaps {
        /// Why the heads were compared.
        cause: Cause,
        /// The page and where the next one starts.
        page: Result<GapsPage, ()>,
    },
    /// The top and the cursor of a conversation.
    Top {
        /// What waits for it.
        asked: Marking,
        /// Top and cursor, or why not.
        found: Result<(Seq, Seq), String>,
    },
    /// A cursor write ended.
    Cursor {
        /// Which conversation.
        conv: ConvId,
        /// What the store confirmed.
        stored: Option<Seq>,
    },
    /// A read mark write ended.
    ReadStored {
        /// The request's `ref`.
        reference: Option<u64>,
        /// Why it was not stored.
        stored: Result<(), String>,
    },
    /// The answer to `history` or `conversations`.
    Listing(Box<ServerFrame>),
    /// Heads are to be compared after a delay.
    Doubt {
        /// Why.
        cause: Cause,
        /// In milliseconds from now.
        delay: Tick,
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
                Mail::Live(_) | Mail::Heard(..) if queue.len() >= LIVE_WAITING => {
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

    /// Takes nothing more, and drops what waits.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.queue.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConvId, UserId};

    fn live(seq: Seq) -> Mail {
        let user = UserId::new("a").unwrap();
        let conv = ConvId::direct(&user, &user);
        Mail::Live(Arc::new(Live { conv, seq, frame: Shared::encoded(bytes::Bytes::new()), from_bus: false }))
    }

    #[test]
    fn full_means_lagged_and_answers_still_get_through() {
        let mailbox = Mailbox::default();
        for seq in 1..=LIVE_WAITING as Seq + 5 {
            mailbox.push(live(seq));
        }
        mailbox.push(Mail::ReadStored { reference: None, stored: Ok(()) });
        let (mail, lagged) = mailbox.take();
        assert!(lagged);
        assert_eq!(mail.len(), LIVE_WAITING + 1);
        assert!(!mailbox.take().1, "told once");
    }
}
