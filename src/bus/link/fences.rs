//! PING and PONG: who waits for which of them. A server answers PINGs in the order in which it processes the
//! connection's commands, so a PONG proves that everything sent before its PING was processed (R10). Whoever asks before
//! the next write shares one PING, and any number of PINGs may be under way. Called by [`super::state`].

use std::{collections::VecDeque, time::Instant};

use tokio::sync::oneshot;

use crate::bus::BusError;

/// Who wants to be told of a PONG, with the generation of the connection.
pub(super) type Waiter = oneshot::Sender<Result<u64, BusError>>;

/// Waiters whose callers may be gone are looked for when there are this many.
const MANY: usize = 1_024;

/// The fences of one connection.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// For the next PING.
    next: Vec<Waiter>,
    /// A PING is wanted though nobody waits: to know that the server is alive.
    is_wanted: bool,
    /// The PINGs that are not answered, in order.
    under_way: VecDeque<Ping>,
}

#[derive(Debug)]
struct Ping {
    since: Instant,
    waiters: Vec<Waiter>,
}

impl Fences {
    /// Puts a caller in line for the next PING.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        if self.next.len() >= MANY {
            self.next.retain(|waiter| !waiter.is_closed());
        }
        self.next.push(waiter);
    }

    /// The next write carries a PING in any case.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Called before each write: whether a PING belongs at its end.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        if !self.is_wanted && self.next.is_empty() {
            return false;
        }
        self.is_wanted = false;
        self.under_way.push_back(Ping { since: now, waiters: std::mem::take(&mut self.next) });
        true
    }

    /// The oldest PING is answered: who waited for it. Nobody, if the server was not asked.
    pub(super) fn pong(&mut self) -> Vec<Waiter> {
        self.under_way.pop_front().map_or_else(Vec::new, |ping| ping.waiters)
    }

    /// Since when a PING has been waiting for its answer.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        self.under_way.front().map(|ping| ping.since)
    }

    /// The connection is gone: everybody who waited.
    pub(super) fn end(&mut self) -> Vec<Waiter> {
        let Self { next, under_way, .. } = std::mem::take(self);
        under_way.into_iter().flat_map(|ping| ping.waiters).chain(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(fences: &mut Fences) -> oneshot::Receiver<Result<u64, BusError>> {
        let (tell, told) = oneshot::channel();
        fences.wait(tell);
        told
    }

    fn answer(fences: &mut Fences) -> usize {
        fences.pong().into_iter().map(|waiter| waiter.send(Ok(1)).unwrap()).count()
    }

    #[test]
    fn who_asks_before_a_write_shares_its_ping_and_nobody_joins_one_under_way() {
        let (mut fences, now) = (Fences::default(), Instant::now());
        assert!(!fences.ping(now), "nobody asked");
        let (mut one, mut two) = (waiting(&mut fences), waiting(&mut fences));
        assert!(fences.ping(now) && !fences.ping(now));
        let mut late = waiting(&mut fences);
        assert!(fences.ping(now));
        assert_eq!(answer(&mut fences), 2);
        assert_eq!((one.try_recv(), two.try_recv()), (Ok(Ok(1)), Ok(Ok(1))));
        assert!(late.try_recv().is_err() && fences.unanswered_since() == Some(now));
        assert_eq!(answer(&mut fences), 1);
        assert_eq!((late.try_recv(), fences.unanswered_since()), (Ok(Ok(1)), None));
        assert_eq!(answer(&mut fences), 0, "a PONG that nobody asked for");
    }

    #[test]
    fn a_server_that_takes_nothing_costs_bounded_memory() {
        let mut fences = Fences::default();
        for _ in 0..100_000 {
            fences.wait(oneshot::channel().0);
        }
        assert!(fences.next.len() <= MANY);
    }

    #[test]
    fn with_the_connection_all_waits_end() {
        let mut fences = Fences::default();
        let (one, two) = (oneshot::channel().0, oneshot::channel().0);
        fences.wait(one);
        fences.ping(Instant::now());
        fences.wait(two);
        fences.want();
        assert_eq!(fences.end().len(), 2);
        assert!(!fences.ping(Instant::now()));
    }
}
