//! What the lanes of a run share: the clock, the phase, the counters. One thread, so cells are enough.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
    time::Instant,
};

use super::{
    plan::Plan,
    stats::{Integrity, Stats},
    track::Seen,
};

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Sending,
    Draining,
    Done,
}

/// What both lanes of a pair know.
#[derive(Debug, Default)]
pub(super) struct Pair {
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
    pub(super) phase: Cell<Phase>,
    /// The measured time, in nanoseconds since the start.
    pub(super) window: Cell<(u64, u64)>,
    /// Grows ten times a second: lanes then acknowledge what is left and retry what was refused.
    pub(super) round: Cell<u64>,
    /// Lanes that have caught up.
    pub(super) ready: Cell<usize>,
    /// Why the run cannot start.
    pub(super) fatal: RefCell<Option<anyhow::Error>>,
    pub(super) stats: RefCell<Stats>,
    pub(super) pairs: Vec<RefCell<Pair>>,
    pub(super) room: RoomState,
    wakers: RefCell<Vec<Option<Waker>>>,
}

impl RunState {
    pub(super) fn new(plan: Plan) -> anyhow::Result<Self> {
        let (pairs, lanes, members) = (plan.pairs, plan.lanes(), plan.room.unwrap_or(0));
        Ok(Self {
            plan,
            start: Instant::now(),
            phase: Cell::new(Phase::Connecting),
            window: Cell::new((u64::MAX, u64::MAX)),
            round: Cell::new(0),
            ready: Cell::new(0),
            fatal: RefCell::new(None),
            stats: RefCell::new(Stats::new()?),
            pairs: (0..pairs).map(|_| RefCell::default()).collect(),
            wakers: RefCell::new(vec![None; lanes]),
            room: RoomState { reached: RefCell::new(vec![0; members]), ..RoomState::default() },
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

    /// Whether everything that was due has been answered, and everything answered has been received.
    pub(super) fn drained(&self) -> bool {
        let is_room = self.plan.room.is_some();
        let pairs = self.pairs.iter().all(|pair| {
            let pair = pair.borrow();
            let received = is_room || pair.received.count >= pair.answered.count;
            pair.due.is_empty() && pair.unanswered == 0 && received
        });
        pairs && self.room.missing() == 0
    }

    /// The promises, with the losses counted as of now.
    pub(super) fn integrity(&self) -> Integrity {
        if self.plan.room.is_some() {
            return Integrity { lost: self.room.missing(), ..self.stats.borrow().integrity };
        }
        let lost = self.pairs.iter().map(|pair| {
            let pair = pair.borrow();
            pair.answered.iter().filter(|number| !pair.received.contains(*number)).count() as u64
        });
        Integrity { lost: lost.sum(), ..self.stats.borrow().integrity }
    }
}
