//! Senders that go on until told to stop.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use super::people::{LONG, Person, send};
use crate::{harness::wait::until_ok, mesh::ledger::Ledger};

/// All senders of a test.
#[derive(Default)]
pub struct Traffic {
    /// What was answered.
    pub ledger: Ledger,
    stop: Arc<AtomicBool>,
    longest: Arc<AtomicU64>,
    lanes: JoinSet<()>,
}

impl Traffic {
    /// One more sender: to each of `to` in turn, each message after the answer to the previous one and a random pause
    /// of this many milliseconds.
    pub fn lane(&mut self, person: &Person, to: &[&str], pause: Range<u64>) {
        let (client, user, lane) = (person.client.clone(), person.user.clone(), self.lanes.len());
        let to: Vec<_> = to.iter().map(|to| (*to).to_owned()).collect();
        let (ledger, stop, longest) = (self.ledger.clone(), self.stop.clone(), self.longest.clone());
        self.lanes.spawn(async move {
            for (i, to) in to.iter().cycle().enumerate() {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let took = send(&client, &user, to, &format!("{lane}-{i}"), &ledger).await;
                longest.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::AcqRel);
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
        println!("{} sends answered, the slowest after {} ms", self.ledger.len(), self.longest.load(Ordering::Acquire));
        self.ledger
    }

    /// A sender that failed fails the test now, not at its end.
    fn lanes_live(&mut self) {
        if let Some(ended) = self.lanes.try_join_next() {
            ended.unwrap();
        }
    }
}
