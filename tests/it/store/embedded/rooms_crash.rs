//! Kill −9 and power failures at any moment of a room's life: what was answered stands, and the tables are what the log makes
//! of them.

use std::{collections::HashMap, io::Write as _, path::Path, time::Duration};

use natter::{
    model::{ConvId, RoomId, Seq},
    store::{Engine as _, Logs, Store, StoreError},
};

use super::{child, open, rooms::verified};
use crate::{
    harness::{preload, process::Process, skip::skip},
    store::contract::{rooms::*, rooms_random},
};

const ROUNDS: usize = 4;
const ROOMS: usize = 3;

fn hall(n: usize) -> RoomId {
    room(&format!("hall{n}"))
}

/// Places by room, sender and cid.
type Answered = HashMap<(String, String, String), Seq>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_what_their_logs_make_of_them_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = Answered::new();
    for _ in 0..ROUNDS {
        let child = child::start("rooms_crash::lives_until_it_is_killed", dir.path());
        killed_at_work(child, &mut answered).await;
        check(dir.path(), &answered).await;
    }
    assert!(answered.len() > 20 * ROUNDS, "only {} appends: nothing was tested", answered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_what_their_logs_make_of_them_when_the_power_fails() {
    let disks = tempfile::tempdir().unwrap();
    let of = |name: &str, round: usize| disks.path().join(format!("{name}{round}"));
    let mut answered = Answered::new();
    std::fs::create_dir(of("disk", 0)).unwrap();
    for round in 0..ROUNDS {
        let Some(variables) = preload::keeping_synced(&of("disk", round), &of("synced", round)) else {
            return skip("power failures", "there is no cc");
        };
        let child = child::start_with("rooms_crash::lives_until_it_is_killed", &of("disk", round), &variables);
        killed_at_work(child, &mut answered).await;
        preload::after_power_failure(&of("disk", round), &of("synced", round), &of("disk", round + 1));
        // Looked at in a copy: the next life is to find what the power failure left.
        preload::copy_files(&of("disk", round + 1), &of("copy", round));
        check(&of("copy", round), &answered).await;
    }
    assert!(answered.len() > 10 * ROUNDS, "only {} appends: nothing was tested", answered.len());
}

async fn killed_at_work(mut child: Process, answered: &mut Answered) {
    answered.extend([parse(&child.line_after("answered").await)]);
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..400_000))).await;
    child.kill9();
    while let Some(line) = child.line().await {
        answered.extend(line.strip_prefix("answered").map(|rest| parse(rest.trim())));
    }
}

fn parse(line: &str) -> ((String, String, String), Seq) {
    let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    assert_eq!(words.len(), 4, "{line}");
    ((words[0].clone(), words[1].clone(), words[2].clone()), words[3].parse().unwrap())
}

async fn check(dir: &Path, answered: &Answered) {
    let open = open(dir);
    let store = Store::of(open.clone());
    let mut stored = Answered::new();
    for n in 0..ROOMS {
        for row in checked(&store, &hall(n)).await {
            let key = (hall(n).to_string(), row.sender.to_string(), row.cid.to_string());
            assert_eq!(stored.insert(key, row.seq), None, "{} is twice in {}", row.cid, hall(n));
        }
    }
    for (key, seq) in answered {
        assert_eq!(stored.get(key), Some(seq), "{key:?} was answered with {seq}");
    }
    drop(store);
    open.close().await.unwrap();
    drop(open);
    assert_eq!(verified(dir), [""; 0]);
}

#[test]
#[ignore = "a child process of rooms_are_what_their_logs_make_of_them_after_kill_9"]
fn lives_until_it_is_killed() {
    let Some(dir) = child::dir() else { return };
    let store = open(&dir);
    // The test harness has begun a line already.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        // Two writers for each room, so that their batches meet in one commit.
        for writer in 0..2 * ROOMS {
            let (store, hall) = (store.clone(), hall(writer / 2));
            tasks.spawn(async move {
                let conv = ConvId::room(&hall);
                let mut dice = rooms_random::dice();
                loop {
                    let batch: Vec<_> = (0..4).map(|_| rooms_random::asked(&mut dice, u32::MAX)).collect();
                    let answers = store.append(&conv, batch.clone()).await;
                    let mut said = Vec::new();
                    for (message, answer) in batch.iter().zip(answers) {
                        match answer {
                            Ok(stored) => {
                                writeln!(said, "answered {hall} {} {} {}", message.sender, message.cid, stored.seq)
                                    .unwrap();
                            }
                            Err(StoreError::Denied(_) | StoreError::CidReused { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    std::io::stdout().write_all(&said).unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}
