//! The way of a mend: to whoever is home, from any node and from a process that is none.

use super::*;

/// A process that only asks, as `natter repair` is.
async fn visitor(mesh: &TestHomes) -> TestHome {
    mesh.new_node("n1-repair", Homes::start_leaving).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mend_is_done_where_the_home_is_and_moves_nothing() {
    let mut mesh = TestHomes::settled(2).await;
    let visitor = visitor(&mesh).await;
    let convs: Vec<_> = (0..40).map(conv).collect();
    for conv in &convs {
        mesh.nodes[0].send(conv, "one").await.unwrap();
    }
    for asker in [&mesh.nodes[0], &visitor] {
        let mended = join_all(convs.iter().map(|conv| asker.logs.mend(conv))).await;
        assert!(mended.iter().all(|seq| *seq == Ok(1)), "{mended:?}");
    }
    for conv in &convs {
        let at = |node: &TestHome| node.engine.mended.lock().iter().filter(|mended| *mended == conv).count();
        let home = mesh.nodes.iter().find(|node| node.engine.holds(Slot::of(conv))).unwrap();
        assert_eq!((at(home), mesh.nodes.iter().map(at).sum::<usize>()), (2, 2), "{conv}");
    }
    // By the time that a node which came later has its share, this one would have had its own.
    mesh.add().await;
    mesh.until_placed().await;
    assert_eq!(visitor.engine.held(), [], "a process that leaves got a slot");
    visitor.homes.leave().await;
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_nodes_are_gone_whoever_mends_takes_their_slots() {
    let mut mesh = TestHomes::settled(1).await;
    let conv = conv(1);
    mesh.nodes[0].send(&conv, "one").await.unwrap();
    let dead = mesh.kill(0);
    let visitor = visitor(&mesh).await;
    until_within(PATIENCE * 2, "it is mended", async || visitor.logs.mend(&conv).await == Ok(1)).await;
    assert_eq!(*visitor.engine.mended.lock(), [conv]);
    assert_eq!(visitor.engine.held().len(), 1, "no more than was needed");
    assert_eq!(mesh.record.fenced(), [dead]);
}
