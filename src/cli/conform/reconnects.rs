//! When the client may connect again. No I/O. Called by the referee and the stage.

use tokio::time::{Duration, Instant};

use super::{referee::Verdict, rules::Fault};

const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);
/// Timers and clocks are not that exact.
const GRACE: Duration = Duration::from_millis(10);

/// What the client must wait for.
#[derive(Debug, Clone, Copy)]
struct Wait {
    until: Instant,
    rule: usize,
    least: Duration,
}

/// The connections so far.
#[derive(Debug, Default)]
pub(super) struct Reconnects {
    /// Those that ended without having caught up, one after the other.
    failures: u32,
    /// One of them was welcome.
    greeted: bool,
    /// What the last `goodbye` said.
    come_back: Option<Duration>,
    wait: Option<Wait>,
    longest: Duration,
}

impl Reconnects {
    pub(super) fn greeted(&mut self) {
        self.greeted = true;
    }

    pub(super) fn caught_up(&mut self) {
        self.failures = 0;
    }

    pub(super) fn goodbye(&mut self, come_back: Duration) {
        self.come_back = Some(come_back);
    }

    /// By rule 14: half of it is left to chance.
    fn full(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST)
    }

    /// The node ends the connection: said before it does, so that nothing is measured too short.
    pub(super) fn ends(&mut self, now: Instant) {
        if let Some(least) = self.come_back.take() {
            self.wait = Some(Wait { until: now + least, rule: 17, least });
            self.longest = least.max(self.full());
            return;
        }
        let (least, rule) = (self.full() / 2, if self.failures > 0 && self.greeted { 16 } else { 14 });
        self.wait = Some(Wait { until: now + least, rule, least });
        self.longest = self.full();
        self.failures += 1;
    }

    /// The client ended it: when its wait began is not known.
    pub(super) fn was_left(&mut self) {
        (self.wait, self.come_back) = (None, None);
        self.longest = self.full();
        self.failures += 1;
    }

    /// How long the client may take to come back, without what the machine takes.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// It came.
    pub(super) fn on_connected(&mut self, at: Instant) -> Verdict {
        match self.wait.take() {
            Some(Wait { until, rule, least }) if at + GRACE < until => {
                let waited = least.saturating_sub(until.duration_since(at));
                let (waited, least) = (waited.as_millis(), least.as_millis());
                let after = match (rule, self.failures) {
                    (17, _) => "after this goodbye".to_owned(),
                    (_, 0 | 1) => "here".to_owned(),
                    (_, failures) => format!("after {failures} connections in a row that did not catch up"),
                };
                Err(Fault::new(rule, format!("it came back after {waited} ms: the least is {least} ms {after}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ends the connection and comes back after that; which rule this breaks.
    fn back(reconnects: &mut Reconnects, after: u64) -> Option<usize> {
        let now = Instant::now();
        reconnects.ends(now);
        reconnects.on_connected(now + ms(after)).err().map(|fault| fault.rule)
    }

    #[test]
    fn waits_double_until_it_has_caught_up() {
        let mut reconnects = Reconnects::default();
        assert_eq!(back(&mut reconnects, 100), Some(14));
        assert_eq!(back(&mut reconnects, 450), Some(14));
        reconnects.greeted();
        assert_eq!(back(&mut reconnects, 900), Some(16));
        assert_eq!(back(&mut reconnects, 2_000), None);
        reconnects.caught_up();
        assert_eq!(back(&mut reconnects, 250), None);
        assert_eq!(reconnects.longest(), ms(500));
    }

    #[test]
    fn a_goodbye_says_when() {
        let mut reconnects = Reconnects::default();
        reconnects.goodbye(ms(1_500));
        assert_eq!(back(&mut reconnects, 1_000), Some(17));
        reconnects.goodbye(ms(50));
        assert_eq!(back(&mut reconnects, 50), None);
        assert_eq!(back(&mut reconnects, 50), Some(14), "it counts once");
        reconnects.was_left();
        assert_eq!(reconnects.on_connected(Instant::now()), Ok(()));
    }
}
