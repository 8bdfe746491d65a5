//! Homes that do not answer: killed, stopped, slow, or out of reach.

use super::*;

/// The longest that a sender waits when its home dies or stops.
const TAKE_OVER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_home_is_replaced_within_a_second() {
    for count in [2, 3] {
        let mut mesh = TestHomes::settled(count).await;
        let conv = mesh.conv_at(count - 1);
        mesh.nodes[0].send(&conv, "before").await.unwrap();
        let dead = mesh.kill(count - 1);
        let (answer, took) = timed(mesh.nodes[0].send(&conv, "after")).await;
        assert_eq!(answer.map(|appended| appended.seq), Ok(2), "after {took:?}");
        assert!(took < TAKE_OVER, "{count} nodes: {took:?}");
        mesh.in_order(&[dead]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_home_is_replaced_within_a_second_and_writes_nothing_later() {
    let mesh = TestHomes::settled(3).await;
    let (conv, other) = (mesh.conv_at(2), mesh.conv_at(0));
    let stopped = mesh.nodes[2].who();
    // One that it has begun, and that its sender gives up.
    mesh.nodes[2].engine.open(false);
    let begun = tokio::spawn({
        let (logs, conv) = (mesh.nodes[0].logs.clone(), conv.clone());
        async move { logs.append(&conv, vec![message("begun")]).await }
    });
    until("it has begun", async || mesh.nodes[2].engine.begun() == 1).await;
    mesh.nodes[2].stop();
    let (answer, took) = timed(mesh.nodes[1].send(&conv, "after")).await;
    assert!(answer.is_ok() && took < TAKE_OVER, "{answer:?} after {took:?}");
    // The stopped one is still subscribed: who asks the slot's subject would meet it half of the time.
    let (_, took) = timed(async {
        for n in 0..20 {
            // One of the two is the new home; the other asks it.
            mesh.nodes[n % 2].send(&conv, &n.to_string()).await.unwrap();
        }
    })
    .await;
    assert!(took < TAKE_OVER, "twenty sends after the take-over: {took:?}");
    mesh.nodes[1].send(&other, "elsewhere").await.unwrap();
    let begun = begun.await.unwrap();
    assert!(begun[0].is_ok(), "the first sender finds the new home as well: {begun:?}");
    mesh.nodes[2].go_on();
    until("it begins anew", async || mesh.nodes[2].who() != stopped).await;
    until("it counts that", async || mesh.nodes[2].metrics.incarnations_lost.get() == 1).await;
    mesh.nodes[2].send_until_stored(&conv, "last").await;
    let cids = (0..20).map(|n| n.to_string()).chain(["begun", "after", "last"].map(str::to_owned));
    mesh.has_exactly(&conv, cids);
    mesh.in_order(&[stopped]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_is_only_slow_is_waited_for() {
    let mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(1);
    mesh.nodes[1].engine.open(false);
    let sending = tokio::spawn({
        let (logs, conv) = (mesh.nodes[0].logs.clone(), conv.clone());
        async move { logs.append(&conv, vec![message("slow")]).await }
    });
    until("it has begun", async || mesh.nodes[1].engine.begun() == 1).await;
    // Several looks at the home, each of which finds it at work.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!sending.is_finished());
    mesh.nodes[1].engine.open(true);
    assert!(sending.await.unwrap()[0].is_ok());
    assert_eq!(mesh.nodes[0].metrics.appends_routed.get(), 1, "sent once");
    assert_eq!(mesh.nodes[1].engine.begun(), 1);
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_after_the_time_out_is_found_by_the_retry() {
    let mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(1);
    mesh.nodes[1].engine.open(false);
    let (answer, took) = timed(mesh.nodes[0].send(&conv, "late")).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!((4.9..6.0).contains(&took.as_secs_f64()), "{took:?}");
    mesh.nodes[1].engine.open(true);
    until("it is stored", async || mesh.record.cids(&conv).len() == 1).await;
    let again = mesh.nodes[0].send(&conv, "late").await.unwrap();
    assert_eq!((again.seq, again.fresh), (1, false));
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_nats_gets_the_slot_through_the_store() {
    let mesh = TestHomes::settled(2).await;
    let (theirs, own) = (mesh.conv_at(1), mesh.conv_at(0));
    mesh.nodes[0].proxy.apply(Fault::Cut);
    until("the loss is noticed", async || mesh.nodes[0].bus.connected().is_none()).await;
    let (answer, took) = timed(mesh.nodes[0].send(&own, "own")).await;
    assert!(answer.is_ok() && took < Duration::from_millis(500), "its own slots need no NATS: {answer:?} {took:?}");
    let (answer, took) = timed(mesh.nodes[0].send(&theirs, "cut")).await;
    assert!(answer.is_ok(), "{answer:?} after {took:?}");
    assert!(mesh.nodes[0].engine.holds(Slot::of(&theirs)));
    mesh.nodes[0].proxy.heal();
    mesh.in_order(&[]);
    // Until the other one can reach it, it is as good as gone.
    let back = mesh.nodes[0].who();
    until("it is back", async || is_heard(&*mesh.nodes[1].bus, &back).await == Some(true)).await;
    mesh.nodes[1].send_until_stored(&theirs, "back").await;
    mesh.has_exactly(&theirs, ["cut".to_owned(), "back".to_owned()]);
    mesh.in_order(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_a_dead_home_is_fenced_only_after_a_while() {
    let mut mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(1);
    mesh.nodes[0].proxy.apply(Fault::Cut);
    until("the loss is noticed", async || mesh.nodes[0].bus.connected().is_none()).await;
    let dead = mesh.kill(1);
    let (_, took) = timed(mesh.nodes[0].send_until_stored(&conv, "alone")).await;
    assert!((5.0..12.0).contains(&took.as_secs_f64()), "{took:?}");
    mesh.in_order(&[dead]);
}

/// A single survivor cannot tell whether it is the others that are gone, or itself. The store can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_most_are_silent_the_store_decides() {
    let mut mesh = TestHomes::settled(3).await;
    let convs = [mesh.conv_at(1), mesh.conv_at(2)];
    let dead = [mesh.kill(2), mesh.kill(1)];
    let ((), took) = timed(async {
        join_all(convs.iter().map(|conv| mesh.nodes[0].send_until_stored(conv, "alone"))).await;
    })
    .await;
    assert!((5.0..15.0).contains(&took.as_secs_f64()), "{took:?}");
    let mut fenced = mesh.record.fenced();
    fenced.sort();
    assert_eq!(fenced, [dead[1].clone(), dead[0].clone()]);
}

/// A node whose way to NATS swallows everything takes all others for dead, and must not act on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_fences_nobody() {
    let mesh = TestHomes::settled(3).await;
    let (theirs, own) = (mesh.conv_at(1), mesh.conv_at(0));
    let cut_off = mesh.nodes[0].who();
    mesh.nodes[0].proxy.apply_both(Fault::Hold);
    let (at_cut_off, at_other) = tokio::join!(
        timed(mesh.nodes[0].send_until_stored(&theirs, "cut off")),
        timed(mesh.nodes[2].send_until_stored(&own, "takes over")),
    );
    // The majority may, and does.
    assert!(at_other.1 < TAKE_OVER, "{:?}", at_other.1);
    assert!(mesh.record.fenced().iter().all(|fenced| *fenced == cut_off), "{:?}", mesh.record.fenced());
    assert!(at_cut_off.1 < Duration::from_secs(20), "{:?}", at_cut_off.1);
    assert_eq!(mesh.nodes[0].metrics.homes_fenced.get(), 0);
    mesh.has_exactly(&theirs, ["cut off".to_owned()]);
    mesh.has_exactly(&own, ["takes over".to_owned()]);
}

/// A home that is started again is no silent one: its former lives need nobody's word and no limit, however often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_lives_of_a_node_are_over_however_often_it_is_started() {
    let mut mesh = TestHomes::settled(2).await;
    let mut dead = Vec::new();
    for round in 0..5 {
        until("it is home of something again", async || !mesh.nodes[1].engine.held().is_empty()).await;
        let conv = mesh.conv_at(1);
        dead.push(mesh.kill(1));
        mesh.add().await;
        let (answer, took) = timed(mesh.nodes[0].send(&conv, &round.to_string())).await;
        assert!(answer.is_ok() && took < TAKE_OVER, "life {round}: {answer:?} after {took:?}");
    }
    mesh.in_order(&dead);
}

/// A NATS server that restarts takes every home away from every subject for a moment. Nobody is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_blinks_costs_no_home() {
    let mesh = TestHomes::settled(2).await;
    let conv = mesh.conv_at(1);
    for round in 0..3 {
        mesh.nodes[1].proxy.apply(Fault::Cut);
        mesh.nodes[1].proxy.heal();
        let (answer, took) = timed(mesh.nodes[0].send(&conv, &round.to_string())).await;
        assert!(answer.is_ok(), "{answer:?} after {took:?}");
        until("it is back", async || mesh.nodes[1].bus.fence().await.is_ok()).await;
    }
    mesh.in_order(&[]);
}
