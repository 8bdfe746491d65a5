//! Slots that move in an orderly way: to a node that comes, from a node that goes, always under traffic.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Sends over all nodes, conversation after conversation, until it is told to stop; none may fail. Returns what was sent
/// per conversation, and the longest wait.
async fn traffic(nodes: &[TestHome], convs: &[ConvId], stop: &AtomicBool) -> (Vec<Vec<String>>, Duration) {
    let all = convs.iter().enumerate().map(|(at, conv)| async move {
        let (mut sent, mut longest) = (Vec::new(), Duration::ZERO);
        while !stop.load(Ordering::Acquire) {
            let (node, cid) = (&nodes[(at + sent.len()) % nodes.len()], sent.len().to_string());
            let (answer, took) = timed(node.send(conv, &cid)).await;
            assert_eq!(answer.map(|appended| appended.seq), Ok(sent.len() as u64 + 1), "{conv} {cid} after {took:?}");
            sent.push(cid);
            longest = longest.max(took);
        }
        (sent, longest)
    });
    let all = join_all(all).await;
    let longest = all.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    (all.into_iter().map(|(sent, _)| sent).collect(), longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_its_slots_under_traffic() {
    let mut mesh = TestHomes::settled(2).await;
    let convs: Vec<_> = (0..24).map(conv).collect();
    mesh.add().await;
    let stop = AtomicBool::new(false);
    let ((sent, longest), ()) = tokio::join!(traffic(&mesh.nodes, &convs, &stop), async {
        mesh.until_placed().await;
        stop.store(true, Ordering::Release);
    });
    for (conv, sent) in convs.iter().zip(sent) {
        assert_eq!(mesh.record.cids(conv), sent);
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(mesh.nodes[2].engine.begun() > 0, "the new one is home of something");
    let given: u64 = mesh.nodes.iter().map(|node| node.metrics.slots_handed_over.get()).sum();
    assert!((170..500).contains(&given), "{given} slots moved, a third would do");
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_hands_everything_over_under_traffic() {
    let mut mesh = TestHomes::settled(3).await;
    let leaver = mesh.nodes.remove(0);
    let convs: Vec<_> = (0..24).map(conv).collect();
    let stop = AtomicBool::new(false);
    let ((sent, longest), ()) = tokio::join!(traffic(&mesh.nodes, &convs, &stop), async {
        let ((), took) = timed(leaver.homes.leave()).await;
        assert!(leaver.engine.held().is_empty(), "{} slots are left after {took:?}", leaver.engine.held().len());
        leaver.bus.close().await;
        drop(leaver);
        mesh.until_placed().await;
        stop.store(true, Ordering::Release);
    });
    for (conv, sent) in convs.iter().zip(sent) {
        assert_eq!(mesh.record.cids(conv), sent);
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    mesh.in_order(&[]);
}

/// Nobody asks for them: the slots of a dead node are taken all the same, by those who should have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_held_is_taken_without_anybody_asking() {
    let mut mesh = TestHomes::settled(3).await;
    let dead = mesh.kill(1);
    mesh.until_placed().await;
    assert!(mesh.record.homes().values().all(|home| *home != dead));
    mesh.in_order(&[dead]);
}

/// Whole meshes are started at once, and nodes come back under their names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_that_was_killed_whole_takes_its_slots_again() {
    let mut mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(0);
    mesh.nodes[1].send(&conv, "before").await.unwrap();
    let dead = [mesh.kill(1), mesh.kill(0)];
    mesh.add().await;
    mesh.add().await;
    let (answer, took) = timed(mesh.nodes[1].send_until_stored(&conv, "after")).await;
    assert_eq!(answer.seq, 2, "after {took:?}");
    mesh.until_placed().await;
    let mut fenced = mesh.record.fenced();
    fenced.sort();
    let mut dead = dead.to_vec();
    dead.sort();
    assert_eq!(fenced, dead);
}
