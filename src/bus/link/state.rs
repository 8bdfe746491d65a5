//! What the callers of the bus and its connection share: subscriptions, what waits to be written, who waits for a fence,
//! and whether there is a connection. Callers change it and go on; the task in [`super::keep`] does all the I/O.
//!
//! One lock, held for the length of a copy and never while somebody is called: so a subscription is either among those
//! that are renewed on a new connection or in the queue behind them, and a fence comes after both.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Instant,
};

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, broadcast, oneshot};

use super::{
    codec::is_line,
    fences::{Fences, Waiter},
    ops::{ClientOp, Info, Sid},
    queue::Queue,
    table::Table,
};
use crate::{
    bus::{BusError, BusEvent, OnMessage, OnNoResponders, refusal::Refusal, request::Requests},
    metrics::Metrics,
    subject::Subject,
};

/// The bus's own subscriptions: what nobody else heard, and answers to this node's requests.
pub(super) const STATUSES: Sid = 1;
pub(super) const ANSWERS: Sid = 2;

/// Bytes of messages that may wait. Servers cut off a connection that is 64 MiB behind, so more would not help.
const MAX_QUEUED: usize = 64 << 20;

/// Bytes that may wait with the commands that cannot be dropped. A connection on which even these do not fit is given up:
/// the table has all that the next one needs.
const MAX_WAITING: usize = 2 * MAX_QUEUED;

/// Subscriptions that are renewed between two writes.
const RENEWED_AT_ONCE: usize = 1_024;

/// Everything but the socket.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The generation of the connection; 0 while there is none.
    generation: AtomicU64,
    /// Outgoing messages were dropped, and nobody was told yet.
    overflowed: AtomicBool,
    /// The connection's task, which may have something to write.
    task: AtomicWaker,
    /// Connected, disconnected, or refused.
    pub(super) changed: Notify,
    /// The server is about to stop.
    pub(super) leaving: Notify,
    pub(super) events: broadcast::Sender<BusEvent>,
    pub(super) refusal: Refusal,
    pub(super) requests: Arc<Requests>,
    pub(super) no_responders: OnceLock<OnNoResponders>,
    /// Where the server says that nobody else heard a tagged message, without the tag.
    pub(super) statuses: Subject,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    is_up: bool,
    /// That of the latest connection.
    generation: u64,
    /// What its server said about itself.
    info: Info,
    table: Table,
    /// Places of the table from here on are not subscribed on this connection yet.
    renewed: usize,
    queue: Queue,
    fences: Fences,
    /// The task is woken already, or about to look.
    is_woken: bool,
    is_hopeless: bool,
    /// Waiting bytes as the metrics know them.
    shown: i64,
}

/// What the connection is to write next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Piece(Vec<u8>),
    /// Nothing: the task is woken when there is.
    Nothing,
    /// Too much waits: this connection is to be given up.
    GiveUp,
}

impl Shared {
    pub(super) fn new(statuses: Subject, requests: Arc<Requests>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            generation: AtomicU64::new(0),
            overflowed: AtomicBool::new(false),
            task: AtomicWaker::new(),
            changed: Notify::new(),
            leaving: Notify::new(),
            events: broadcast::Sender::new(64),
            refusal: Refusal::default(),
            requests,
            no_responders: OnceLock::new(),
            statuses,
            metrics,
        })
    }

    /// The generation of the connection.
    pub(super) fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Acquire)).filter(|generation| *generation != 0)
    }

    /// Queues a message, or drops and counts it: false.
    pub(super) fn publish(&self, subject: &str, reply: Option<&str>, payload: &[u8]) -> bool {
        if !is_line(subject, reply) {
            tracing::warn!(?subject, ?reply, "not publishing: this makes no command line for NATS");
            return self.dropped();
        }
        let mut state = self.state.lock();
        if !state.is_up {
            // Not an overflow: the reconnect that follows makes everyone compare heads anyway.
            return self.dropped();
        }
        let largest = state.info.max_payload;
        if payload.len() > largest && largest > 0 {
            drop(state);
            tracing::warn!(subject, size = payload.len(), largest, "not publishing: the NATS server takes no more");
            return self.dropped();
        }
        if state.queue.bytes() + payload.len() > MAX_QUEUED {
            self.overflowed.store(true, Ordering::Release);
            return self.dropped();
        }
        state.queue.push(&ClientOp::Pub { subject, reply, payload });
        self.metrics.nats_published.inc();
        self.queued(state);
        true
    }

    fn dropped(&self) -> bool {
        self.metrics.nats_dropped.inc();
        false
    }

    /// Something was queued: wakes the task, once until it looks.
    fn queued(&self, mut state: MutexGuard<'_, State>) {
        let is_news = !std::mem::replace(&mut state.is_woken, true);
        self.show_queued(&mut state);
        drop(state);
        if is_news {
            self.task.wake();
        }
    }

    /// Shows in the metrics what waits. Other links of the node count there as well.
    fn show_queued(&self, state: &mut State) {
        let now = i64::try_from(state.queue.bytes()).unwrap_or(i64::MAX);
        self.metrics.nats_queued_bytes.inc_by(now - std::mem::replace(&mut state.shown, now));
    }

    /// Subscribes, now and on every connection to come.
    pub(super) fn subscribe(&self, filter: Box<str>, on_message: OnMessage) -> Sid {
        let mut state = self.state.lock();
        let sid = state.table.insert(filter, on_message);
        let State { table, renewed, queue, .. } = &mut *state;
        let again = table.place(sid).filter(|place| place < renewed).and_then(|place| table.at(place));
        // What is not renewed on this connection yet will be: a place at the end of the table as well.
        if let Some((filter, sid)) = again {
            queue.push(&ClientOp::Sub { filter, sid });
        }
        self.commanded(state);
        self.metrics.subscriptions.inc();
        sid
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, sid: Sid) {
        let mut state = self.state.lock();
        let is_subscribed = state.table.place(sid).is_some_and(|place| place < state.renewed);
        let Some(gone) = state.table.remove(sid) else { return };
        if is_subscribed {
            state.queue.push(&ClientOp::Unsub { sid });
        }
        self.commanded(state);
        // Not under the lock: what it captured may come back here when it is dropped.
        drop(gone);
        self.metrics.subscriptions.dec();
    }

    /// A command was queued, which cannot be dropped: it goes out, or the connection is given up.
    fn commanded(&self, mut state: MutexGuard<'_, State>) {
        if state.is_up {
            state.is_hopeless |= state.queue.bytes() > MAX_WAITING;
            self.queued(state);
        }
    }

    /// The server wants to know whether this node is alive.
    pub(super) fn pong(&self) {
        let mut state = self.state.lock();
        state.queue.push(&ClientOp::Pong);
        self.commanded(state);
    }

    /// Puts a caller in line for the next PING.
    pub(super) fn fence(&self) -> Result<oneshot::Receiver<Result<u64, BusError>>, BusError> {
        let mut state = self.state.lock();
        if !state.is_up {
            return Err(BusError::NotConnected);
        }
        let (tell, told) = oneshot::channel();
        state.fences.wait(tell);
        self.queued(state);
        Ok(told)
    }

    /// Asks the server whether it is alive.
    pub(super) fn ping(&self) {
        let mut state = self.state.lock();
        state.fences.want();
        self.queued(state);
    }

    /// Since when the server has owed an answer to a PING.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.state.lock().fences.unanswered_since()
    }

    /// Whether too much waits: it may never be this one's turn to write.
    pub(super) fn is_hopeless(&self) -> bool {
        self.state.lock().is_hopeless
    }

    /// The server has processed everything up to the oldest PING.
    pub(super) fn on_pong(&self) {
        let (generation, waiters) = {
            let mut state = self.state.lock();
            (state.generation, state.fences.pong())
        };
        if !waiters.is_empty() {
            self.metrics.nats_fences.inc();
        }
        tell(waiters, &Ok(generation));
    }

    /// What to write next; `spent` is what was written last.
    pub(super) fn next(&self, spent: Vec<u8>) -> Next {
        let mut state = self.state.lock();
        if state.is_hopeless {
            return Next::GiveUp;
        }
        let is_renewing = state.renew();
        // After the last subscription, or the PONG would prove nothing about it.
        if !is_renewing && state.fences.ping(Instant::now()) {
            state.queue.push(&ClientOp::Ping);
        }
        let piece = state.queue.take(spent);
        state.is_woken = piece.is_some();
        self.show_queued(&mut state);
        piece.map_or(Next::Nothing, Next::Piece)
    }

    /// Who is to be woken when there is something to write.
    pub(super) fn wakes(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// A server took this node: from now on everything goes there. All subscriptions are renewed, the bus's own first:
    /// the answer to whatever is published comes on one of them.
    pub(super) fn up(&self, info: Info) -> u64 {
        let generation = {
            let mut state = self.state.lock();
            let (statuses, answers) = (format!("{}.>", self.statuses), self.requests.inbox());
            state.queue.clear();
            state.queue.push(&ClientOp::Sub { filter: &statuses, sid: STATUSES });
            state.queue.push(&ClientOp::Sub { filter: answers.as_str(), sid: ANSWERS });
            (state.renewed, state.is_up, state.is_hopeless, state.is_woken) = (0, true, false, true);
            state.on_info(info);
            state.generation += 1;
            self.generation.store(state.generation, Ordering::Release);
            state.generation
        };
        self.refusal.on_up();
        self.metrics.nats_connected.inc();
        // The very first is no reconnect.
        self.metrics.nats_reconnects.inc_by(u64::from(generation > 1));
        self.tell(BusEvent::Connected(generation));
        generation
    }

    /// The connection is gone.
    pub(super) fn down(&self) {
        let waiters = {
            let mut state = self.state.lock();
            let was_up = std::mem::take(&mut state.is_up);
            self.metrics.nats_connected.dec_by(i64::from(was_up));
            state.renewed = 0;
            state.queue.clear();
            self.show_queued(&mut state);
            self.generation.store(0, Ordering::Release);
            state.fences.end()
        };
        self.refusal.on_down();
        self.tell(BusEvent::Disconnected);
        self.requests.end_all_but(None);
        tell(waiters, &Err(BusError::Reconnected));
    }

    /// The server says something new about itself or its cluster.
    pub(super) fn on_info(&self, info: Info) {
        let is_lame_duck = info.is_lame_duck;
        self.state.lock().on_info(info);
        if is_lame_duck {
            self.leaving.notify_one();
        }
    }

    /// The servers of the cluster, as the last one told; and that one's number.
    pub(super) fn cluster(&self) -> (Vec<String>, String) {
        let state = self.state.lock();
        (state.info.connect_urls.clone(), state.info.server_id.clone())
    }

    /// Whom a message is for.
    pub(super) fn listener(&self, sid: Sid) -> Option<OnMessage> {
        self.state.lock().table.get(sid).cloned()
    }

    /// Tells of dropped messages, if there were any since the last call.
    pub(super) fn tell_overflow(&self) {
        if self.overflowed.swap(false, Ordering::AcqRel) {
            tracing::warn!("dropped outgoing notices: the connection to NATS does not take them fast enough");
            self.tell(BusEvent::Overflow);
        }
    }

    fn tell(&self, event: BusEvent) {
        // An error only means that nobody is listening.
        let _ = self.events.send(event);
        self.changed.notify_waiters();
    }
}

impl State {
    /// Queues some more of the subscriptions that are not made on this connection yet; false when all are.
    fn renew(&mut self) -> bool {
        let mut left = RENEWED_AT_ONCE;
        while left > 0 && self.renewed < self.table.places() {
            if let Some((filter, sid)) = self.table.at(self.renewed) {
                self.queue.push(&ClientOp::Sub { filter, sid });
                left -= 1;
            }
            self.renewed += 1;
        }
        self.renewed < self.table.places()
    }

    fn on_info(&mut self, mut info: Info) {
        // A server that is about to stop may name no other: those it named before are still there.
        if info.connect_urls.is_empty() {
            info.connect_urls = std::mem::take(&mut self.info.connect_urls);
        }
        self.info = info;
    }
}

fn tell(waiters: Vec<Waiter>, outcome: &Result<u64, BusError>) {
    for waiter in waiters {
        // A caller that gave up needs no answer.
        let _ = waiter.send(outcome.clone());
    }
}
