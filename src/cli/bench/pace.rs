//! The open loop: says when messages are due, whatever the answers. Called by `drive`.
//!
//! tokio's timers have a resolution of a millisecond, as long as what is measured. So a separate thread sleeps from
//! tick to tick and wakes the bench; all messages of a tick are due at the time of the tick.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use super::run_state::RunState;

/// Ticks are at least this far apart, or the ticking itself would be a load.
const SMALLEST_TICK: Duration = Duration::from_micros(500);

#[derive(Debug, Default)]
struct Ticker {
    ticks: AtomicU64,
    stop: AtomicBool,
    waker: AtomicWaker,
}

/// Ticks until dropped.
pub(super) struct Pace {
    ticker: Arc<Ticker>,
    every: Duration,
    from: u64,
    rate: u32,
}

impl Pace {
    /// Starts ticking now, for `rate` messages per second.
    pub(super) fn start(shared: &RunState, rate: u32) -> Self {
        let every = Duration::from_secs(1).div_f64(f64::from(rate)).max(SMALLEST_TICK);
        let from = shared.now();
        let (ticker, origin) = (Arc::new(Ticker::default()), shared.start() + Duration::from_nanos(from));
        let ticking = ticker.clone();
        std::thread::spawn(move || tick(&ticking, origin, every));
        Self { ticker, every, from, rate }
    }

    /// Hands out due messages to the senders, one after the other, until nothing more is to be sent.
    pub(super) async fn run(self, shared: Rc<RunState>, sending: impl Fn() -> bool) {
        let (mut done_ticks, mut given) = (0, 0);
        while sending() {
            let ticks = poll_fn(|cx| {
                self.ticker.waker.register(cx.waker());
                let ticks = self.ticker.ticks.load(Ordering::Acquire);
                if ticks > done_ticks { Poll::Ready(ticks) } else { Poll::Pending }
            })
            .await;
            for tick in done_ticks + 1..=ticks {
                given = self.hand_out(&shared, tick, given);
            }
            done_ticks = ticks;
        }
    }

    fn hand_out(&self, shared: &RunState, tick: u64, given: u64) -> u64 {
        let at = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX).saturating_mul(tick);
        let until = due_by(at, self.rate);
        for number in given..until {
            let sender = usize::try_from(number).unwrap_or(0) % shared.senders.len();
            shared.senders[sender].borrow_mut().due.push_back(self.from + at);
            shared.wake(shared.plan.lane_of(sender));
        }
        until
    }
}

/// How many messages are due `nanos` after the start.
fn due_by(nanos: u64, rate: u32) -> u64 {
    u64::try_from(u128::from(nanos) * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.ticker.stop.store(true, Ordering::Release);
    }
}

fn tick(ticker: &Ticker, origin: Instant, every: Duration) {
    for tick in 1u32.. {
        if ticker.stop.load(Ordering::Acquire) {
            return;
        }
        // From the origin each time, so that one sleep that is too long does not shift everything after it.
        std::thread::sleep((origin + every * tick).saturating_duration_since(Instant::now()));
        ticker.ticks.store(tick.into(), Ordering::Release);
        ticker.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_the_ticks() {
        assert_eq!((due_by(500_000, 3_000), due_by(1_000_000, 3_000)), (1, 3));
        assert_eq!(due_by(1_000_000_000, 7), 7);
        assert_eq!(due_by(3_600_000_000_000, 100_000), 360_000_000);
    }
}
