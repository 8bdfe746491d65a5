//! Senders that go on until told to stop.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{task::JoinSet, time::sleep};

use super::people::{LONG, Person, send};
use crate::{harness::wait::until_ok, mesh::ledger::Ledger};

/// How long senders waited.
#[derive(Clone, Copy, Default)]
pub struct Waits {
    /// How many were answered.
    pub count: usize,
    p50: Duration,
    p99: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p99, longest } = self;
        write!(f, "{count} waits: half {p50:.1?}, 99 % {p99:.1?}, the longest {longest:.1?}")
    }
}

impl Waits {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or_default();
        Self { count: all.len(), p50: at(50), p99: at(99), longest: all.last().copied().unwrap_or_default() }
    }
}

/// All senders of a test.
#[derive(Default)]
pub struct Traffic {
    /// What was answered.
    pub ledger: Ledger,
    stop: Arc<AtomicBool>,
    waits: Arc<Mutex<Vec<Duration>>>,
    lanes: JoinSet<()>,
}

impl Traffic {
    /// One more sender: to each of `to` in turn, each message after the answer to the previous one and a random pause
    /// of this many milliseconds.
    pub fn lane(&mut self, person: &Person, to: &[&str], pause: Range<u64>) {
        let (client, user, lane) = (person.client.clone(), person.user.clone(), self.lanes.len());
        let to: Vec<_> = to.iter().map(|to| (*to).to_owned()).collect();
        let (ledger, stop, waits) = (self.ledger.clone(), self.stop.clone(), self.waits.clone());
        self.lanes.spawn(async move {
            for (i, to) in to.iter().cycle().enumerate() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let took = send(&client, &user, to, &format!("{lane}-{i}"), &ledger).await;
                waits.lock().push(took);
                if !pause.is_empty() {
                    sleep(Duration::from_millis(rand::random_range(pause.clone()))).await;
                }
            }
        });
    }

    /// Waits until this many more sends have been answered.
    pub async fn flows(&mut self, more: usize) {
        let wanted = self.ledger.len() + more;
        until_ok(LONG, &format!("{wanted} sends are answered"), async || {
            self.lanes_live();
            let answered = self.ledger.len();
            if answered >= wanted { Ok(()) } else { Err(format!("{answered} are")) }
        })
        .await;
    }

    /// Lets every sender finish its last message.
    pub async fn stop(mut self) -> Ledger {
        self.stop.store(true, Ordering::Release);
        while let Some(lane) = self.lanes.join_next().await {
            lane.unwrap();
        }
        println!("{} sends answered, at last {:?}", self.ledger.len(), self.waits());
        self.ledger
    }

    /// How long senders waited since this was last asked. What is still waited for is not in it.
    pub fn waits(&self) -> Waits {
        Waits::of(std::mem::take(&mut *self.waits.lock()))
    }

    /// A sender that failed fails the test now, not at its end.
    fn lanes_live(&mut self) {
        if let Some(ended) = self.lanes.try_join_next() {
            ended.unwrap();
        }
    }
}
