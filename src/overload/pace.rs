//! How much work is started per second while the store recovers. An outage leaves everybody with something to repeat;
//! started at once, it would take the store down again. So from the first failures until nobody has waited for a while,
//! no second starts more than one and a half times what was usual before. Used by [`super::lines`].

use super::{Tick, bucket::Bucket};

const SECOND: Tick = 1_000;
/// Weight of the last second in what is usual: 1 of so many.
const MEMORY: u64 = 16;
/// So many failures within two seconds or so, more than there were good answers, are an outage.
const FAILURES: u64 = 8;
/// After so long without anybody waiting for the pace, all is as usual again.
const CALM: Tick = 5_000;
/// After so long of good answers more may start, a tenth every second: what was usual may be no longer.
const PATIENCE: Tick = 60_000;

/// The pace of one node.
#[derive(Debug)]
pub(super) struct Pace {
    floor: u32,
    /// Started per second in good times, in thousandths.
    usual: u64,
    second: Tick,
    started: u64,
    served: u64,
    failed: u64,
    held: Option<Hold>,
}

/// The store fails, or did until a moment ago.
#[derive(Debug)]
struct Hold {
    per_sec: u32,
    bucket: Bucket,
    /// When somebody last had to wait for the pace, or the store last failed.
    pressed_at: Tick,
    failed_at: Tick,
}

impl Pace {
    /// Nothing was started yet. `floor` is the least that any pace allows per second.
    pub(super) fn new(floor: u32, now: Tick) -> Self {
        Self { floor: floor.max(1), usual: 0, second: now, started: 0, served: 0, failed: 0, held: None }
    }

    /// How long until one more may start, in milliseconds.
    pub(super) fn wait(&mut self, now: Tick) -> Tick {
        self.roll(now);
        let Some(hold) = &mut self.held else { return 0 };
        let wait = hold.bucket.wait(1, now);
        if wait > 0 {
            hold.pressed_at = now;
        }
        wait
    }

    /// One started.
    pub(super) fn on_start(&mut self, now: Tick) {
        self.roll(now);
        self.started += 1;
        if let Some(hold) = &mut self.held {
            hold.bucket.take(1, now);
        }
    }

    /// One ended: whether the store answered.
    pub(super) fn on_end(&mut self, served: bool, now: Tick) {
        self.roll(now);
        *(if served { &mut self.served } else { &mut self.failed }) += 1;
        if served || self.failed <= self.served {
            return;
        }
        if let Some(hold) = &mut self.held {
            (hold.pressed_at, hold.failed_at) = (now, now);
        } else if self.failed >= FAILURES {
            let per_sec = self.recovery_rate();
            let bucket = Bucket::full(per_sec, burst(per_sec), now);
            self.held = Some(Hold { per_sec, bucket, pressed_at: now, failed_at: now });
        }
    }

    /// Whether an outage is under way, or was until a moment ago.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn recovery_rate(&self) -> u32 {
        let usual = self.usual * 3 / 2 / SECOND;
        u32::try_from(usual).unwrap_or(u32::MAX).max(self.floor)
    }

    /// Closes the seconds that are over.
    fn roll(&mut self, now: Tick) {
        let seconds = now.saturating_sub(self.second) / SECOND;
        // After a minute without anything the rest changes nothing.
        for _ in 0..seconds.min(64) {
            if self.held.is_none() {
                self.usual = self.usual - self.usual / MEMORY + self.started * SECOND / MEMORY;
            }
            (self.started, self.served, self.failed) = (0, self.served / 2, self.failed / 2);
        }
        if seconds == 0 {
            return;
        }
        self.second += seconds * SECOND;
        let Some(hold) = &mut self.held else { return };
        if now.saturating_sub(hold.pressed_at) >= CALM {
            self.held = None;
        } else if now.saturating_sub(hold.failed_at) >= PATIENCE {
            hold.per_sec = hold.per_sec.saturating_add(hold.per_sec.div_ceil(10));
            hold.bucket.set_rate(hold.per_sec, burst(hold.per_sec), now);
        }
    }
}

/// A tenth of a second at once.
fn burst(per_sec: u32) -> u32 {
    per_sec.div_ceil(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts whatever the pace allows, at most `wanted` a second, for `seconds`; returns the most of any second.
    fn run(pace: &mut Pace, now: &mut Tick, seconds: u64, wanted: u64, served: bool) -> u64 {
        let mut most = 0;
        for _ in 0..seconds {
            let mut started = 0;
            for ms in 0..SECOND {
                while started < wanted * (ms + 1) / SECOND && pace.wait(*now) == 0 {
                    pace.on_start(*now);
                    pace.on_end(served, *now);
                    started += 1;
                }
                *now += 1;
            }
            most = most.max(started);
        }
        most
    }

    #[test]
    fn after_an_outage_the_store_is_not_asked_for_much_more_than_before() {
        let (mut pace, mut now) = (Pace::new(10, 0), 0);
        assert_eq!(run(&mut pace, &mut now, 60, 1_000, true), 1_000);
        assert!(!pace.is_held());
        run(&mut pace, &mut now, 60, 1_000, false);
        assert!(pace.is_held());
        let most = run(&mut pace, &mut now, 25, 1_000_000, true);
        assert!((1_300..=1_700).contains(&most), "{most}");
        // More than was usual, and it lasts: then it is let in, bit by bit.
        let later = run(&mut pace, &mut now, 60, 4_000, true);
        assert_eq!(later, 4_000);
        assert!(!pace.is_held(), "nobody waits for it");
    }

    #[test]
    fn some_failures_among_good_answers_are_no_outage() {
        let (mut pace, mut now) = (Pace::new(10, 0), 0);
        for n in 0..100_000 {
            pace.on_start(now);
            pace.on_end(n % 3 != 0, now);
            now += 1;
        }
        assert!(!pace.is_held());
    }

    #[test]
    fn a_node_that_starts_into_an_outage_has_the_floor() {
        let (mut pace, mut now) = (Pace::new(50, 0), 0);
        run(&mut pace, &mut now, 10, 1_000, false);
        assert!((50..=56).contains(&run(&mut pace, &mut now, 10, 1_000, true)));
        run(&mut pace, &mut now, 10, 0, true);
        assert_eq!(run(&mut pace, &mut now, 1, 1_000, true), 1_000, "calm for long enough");
    }
}
