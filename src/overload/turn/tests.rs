use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::*;
use crate::overload::LineLimits;

/// Counts what it hears.
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicI64,
    granted: AtomicU64,
    refused: AtomicU64,
    cost: AtomicU64,
}

impl Tally for Counts {
    fn waits(&self, _: Class) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }
    fn waits_no_more(&self, _: Class) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    fn granted(&self, _: Class) {
        self.granted.fetch_add(1, Ordering::SeqCst);
    }
    fn refused(&self, _: Class) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
    fn cost(&self, _: Class, cost: u64) {
        self.cost.fetch_add(cost, Ordering::SeqCst);
    }
}

fn overload(at_once: usize, waiting: usize, rows_per_sec: u32) -> (Overload, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let lines = [LineLimits { at_once, waiting }; 4];
    let limits = Limits { in_flight: 1_000, lines, rows_per_sec, recovery_per_sec: 1_000 };
    (Overload::new(limits, counts.clone()), counts)
}

async fn until(what: impl Fn() -> bool) {
    let soon = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < soon, "it never came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn those_in_line_are_called_one_by_one_in_their_order() {
    let (overload, counts) = overload(1, 100, u32::MAX);
    let first = overload.turn(Class::Login, 1).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..50 {
        let (mine, order) = (overload.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let turn = mine.turn(Class::Login, 1).await.unwrap();
            order.lock().push(n);
            tokio::task::yield_now().await;
            turn.end(3, true);
        }));
        until(|| overload.waiting(Class::Login) == n + 1).await;
    }
    first.end(1, true);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
    let seen = [&counts.granted, &counts.cost, &counts.refused].map(|count| count.load(Ordering::SeqCst));
    assert_eq!((seen, counts.waiting.load(Ordering::SeqCst)), ([51, 151, 0], 0));
}

#[tokio::test]
async fn whoever_leaves_the_line_is_in_nobodys_way() {
    let (overload, counts) = overload(1, 3, u32::MAX);
    let first = overload.turn(Class::Fill, 1).await.unwrap();
    let waiting = [0, 1, 2].map(|_| {
        tokio::spawn({
            let overload = overload.clone();
            async move { overload.turn(Class::Fill, 1).await.map(drop) }
        })
    });
    until(|| overload.waiting(Class::Fill) == 3).await;
    assert_eq!(overload.turn(Class::Fill, 1).await.err(), Some(Busy), "the line is full");
    let patience = Duration::from_millis(20);
    waiting[0].abort();
    waiting[1].abort();
    until(|| overload.waiting(Class::Fill) == 1).await;
    assert_eq!(overload.turn_within(patience, Class::Fill, 1).await.err(), Some(Busy), "too long in line");
    drop(first);
    let [_, _, last] = waiting;
    assert_eq!(last.await.unwrap(), Ok(()));
    assert!(overload.turn_within(patience, Class::Fill, 1).await.is_ok(), "every place was given back");
    assert_eq!(counts.waiting.load(Ordering::SeqCst), 0);
    assert_eq!(counts.refused.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_turn_that_waits_for_the_rate_comes_by_itself() {
    let (overload, _) = overload(10, 10, 1_000);
    drop(overload.turn(Class::Listing, 1_000).await.unwrap());
    let begin = Instant::now();
    for _ in 0..3 {
        overload.turn(Class::Listing, 20).await.unwrap().end(20, true);
    }
    assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_line_that_is_cleared_lets_nobody_wait() {
    let (overload, _) = overload(1, 10, u32::MAX);
    let first = overload.turn(Class::Listing, 1).await.unwrap();
    let waiting = tokio::spawn({
        let overload = overload.clone();
        async move { overload.turn(Class::Listing, 1).await.map(drop) }
    });
    until(|| overload.waiting(Class::Listing) == 1).await;
    overload.clear(Class::Listing);
    assert_eq!(waiting.await.unwrap(), Err(Busy));
    drop(first);
    assert!(overload.turn(Class::Listing, 1).await.is_ok());
}

#[tokio::test]
async fn two_nodes_have_a_budget_each() {
    let ((one, _), (other, _)) = (overload(1, 0, 10), overload(1, 0, 10));
    let _held = one.turn(Class::Login, 10).await.unwrap();
    assert_eq!(one.turn(Class::Login, 1).await.err(), Some(Busy));
    assert!(other.turn(Class::Login, 10).await.is_ok());
}
