//! I1 and I2 through power failures, on a disk that forgets what was not synced: what a process wrote and did not sync is
//! taken away after it was killed.

use std::path::PathBuf;

use natter::store::{Engine as _, Logs as _};

use super::{
    child,
    kill::{Answered, check, killed_at_work},
    open, report_of,
};
use crate::{
    harness::{preload, skip::skip},
    store::contract::{append, dm, message},
};

const ROUNDS: usize = 4;

/// A folder for each life of the store, and what each has synced.
struct Disks(tempfile::TempDir);

impl Disks {
    fn of(&self, life: usize) -> PathBuf {
        self.0.path().join(format!("disk{life}"))
    }

    fn kept(&self, life: usize) -> PathBuf {
        self.0.path().join(format!("synced{life}"))
    }

    /// The power fails in this life; what is left is the next one's.
    fn fail(&self, life: usize) -> PathBuf {
        let next = self.of(life + 1);
        preload::after_power_failure(&self.of(life), &self.kept(life), &next);
        next
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_when_the_power_fails() {
    let disks = Disks(tempfile::tempdir().unwrap());
    let mut answered = Answered::new();
    std::fs::create_dir(disks.of(0)).unwrap();
    for round in 0..ROUNDS {
        let Some(variables) = preload::keeping_synced(&disks.of(round), &disks.kept(round)) else {
            return no_compiler();
        };
        let child = child::start_with("kill::appends_until_it_is_killed", &disks.of(round), &variables);
        killed_at_work(child, &mut answered).await;
        let disk = disks.fail(round);
        // Looked at in a copy: the next life is to find what the power failure left.
        let copy = disks.0.path().join(format!("copy{round}"));
        preload::copy_files(&disk, &copy);
        check(&copy, &answered, round).await;
    }
    assert!(answered.len() > 20 * ROUNDS, "only {} appends: nothing was tested", answered.len());
}

/// With so much that the engine has written tables and let journals go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_journals_that_were_let_go_survive_a_power_failure() {
    let disks = Disks(tempfile::tempdir().unwrap());
    std::fs::create_dir(disks.of(0)).unwrap();
    let Some(variables) = preload::keeping_synced(&disks.of(0), &disks.kept(0)) else { return no_compiler() };
    let mut child = child::start_with("damage::large::writes_until_it_is_killed", &disks.of(0), &variables);
    child.line_after("let go").await;
    child.kill9();
    let disk = disks.fail(0);
    let store = open(&disk);
    let conv = dm("alice", "peer0");
    let top = store.top(&conv).await.unwrap();
    assert!(top > 0);
    assert_eq!(append(&*store, &conv, message("alice", "after")).await.unwrap().seq, top + 1);
    store.close().await.unwrap();
    let report = report_of(&disk);
    assert_eq!(report.problems, [""; 0]);
}

fn no_compiler() {
    skip("power failures", "there is no cc");
}
