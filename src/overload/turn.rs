//! Waiting for one's turn: [`Lines`] with a clock, a lock and a waker for each that waits. Only whoever is called wakes up.
//! Asked by the appender, `ops` and the gateway.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{Class, Limits, Lines, Tick, lines::Started};

/// Hears what was decided: the metrics.
pub trait Tally: Send + Sync + 'static {
    /// Work waits, from now on.
    fn waits(&self, class: Class);
    /// Work waits no more: it starts, or was given up.
    fn waits_no_more(&self, class: Class);
    /// Work starts.
    fn granted(&self, class: Class);
    /// Work was refused: its line was full, or it had waited for too long.
    fn refused(&self, class: Class);
    /// Work ended and had cost so much.
    fn cost(&self, class: Class, cost: u64);
}

/// No room in the line, or too long in it: to be tried again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits for the store; try again")]
pub struct Busy;

/// What may run on one node. Cheap to clone; two nodes in one process have one each.
#[derive(Clone)]
pub struct Overload(Arc<Inner>);

struct Inner {
    begin: Instant,
    tally: Arc<dyn Tally>,
    state: Mutex<State>,
}

struct State {
    lines: Lines<oneshot::Sender<Turn>>,
    /// For when the alarm is set that asks again for what waits for a rate.
    alarm: Option<Tick>,
}

/// The right to do some work for the store, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    overload: Overload,
    class: Class,
    taken: u64,
    used: u64,
    served: Option<bool>,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.state.lock();
        write!(f, "Overload({} in flight)", state.lines.in_flight())
    }
}

impl Overload {
    /// Nothing runs; `tally` hears of everything.
    pub fn new(limits: Limits, tally: Arc<dyn Tally>) -> Self {
        let state = Mutex::new(State { lines: Lines::new(limits, 0), alarm: None });
        Self(Arc::new(Inner { begin: Instant::now(), tally, state }))
    }

    /// Waits until work of this class and cost may start, however long that takes. Giving up is dropping the future.
    ///
    /// # Errors
    /// When the line is full.
    pub async fn turn(&self, class: Class, cost: u64) -> Result<Turn, Busy> {
        let (now, tally) = (self.0.now(), &self.0.tally);
        let mut place = {
            let mut state = self.0.state.lock();
            if state.lines.try_start(class, cost, now) {
                tally.granted(class);
                return Ok(self.made(class, cost));
            }
            let (call, called) = oneshot::channel();
            let Ok(ticket) = state.lines.wait(class, cost, call) else {
                drop(state);
                tally.refused(class);
                return Err(Busy);
            };
            tally.waits(class);
            Place { overload: self, class, ticket, called }
        };
        // What was put in front of nobody may start at once, and what waits for a rate needs the alarm.
        self.call();
        // Without a call the line was cleared.
        (&mut place.called).await.map_err(|_| {
            tally.refused(class);
            Busy
        })
    }

    /// [`Overload::turn`] for those whose asker does not wait for ever.
    ///
    /// # Errors
    /// When the line is full, or the turn did not come in time.
    pub async fn turn_within(&self, patience: Duration, class: Class, cost: u64) -> Result<Turn, Busy> {
        match timeout(patience, self.turn(class, cost)).await {
            Ok(turn) => turn,
            Err(_) => {
                self.0.tally.refused(class);
                Err(Busy)
            }
        }
    }

    /// Refuses whatever waits in a line now: nobody is left to tell.
    pub fn clear(&self, class: Class) {
        // Dropped outside of the lock: whoever waits takes it to leave.
        let cleared = self.0.state.lock().lines.clear(class);
        drop(cleared);
    }

    /// How much work of a class waits.
    pub fn waiting(&self, class: Class) -> usize {
        self.0.state.lock().lines.waiting(class)
    }

    /// Whether the store is taken to fail, or to recover from that.
    pub fn is_recovering(&self) -> bool {
        self.0.state.lock().lines.is_recovering()
    }

    fn made(&self, class: Class, taken: u64) -> Turn {
        Turn { overload: self.clone(), class, taken, used: taken, served: None }
    }

    /// Calls those whose turn it is.
    fn call(&self) {
        let (called, alarm) = self.0.look();
        if let Some(at) = alarm {
            self.set_alarm(at);
        }
        for Started { class, cost, waiter } in called {
            self.0.tally.granted(class);
            if let Err(mut turn) = waiter.send(self.made(class, cost)) {
                // Whoever it was gave up meanwhile. Dropped here, outside of the lock.
                turn.used = 0;
            }
        }
    }

    fn set_alarm(&self, at: Tick) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(ring(Arc::downgrade(&self.0), self.0.begin, at))),
            // Whatever ends next looks again.
            Err(_) => self.0.state.lock().alarm = None,
        }
    }

    fn end(&self, turn: &Turn) {
        self.0.tally.cost(turn.class, turn.used);
        self.0.state.lock().lines.end(turn.class, turn.taken, turn.used, turn.served, self.0.now());
        self.call();
    }
}

async fn ring(inner: Weak<Inner>, begin: Instant, at: Tick) {
    sleep_until(begin + Duration::from_millis(at)).await;
    let Some(inner) = inner.upgrade() else { return };
    {
        let mut state = inner.state.lock();
        // An earlier one was set since, which has set its own successor.
        if state.alarm != Some(at) {
            return;
        }
        state.alarm = None;
    }
    Overload(inner).call();
}

impl Inner {
    fn now(&self) -> Tick {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whose turn it is, and when to look again if no alarm is set for that.
    fn look(&self) -> (Vec<Started<oneshot::Sender<Turn>>>, Option<Tick>) {
        let now = self.now();
        let mut state = self.state.lock();
        let started = state.lines.started(now);
        let wake = state.lines.wake(now).filter(|at| state.alarm.is_none_or(|set| *at < set));
        if wake.is_some() {
            state.alarm = wake;
        }
        (started, wake)
    }
}

/// A place in a line, left when its future is dropped.
struct Place<'a> {
    overload: &'a Overload,
    class: Class,
    ticket: u64,
    called: oneshot::Receiver<Turn>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let inner = &self.overload.0;
        inner.tally.waits_no_more(self.class);
        let left = inner.state.lock().lines.leave(self.class, self.ticket);
        self.called.close();
        match self.called.try_recv() {
            // Called, and nobody there to hear it.
            Ok(turn) => turn.give_back(),
            // Whoever was first may have kept the others from starting.
            Err(_) if left.is_some() => self.overload.call(),
            Err(_) => {}
        }
    }
}

impl Turn {
    /// The work is done: it cost so much, and the store answered, or failed.
    pub fn end(mut self, used: u64, served: bool) {
        (self.used, self.served) = (used, Some(served));
    }

    /// The work was not done after all.
    pub fn give_back(mut self) {
        self.used = 0;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let overload = self.overload.clone();
        overload.end(self);
    }
}

#[cfg(test)]
mod tests;
