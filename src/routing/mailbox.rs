//! What waits for a session: a queue that costs nothing while it is empty, with a stated rule for full.
//!
//! Filled by the router, the registry and `ops`; drained by the session's connection task. No tokio channel: one
//! allocates a block of 32 slots before the first message (measured: 1.5–2.3 KB per connection).

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    model::{ConvId, Seq},
    protocol::{CloseReason, LiveMessage, Op, Outcome, ServerFrame, SharedFrame, server::Announcement},
    session::{Cause, Tick, UpkeepDone, View},
};

/// Something for a session.
#[derive(Debug)]
pub enum Mail {
    /// A message that may be next.
    Live(Arc<LiveMessage>),
    /// A conversation is at least so far.
    Notice(ConvId, Seq),
    /// What the user is in a room was changed by the event there: as a notice, and for the client.
    Member(ConvId, Seq, Arc<SharedFrame>),
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
    /// An operator asks how the session stands to a conversation.
    Look(Box<Look>),
}

/// A question to a session, answered by its connection's task.
#[derive(Debug)]
pub struct Look {
    /// About which conversation.
    pub conv: ConvId,
    /// Where to say it.
    pub tell: oneshot::Sender<Seen>,
}

/// What a connection's task says of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How the session stands to the conversation.
    #[serde(flatten)]
    pub view: View,
    /// Bytes that were written for the peer and not yet taken by its system.
    pub waiting_bytes: usize,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
    lagged: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Mail>,
    /// How far the conversations are whose live messages found no room.
    #[expect(clippy::box_collection, reason = "almost no session ever has any, and each has a mailbox")]
    dropped: Option<Box<HashMap<ConvId, Seq>>>,
}

/// Live messages that may wait for a session. Of more only their places are kept, and the session reads them from the
/// store: as many as that, it is behind anyway. Answers to the session's own requests are not counted, they are bounded
/// by the requests under way.
const LIVE_WAITING: usize = 256;
/// Conversations of which that is kept. With more the mailbox is lagged, and the session compares its heads instead.
const CONVS_DROPPED: usize = 64;
/// Receipts and signals that may wait; more are dropped, they are only of the moment.
const PASSING_WAITING: usize = 512;

impl Mailbox {
    /// Adds a piece of mail, by the rules above.
    pub fn push(&self, mail: Mail) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        {
            let mut waiting = self.waiting.lock();
            let is_full = waiting.queue.len() >= LIVE_WAITING;
            let kept = match mail {
                Mail::Live(live) if is_full => waiting.keep_place(&live.conv, live.seq),
                Mail::Notice(conv, seq) | Mail::Member(conv, seq, _) if is_full => waiting.keep_place(&conv, seq),
                Mail::Passing(_) if waiting.queue.len() >= PASSING_WAITING => return,
                mail => {
                    waiting.queue.push_back(mail);
                    true
                }
            };
            if !kept {
                self.lagged.store(true, Ordering::Release);
            }
        }
        self.waker.wake();
    }

    /// Everything that waits, at the end the places of live messages that found no room; and whether of some not even
    /// that was kept since the last call. Frees the memory.
    pub fn take(&self) -> (VecDeque<Mail>, bool) {
        let lagged = self.lagged.load(Ordering::Acquire) && self.lagged.swap(false, Ordering::AcqRel);
        let Waiting { mut queue, dropped } = std::mem::take(&mut *self.waiting.lock());
        queue.extend(dropped.into_iter().flat_map(|dropped| *dropped).map(|(conv, seq)| Mail::Notice(conv, seq)));
        (queue, lagged)
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
        *self.waiting.lock() = Waiting::default();
    }
}

impl Waiting {
    /// Keeps the highest seq of a conversation instead of its messages; false when there are too many conversations.
    fn keep_place(&mut self, conv: &ConvId, seq: Seq) -> bool {
        let dropped = self.dropped.get_or_insert_default();
        if let Some(highest) = dropped.get_mut(conv) {
            *highest = (*highest).max(seq);
        } else if dropped.len() < CONVS_DROPPED {
            dropped.insert(conv.clone(), seq);
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::UserId, protocol::Answer};

    fn live(peer: usize, seq: Seq) -> Mail {
        let frame = SharedFrame::encoded(bytes::Bytes::new());
        Mail::Live(Arc::new(LiveMessage {
            conv: conv(peer),
            seq,
            puts_out: None,
            expires: None,
            ts: 0,
            frame,
            from_bus: false,
        }))
    }

    fn conv(peer: usize) -> ConvId {
        ConvId::direct(&UserId::new("a").unwrap(), &UserId::new(&format!("b{peer}")).unwrap())
    }

    #[test]
    fn full_keeps_places_and_answers_still_get_through() {
        let mailbox = Mailbox::default();
        for seq in 1..=LIVE_WAITING as Seq {
            mailbox.push(live(0, seq));
        }
        for seq in [9, 7] {
            (0..CONVS_DROPPED).for_each(|peer| mailbox.push(live(peer, 1_000 + seq)));
        }
        mailbox.push(Mail::Notice(conv(1), 2_000));
        mailbox.push(Mail::Outcome { op: Op::Read, reference: None, outcome: Ok(Answer::Done) });
        let (mail, lagged) = mailbox.take();
        assert!(!lagged, "nothing is forgotten");
        assert_eq!(mail.len(), LIVE_WAITING + 1 + CONVS_DROPPED);
        let mut places: Vec<_> = mail
            .iter()
            .filter_map(|mail| if let Mail::Notice(conv, seq) = mail { Some((conv.clone(), *seq)) } else { None })
            .collect();
        places.sort();
        let mut expected: Vec<_> = (0..CONVS_DROPPED).map(|peer| (conv(peer), 1_009)).collect();
        expected[1].1 = 2_000;
        expected.sort();
        assert_eq!(places, expected);
        assert!(mailbox.take().0.is_empty(), "told once");
    }

    #[test]
    fn too_many_conversations_mean_lagged() {
        let mailbox = Mailbox::default();
        for peer in 0..LIVE_WAITING + CONVS_DROPPED {
            mailbox.push(live(peer, 1));
        }
        mailbox.push(live(LIVE_WAITING + CONVS_DROPPED, 1));
        let (mail, lagged) = mailbox.take();
        assert!(lagged);
        assert_eq!(mail.len(), LIVE_WAITING + CONVS_DROPPED);
        assert!(!mailbox.take().1, "told once");
    }
}
