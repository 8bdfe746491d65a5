//! A session's steps for one message: it arrives, goes out, and is acknowledged. No I/O, so the floor is a look into a map
//! and a push.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use divan::Bencher;
use natter::{
    config::Config,
    model::{ConvId, Seq, UserId},
    node,
    protocol::{LiveMessage, SharedFrame},
    session::{Delivery, Effect, Rules, delivery::At},
};

const CONVS: [usize; 2] = [1, 100];

fn conv(n: usize) -> ConvId {
    ConvId::new(&format!("dm:me:peer{n}")).expect("a conversation")
}

fn live(conv: &ConvId, seq: Seq) -> Arc<LiveMessage> {
    let frame = SharedFrame::encoded(Bytes::from_static(&[0; 300]));
    Arc::new(LiveMessage { conv: conv.clone(), seq, puts_out: None, expires: None, ts: 0, frame, from_bus: true })
}

/// A session that is level in so many conversations.
fn level(rules: &Rules, convs: &[ConvId]) -> Delivery {
    let me = UserId::new("me").expect("a user's name");
    let (mut delivery, mut out) = (Delivery::begin(&me, rules, None, 500, 0), Vec::new());
    let at = At { rules, now: 0 };
    delivery.set_credit(usize::MAX, at, &mut out);
    for conv in convs {
        // The client's word, and the store's that there is nothing above it.
        assert!(!delivery.on_ack(conv, 1, at, &mut out), "nothing is known of it yet");
        assert!(delivery.on_top(conv, 1, 1, 1, at, &mut out), "there is nothing above it");
    }
    delivery
}

#[divan::bench(args = CONVS)]
fn a_message_handed_out_and_acknowledged(bencher: Bencher<'_, '_>, count: usize) {
    let rules = node::rules(&Config::default());
    let convs: Vec<_> = (0..count).map(conv).collect();
    let (mut delivery, mut out, mut seq) = (level(&rules, &convs), Vec::<Effect>::new(), 1);
    let at = At { rules: &rules, now: 1 };
    let mut turn = 0;
    bencher.bench_local(|| {
        if turn % count == 0 {
            seq += 1;
        }
        let conv = &convs[turn % count];
        turn += 1;
        delivery.on_live(live(conv, seq), at, &mut out);
        assert!(matches!(out.last(), Some(Effect::HandLive(_))), "it was not handed out");
        let acknowledged = delivery.on_ack(conv, seq, at, &mut out);
        out.clear();
        acknowledged
    });
}

#[divan::bench(args = CONVS)]
fn floor_of_that_a_look_and_a_push(bencher: Bencher<'_, '_>, count: usize) {
    let convs: Vec<_> = (0..count).map(conv).collect();
    let mut positions: HashMap<_, Seq> = convs.iter().map(|conv| (conv.clone(), 1)).collect();
    let (mut out, mut turn) = (Vec::new(), 0);
    bencher.bench_local(|| {
        let message = live(&convs[turn % count], 2);
        turn += 1;
        *positions.entry(message.conv.clone()).or_default() += 1;
        out.push(message);
        out.clear();
    });
}
