//! What the lanes of a run share: the clock, the phase, the counters. One thread, so cells are enough.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    logins::Logins,
    payload::{Payload, Peek},
    plan::{Plan, Shape},
    series::Series,
    stats::{Integrity, Stats, record},
    track::Seen,
};
use crate::model::now_millis;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Sending,
    Draining,
    Done,
}

/// What a sender and those who receive from it know.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Open loop: when the next messages are due.
    pub(super) due: VecDeque<u64>,
    /// Sent and not yet answered.
    pub(super) unanswered: usize,
    pub(super) answered: Seen,
    pub(super) received: Seen,
}

/// A run in one room: its log is dense, so how far each member has come says what is missing.
#[derive(Debug, Default)]
pub(super) struct RoomState {
    /// The highest seq that was answered.
    pub(super) top: Cell<u64>,
    /// How far each member has received it, in order.
    pub(super) reached: RefCell<Vec<u64>>,
}

impl RoomState {
    fn missing(&self) -> u64 {
        self.reached.borrow().iter().map(|reached| self.top.get().saturating_sub(*reached)).sum()
    }
}

/// A run under way.
pub(super) struct RunState {
    pub(super) plan: Plan,
    start: Instant,
    /// The same in milliseconds since 1970.
    pub(super) began: u64,
    pub(super) phase: Cell<Phase>,
    /// What is being done, for people.
    pub(super) doing: Cell<&'static str>,
    /// The measured time, in nanoseconds since the start.
    pub(super) window: Cell<(u64, u64)>,
    /// Grows ten times a second: lanes then acknowledge what is left and retry what was refused.
    pub(super) round: Cell<u64>,
    /// Lanes that have caught up.
    pub(super) ready: Cell<usize>,
    /// Grows when the bench cuts all connections.
    pub(super) cuts: Cell<u64>,
    pub(super) logins: RefCell<Logins>,
    /// Why the run cannot start.
    pub(super) fatal: RefCell<Option<anyhow::Error>>,
    pub(super) stats: RefCell<Stats>,
    pub(super) series: RefCell<Series>,
    pub(super) senders: Vec<RefCell<Sent>>,
    pub(super) room: RoomState,
    wakers: RefCell<Vec<Option<Waker>>>,
}

impl RunState {
    pub(super) fn new(plan: Plan) -> anyhow::Result<Self> {
        let (senders, lanes) = (plan.senders(), plan.lanes());
        let members = if let Shape::Room { members, .. } = plan.shape { members } else { 0 };
        Ok(Self {
            start: Instant::now(),
            began: now_millis(),
            phase: Cell::new(Phase::Connecting),
            doing: Cell::new("connecting"),
            window: Cell::new((u64::MAX, u64::MAX)),
            round: Cell::new(0),
            ready: Cell::new(0),
            cuts: Cell::new(0),
            logins: RefCell::new(Logins::new()?),
            fatal: RefCell::new(None),
            stats: RefCell::new(Stats::new()?),
            series: RefCell::new(Series::new(plan.warmup + plan.duration)),
            senders: (0..senders).map(|_| RefCell::default()).collect(),
            wakers: RefCell::new(vec![None; lanes]),
            room: RoomState { reached: RefCell::new(vec![0; members]), ..RoomState::default() },
            plan,
        })
    }

    /// Nanoseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment at which [`RunState::now`] is zero.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    pub(super) fn measured(&self, nanos: u64) -> bool {
        let (from, to) = self.window.get();
        (from..to).contains(&nanos)
    }

    /// What the bench wrote into a message; anybody else's is an error of the run.
    pub(super) fn payload_of(&self, frame: &Peek<'_>) -> Option<Payload> {
        let payload = frame.body.and_then(Payload::parse).filter(|payload| payload.sender < self.senders.len());
        if payload.is_none() {
            self.stats.borrow_mut().error("foreign_message");
        }
        payload
    }

    /// A message arrived that had not been there.
    pub(super) fn on_delivered(&self, payload: &Payload, now: u64) {
        let mut stats = self.stats.borrow_mut();
        let took = now.saturating_sub(payload.due);
        if self.measured(payload.due) {
            record(&mut stats.received, took);
        }
        record(&mut stats.recent, took);
        stats.delivered += u64::from(self.measured(now));
        stats.all_delivered += 1;
        stats.last_delivered = now;
    }

    /// Lets all lanes do what they do ten times a second, and notes the course of the run, which began sending at `from`.
    pub(super) fn next_round(&self, from: u64) {
        self.round.set(self.round.get() + 1);
        self.wake_all();
        let now = Duration::from_nanos(self.now().saturating_sub(from));
        self.series.borrow_mut().note(now, &mut self.stats.borrow_mut(), &self.plan.mesh.processes);
    }

    /// Remembers how to wake a lane.
    pub(super) fn register(&self, lane: usize, waker: &Waker) {
        let slot = &mut self.wakers.borrow_mut()[lane];
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self, lane: usize) {
        if let Some(waker) = &self.wakers.borrow()[lane] {
            waker.wake_by_ref();
        }
    }

    pub(super) fn wake_all(&self) {
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Whether everything that was due has been answered.
    pub(super) fn answered(&self) -> bool {
        self.senders.iter().all(|sent| {
            let sent = sent.borrow();
            sent.due.is_empty() && sent.unanswered == 0
        })
    }

    /// The same, and whether everything answered has been received.
    pub(super) fn drained(&self) -> bool {
        let received = |sent: &RefCell<Sent>| sent.borrow().received.count >= sent.borrow().answered.count;
        self.answered() && (self.plan.is_room() || self.senders.iter().all(received)) && self.room.missing() == 0
    }

    /// The promises, with the losses counted as of now.
    pub(super) fn integrity(&self) -> Integrity {
        if self.plan.is_room() {
            return Integrity { lost: self.room.missing(), ..self.stats.borrow().integrity };
        }
        let lost = self.senders.iter().map(|sent| {
            let sent = sent.borrow();
            sent.answered.iter().filter(|number| !sent.received.contains(*number)).count() as u64
        });
        Integrity { lost: lost.sum(), ..self.stats.borrow().integrity }
    }
}
