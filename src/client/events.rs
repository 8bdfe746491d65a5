//! What arrives, on its way from the driver to the user of the client.
//!
//! The queue is bounded, yet never keeps the driver from reading answers. Messages are bounded by the node's window,
//! since they are acknowledged only after they were taken from here; receipts, signals and presence are dropped when the queue is
//! long (receipts are in `conversations` too, signals are live only); everything else is rare. If a node exceeds its
//! window, the driver stops reading its socket.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::task::AtomicWaker;

use super::ConnectError;
use crate::{
    model::{ConvId, Seq},
    protocol::{
        ErrorCode, Message,
        ask::Seen,
        server::{Receipt, Signal, Welcome},
    },
};

/// Above this length, receipts and signals are dropped.
const SOFT_LIMIT: usize = 1024;
/// Above this length, the socket is not read.
const HARD_LIMIT: usize = 4096;

/// What a client hears. A later version may know more of them: pass over what you do not know.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A new message, in the order of its conversation.
    Message(Message),
    /// A row of a kind that this version does not know, in its place in the order.
    Unknown {
        /// Which conversation.
        conv: ConvId,
        /// Its place.
        seq: Seq,
    },
    /// How far someone has received or read a conversation.
    Receipt(Receipt),
    /// A live signal.
    Signal(Signal),
    /// A user whom this client watches came or went; or, without `online`, is not told of any more.
    Presence(Seen),
    /// Everything missed has been handed out; what follows is live. Comes after every connection.
    CaughtUp,
    /// A connection is up.
    Connected(Box<Welcome>),
    /// The connection is gone; another one will be tried.
    Disconnected(ConnectError),
    /// A backlog was cut; what lies before it is available through `history`.
    Truncated {
        /// Which conversation.
        conv: ConvId,
        /// The first seq that follows.
        from: Seq,
    },
    /// The node is about to close; the client reconnects by itself.
    Goodbye {
        /// Why.
        reason: String,
        /// When the client will come back.
        reconnect_ms: u64,
    },
    /// The node refused something that gets no answer: an acknowledgement, a read mark, a signal.
    Refused {
        /// The error code.
        code: ErrorCode,
        /// The node's message.
        message: String,
    },
    /// The end: no further connection is tried, and no event follows.
    Closed(ConnectError),
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Event>,
    /// Messages handed out since the driver last looked.
    taken: Vec<(ConvId, Seq)>,
    /// Who waits for an event: all of them are woken, for one that is not polled any more must not keep it from the others.
    waiting: Vec<Waker>,
    ended: bool,
}

/// The queue between the driver and the user.
#[derive(Debug, Default)]
pub(super) struct Events {
    state: Mutex<State>,
    auto_ack: bool,
    driver: AtomicWaker,
}

impl Events {
    pub(super) fn new(auto_ack: bool) -> Self {
        Self { auto_ack, ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: Event) {
        let mut state = self.state();
        let hint = matches!(event, Event::Receipt(_) | Event::Signal(_) | Event::Presence(_));
        if hint && state.queue.len() >= SOFT_LIMIT {
            return;
        }
        state.ended |= matches!(event, Event::Closed(_));
        state.queue.push_back(event);
        wake_all(state);
    }

    /// No further event will follow.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        wake_all(state);
    }

    /// The next event; `None` after the end.
    pub(super) async fn next(&self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same, asked for once.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.state();
        let Some(event) = state.queue.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let place = match &event {
            Event::Message(Message { conv, seq, .. }) | Event::Unknown { conv, seq } => Some((conv.clone(), *seq)),
            _ => None,
        };
        state.taken.extend(place.filter(|_| self.auto_ack));
        drop(state);
        self.driver.wake();
        Poll::Ready(Some(event))
    }

    /// Whether the driver may read on; wakes it once it may again.
    pub(super) fn has_room(&self, cx: &mut Context<'_>) -> bool {
        self.driver.register(cx.waker());
        !self.is_full()
    }

    /// Whether the driver must wait for the user.
    pub(super) fn is_full(&self) -> bool {
        self.state().queue.len() >= HARD_LIMIT
    }

    /// What was handed out and is now to be acknowledged.
    pub(super) fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<Vec<(ConvId, Seq)>> {
        self.driver.register(cx.waker());
        let taken = std::mem::take(&mut self.state().taken);
        if taken.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
    }
}

/// Outside of the lock: a waker may do anything.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_iter().for_each(Waker::wake);
}
