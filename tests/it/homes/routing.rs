//! The way of an append while all is well, and what happens where two nodes believe different things.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_s_sends_go_to_the_one_home() {
    let mesh = TestHomes::settled(3).await;
    let convs: Vec<_> = (0..30).map(conv).collect();
    let sends = mesh.nodes.iter().enumerate().flat_map(|(n, node)| {
        convs.iter().map(move |conv| async move { node.send(conv, &format!("from{n}")).await.unwrap() })
    });
    let answers = join_all(sends).await;
    assert!(answers.iter().all(|answer| answer.fresh && (1..=3).contains(&answer.seq)), "{answers:?}");
    for conv in &convs {
        mesh.has_exactly(conv, (0..3).map(|n| format!("from{n}")));
    }
    // What was answered has its place, wherever it is sent again.
    let again = mesh.nodes[1].send(&convs[0], "from0").await.unwrap();
    assert!(!again.fresh);
    let routed: u64 = mesh.nodes.iter().map(|node| node.metrics.appends_routed.get()).sum();
    let elsewhere: u64 = mesh.nodes.iter().map(|node| node.metrics.appends_answered_elsewhere.get()).sum();
    assert!((30..=75).contains(&routed) && routed == elsewhere, "{routed} routed, {elsewhere} answered");
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_of_one_conversation_share_the_home_s_batches() {
    const COUNT: usize = 200;
    let mesh = TestHomes::settled(3).await;
    let conv = mesh.conv_at(0);
    let sends = mesh.nodes.iter().enumerate().flat_map(|(n, node)| {
        let conv = &conv;
        (0..COUNT).map(move |i| async move { node.send(conv, &format!("{n}-{i}")).await.unwrap().seq })
    });
    let mut seqs = join_all(sends).await;
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=3 * COUNT as u64).collect::<Vec<_>>());
    mesh.in_order(&[]);
    let begun = mesh.nodes[0].engine.begun();
    assert!(begun < 3 * COUNT / 4, "{begun} batches of {} messages", 3 * COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_goes_in_several_requests_in_its_order() {
    let mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(1);
    let body = Body::text(&"x".repeat(60 << 10));
    let batch: Vec<_> = (0..40).map(|n| NewMessage { body: body.clone(), ..message(&n.to_string()) }).collect();
    let answers = mesh.nodes[0].logs.append(&conv, batch).await;
    let seqs: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    let routed = mesh.nodes[0].metrics.appends_routed.get();
    assert!((5..=8).contains(&routed), "{routed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_take_at_once_are_not_both_home() {
    let mesh = TestHomes::start(3).await;
    // No slot has a home yet: each node takes, or asks another to take.
    let convs: Vec<_> = (0..40).map(conv).collect();
    let sends = mesh.nodes.iter().enumerate().flat_map(|(n, node)| {
        convs.iter().map(move |conv| async move { node.send_until_stored(conv, &format!("from{n}")).await })
    });
    join_all(sends).await;
    for conv in &convs {
        mesh.has_exactly(conv, (0..3).map(|n| format!("from{n}")));
        let holding = mesh.nodes.iter().filter(|node| node.engine.holds(Slot::of(conv))).count();
        assert!(holding <= 1, "{conv} has {holding} homes");
    }
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_lost_behind_its_home_s_back_is_found_again() {
    let mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(0);
    // The first still believes that it is home, and the second has not been told.
    mesh.record.assign(Slot::of(&conv), mesh.nodes[1].who());
    assert!(mesh.nodes[0].engine.holds(Slot::of(&conv)));
    let (answers, took) =
        timed(async { tokio::join!(mesh.nodes[0].send(&conv, "one"), mesh.nodes[1].send(&conv, "two")) }).await;
    assert!(answers.0.is_ok() && answers.1.is_ok(), "{answers:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    mesh.has_exactly(&conv, ["one".to_owned(), "two".to_owned()]);
    assert!(mesh.nodes[1].engine.holds(Slot::of(&conv)));
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_node_is_home_of_everything() {
    let mesh = TestHomes::start(1).await;
    let (answer, took) = timed(mesh.nodes[0].send(&conv(1), "early")).await;
    assert!(answer.is_ok() && took < Duration::from_secs(1), "{answer:?} after {took:?}");
    mesh.until_placed().await;
    until("all are counted", async || mesh.nodes[0].metrics.slots_held.get() == 1024).await;
    assert_eq!(mesh.nodes[0].metrics.appends_routed.get(), 1, "the one that found nobody");
    mesh.in_order(&[]);
}
