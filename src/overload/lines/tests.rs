use proptest::prelude::*;

use super::*;
use crate::overload::LineLimits;

const OPEN: LineLimits = LineLimits { at_once: usize::MAX, waiting: usize::MAX };

fn limits(in_flight: u64) -> Limits {
    Limits { in_flight, lines: [OPEN; 4], rows_per_sec: u32::MAX, recovery_per_sec: 1_000 }
}

fn class() -> impl Strategy<Value = Class> {
    (0..4_usize).prop_map(|n| Class::ALL[n])
}

/// Work under way, in the order in which it started.
type Running = Vec<Started<u64>>;

fn end(lines: &mut Lines<u64>, running: &mut Running, now: Tick) {
    let Started { class, cost, .. } = running.remove(0);
    lines.end(class, cost, cost, Some(true), now);
}

#[test]
fn the_larger_share_goes_first_and_nobody_is_left_out() {
    let mut lines = Lines::new(limits(100), 0);
    let mut running = Running::new();
    for n in 0..40_000 {
        for class in Class::ALL {
            lines.wait(*class, 10, n).unwrap();
        }
    }
    let mut started = [0_u64; 4];
    for _ in 0..4_000 {
        for one in lines.started(0) {
            started[one.class as usize] += 1;
            running.push(one);
        }
        end(&mut lines, &mut running, 0);
    }
    for class in Class::ALL {
        let got = started[*class as usize] * 100 / started.iter().sum::<u64>();
        assert!(got.abs_diff(class.share()) <= 1, "{class:?} got {got} of 100");
    }
}

#[test]
fn a_class_that_was_idle_has_saved_nothing_up() {
    let mut lines = Lines::new(limits(10), 0);
    let mut running = Running::new();
    for n in 0..10_000 {
        lines.wait(Class::Append, 10, n).unwrap();
    }
    for _ in 0..5_000 {
        running.extend(lines.started(0));
        end(&mut lines, &mut running, 0);
    }
    for n in 0..100 {
        lines.wait(Class::Listing, 10, n).unwrap();
    }
    let mut listings = 0;
    for _ in 0..100 {
        running.extend(lines.started(0));
        listings += usize::from(running[0].class == Class::Listing);
        end(&mut lines, &mut running, 0);
    }
    assert!((5..=9).contains(&listings), "{listings} of 100");
}

/// The limiter before this one wanted all of a large page's rows at once, so small ones always came before it.
#[test]
fn what_is_large_is_not_passed_by_what_is_small() {
    let mut lines = Lines::new(Limits { rows_per_sec: 1_000, ..limits(1_000_000) }, 0);
    assert!(lines.try_start(Class::Login, 1_000, 0), "the burst");
    lines.wait(Class::Listing, 900, 0).unwrap();
    let (mut now, mut passed) = (0, 0);
    loop {
        lines.wait(Class::Listing, 10, 1).unwrap();
        lines.wait(Class::Login, 10, 2).unwrap();
        let started = lines.started(now);
        if started.iter().any(|one| one.waiter == 0) {
            break;
        }
        passed += started.len();
        now += 10;
        assert!(now < 5_000, "{passed} passed it");
    }
    assert!(passed <= 200, "{passed} small ones of the larger share passed it in {now} ms");
}

#[test]
fn what_waits_for_rows_is_in_nobodys_way() {
    let mut lines = Lines::new(Limits { rows_per_sec: 100, ..limits(1_000) }, 0);
    assert!(lines.try_start(Class::Listing, 100, 0));
    lines.wait(Class::Listing, 50, 0).unwrap();
    lines.wait(Class::Append, 1, 1).unwrap();
    assert_eq!(lines.started(0).iter().map(|one| one.waiter).collect::<Vec<_>>(), [1]);
    assert_eq!(lines.wake(0), Some(500));
    assert!(lines.started(499).is_empty());
    assert_eq!(lines.started(500).len(), 1);
    // It read ten times as much as was taken: that is owed.
    lines.end(Class::Listing, 50, 500, Some(true), 500);
    lines.wait(Class::Listing, 50, 0).unwrap();
    assert_eq!(lines.wake(500), Some(5_500));
}

/// What runs cannot be stopped, so the less urgent classes leave some room to the most urgent one.
#[test]
fn there_is_always_room_for_an_append() {
    let mut lines = Lines::new(limits(100), 0);
    for n in 0..100 {
        for class in &Class::ALL[1..] {
            lines.wait(*class, 1, n).unwrap();
        }
    }
    assert_eq!(lines.started(0).len(), 90);
    assert!(lines.started(0).is_empty() && lines.waiting(Class::Listing) == 80);
    lines.wait(Class::Append, 10, 0).unwrap();
    assert_eq!(lines.started(0).len(), 1);
}

#[test]
fn a_line_has_an_end_and_a_class_its_most() {
    let mut all = limits(1_000);
    all.lines[Class::Login as usize] = LineLimits { at_once: 1, waiting: 2 };
    let mut lines = Lines::new(all, 0);
    assert!(lines.try_start(Class::Login, 1, 0) && !lines.try_start(Class::Login, 1, 0));
    let tickets = [7, 8].map(|n| lines.wait(Class::Login, 1, n).unwrap());
    assert_eq!(lines.wait(Class::Login, 1, 9), Err(9));
    assert!(lines.started(0).is_empty());
    assert_eq!(lines.leave(Class::Login, tickets[0]), Some(7));
    lines.end(Class::Login, 1, 1, Some(true), 0);
    assert_eq!(lines.started(0)[0].waiter, 8);
    assert_eq!(lines.leave(Class::Login, tickets[1]), None, "it has started");
}

proptest! {
    /// Whatever comes, ends and leaves: the bounds hold, each line keeps its order, and in the end all have started.
    #[test]
    fn bounds_hold_and_nobody_waits_for_ever(
        steps in proptest::collection::vec((class(), 0..80_u64, 0..5_u8, 0..30_u64, any::<bool>()), 1..200),
    ) {
        let mut all = limits(60);
        all.rows_per_sec = 500;
        all.recovery_per_sec = 20;
        all.lines = [LineLimits { at_once: 5, waiting: 20 }; 4];
        let (mut lines, mut now, mut running) = (Lines::new(all, 0), 0, Running::new());
        let mut expected: [Vec<u64>; 4] = Default::default();
        let on_started = |lines: &mut Lines<u64>, running: &mut Running, expected: &mut [Vec<u64>; 4], now| {
            for one in lines.started(now) {
                prop_assert_eq!(one.waiter, expected[one.class as usize].remove(0), "out of its order");
                running.push(one);
            }
            let held: u64 = running.iter().map(|one| one.cost.min(60)).sum();
            prop_assert_eq!(lines.in_flight(), held);
            prop_assert!(held <= 60 || running.len() == 1);
            prop_assert!(Class::ALL.iter().all(|class| lines.running(*class) <= 5 && lines.waiting(*class) <= 20));
            Ok(())
        };
        for (n, (class, cost, what, time, served)) in steps.into_iter().enumerate() {
            now += time;
            match what {
                0..3 => {
                    if lines.try_start(class, cost, now) {
                        prop_assert!(expected.iter().all(Vec::is_empty), "passed those that wait");
                        running.push(Started { class, cost, waiter: 0 });
                    } else if let Ok(ticket) = lines.wait(class, cost, n as u64) {
                        expected[class as usize].push(n as u64);
                        if what == 2 && lines.leave(class, ticket).is_some() {
                            expected[class as usize].pop();
                        }
                    }
                }
                _ if !running.is_empty() => {
                    let Started { class, cost, .. } = running.swap_remove(0);
                    lines.end(class, cost, cost / 2 + time, Some(served), now);
                }
                _ => {}
            }
            on_started(&mut lines, &mut running, &mut expected, now)?;
        }
        let mut rounds = 0;
        while expected.iter().any(|line| !line.is_empty()) || !running.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 10_000, "{lines:?}");
            if running.is_empty() {
                now = lines.wake(now).expect("nothing runs, so only time can help");
            } else {
                end(&mut lines, &mut running, now);
            }
            on_started(&mut lines, &mut running, &mut expected, now)?;
        }
    }

    /// The metered classes never start more than their rate allows, whatever the estimates were.
    #[test]
    fn the_rate_of_rows_holds(work in proptest::collection::vec((any::<bool>(), 1..100_u64, 0..300_u64), 50..200)) {
        let mut lines = Lines::new(Limits { rows_per_sec: 1_000, ..limits(1_000_000) }, 0);
        for (login, taken, used) in &work {
            let class = if *login { Class::Login } else { Class::Listing };
            lines.wait(class, *taken, *used).unwrap();
        }
        let (mut now, mut used, mut left) = (0, 0, work.len());
        while left > 0 {
            let before = used;
            for one in lines.started(now) {
                prop_assert!(before <= 1_000 + now, "{before} rows were read in {now} ms, and more is started");
                lines.end(one.class, one.cost, one.waiter, Some(true), now);
                used += one.waiter;
                left -= 1;
            }
            now = lines.wake(now).unwrap_or(now + 1);
        }
        prop_assert!(now <= used + 200, "{now} ms for {used} rows");
    }
}
