//! Kill −9 at any moment loses nothing that was answered (I1), and leaves every log dense.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    path::Path,
    time::Duration,
};

use natter::model::{ConvId, Seq};

use super::{child, open};
use crate::{
    harness::process::Process,
    store::contract::{append, dm, fill, log, message, messages},
};

const ROUNDS: usize = 6;
const WRITERS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = Answered::new();
    for round in 0..ROUNDS {
        let child = child::start("kill::appends_until_it_is_killed", dir.path());
        killed_at_work(child, &mut answered).await;
        check(dir.path(), &answered, round).await;
    }
    assert!(answered.len() > 100 * ROUNDS, "only {} appends: nothing was tested", answered.len());
}

/// Where messages stand by their answers, by conversation and cid.
pub type Answered = HashMap<(ConvId, String), Seq>;

/// Kills [`appends_until_it_is_killed`] at any moment of its work, and adds what it was answered.
pub async fn killed_at_work(mut child: Process, answered: &mut Answered) {
    answered.extend([parse(&child.line_after("answered").await)]);
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..400_000))).await;
    child.kill9();
    while let Some(line) = child.line().await {
        answered.extend(line.strip_prefix("answered").map(|rest| parse(rest.trim())));
    }
}

fn parse(line: &str) -> ((ConvId, String), Seq) {
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words.len(), 3, "{line}");
    ((ConvId::new(words[0]).unwrap(), words[1].to_owned()), words[2].parse().unwrap())
}

/// Everything answered is there, once, and a retry finds it.
pub async fn check(dir: &Path, answered: &Answered, round: usize) {
    let store = open(dir);
    let convs: HashSet<_> = answered.keys().map(|(conv, _)| conv.clone()).collect();
    let mut stored = HashMap::new();
    for conv in convs {
        for row in log(&*store, &conv).await {
            let twice = stored.insert((conv.clone(), row.cid.as_str().to_owned()), row.seq);
            assert_eq!(twice, None, "round {round}: {} is twice in {conv}", row.cid);
        }
    }
    for (key, seq) in answered {
        assert_eq!(stored.get(key), Some(seq), "round {round}: {key:?} was answered with {seq}");
    }
    // Sent again, as by a client whose connection broke: the same place.
    for ((conv, cid), seq) in answered.iter().take(20) {
        let again = append(&*store, conv, message("a", cid)).await.unwrap();
        assert_eq!((again.seq, again.fresh), (*seq, false), "round {round}: {cid}");
    }
}

#[test]
#[ignore = "a child process of nothing_answered_is_lost_by_kill_9"]
fn appends_until_it_is_killed() {
    let Some(dir) = child::dir() else { return };
    let store = open(&dir);
    let run = rand::random::<u32>();
    // The test harness has begun a line already.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            // Two writers share a conversation, so that their batches meet in one commit.
            let conv = dm("a", &format!("peer{}", writer / 2));
            tasks.spawn(async move {
                for round in 0.. {
                    let batch = messages("a", &format!("{run:x}w{writer}r{round}n"), 1 + writer % 4);
                    let answers = natter::store::Logs::append(&*store, &conv, batch.clone()).await;
                    let mut said = Vec::new();
                    for (message, answer) in batch.iter().zip(answers) {
                        writeln!(said, "answered {conv} {} {}", message.cid, answer.unwrap().seq).unwrap();
                    }
                    std::io::stdout().write_all(&said).unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_known_after_10_000_other_messages_and_a_restart() {
    let (dir, conv) = (tempfile::tempdir().unwrap(), dm("alice", "bob"));
    let store = open(dir.path());
    append(&*store, &conv, message("alice", "x")).await.unwrap();
    fill(&*store, &conv, "bob", "other", 10_000).await;
    drop(store);
    let store = open(dir.path());
    let again = append(&*store, &conv, message("alice", "x")).await.unwrap();
    assert_eq!((again.seq, again.fresh), (1, false));
    assert_eq!(append(&*store, &conv, message("alice", "y")).await.unwrap().seq, 10_002);
}
