//! The two connections of each pair: one user writes to the other. Called by the scenarios with pairs.

use std::rc::Rc;

use super::{
    lane::{Lane, OWN_ACKS},
    plan::Shape,
    receiver::Receiver,
    run_state::RunState,
    sender::Sender,
    track::Convs,
};

/// The names of those who send and of those who receive begin so.
const SENDS: &str = "a";
const RECEIVES: &str = "b";

pub(super) fn sender(shared: &Rc<RunState>, pair: usize) -> Lane<Sender> {
    let mesh = &shared.plan.mesh;
    let side = Sender::new(shared.clone(), pair, vec![format!("@{}", mesh.user(RECEIVES, pair))]);
    Lane::new(shared, pair * 2, sends(shared, pair), side, Convs::new(OWN_ACKS))
}

pub(super) fn receiver(shared: &Rc<RunState>, pair: usize) -> Lane<Receiver> {
    Lane::new(
        shared,
        pair * 2 + 1,
        receives(shared, pair),
        Receiver { shared: shared.clone() },
        Convs::new(shared.plan.ack_every),
    )
}

/// Who sends, and where.
pub(super) fn sends(shared: &RunState, pair: usize) -> (String, &str) {
    (shared.plan.mesh.user(SENDS, pair), urls(shared, pair).0)
}

/// Who receives, and where.
pub(super) fn receives(shared: &RunState, pair: usize) -> (String, &str) {
    (shared.plan.mesh.user(RECEIVES, pair), urls(shared, pair).1)
}

/// Where the sender and the receiver of a pair connect.
fn urls(shared: &RunState, pair: usize) -> (&str, &str) {
    let (first, second) = shared.plan.mesh.sides();
    let (a, b) = (&first[pair % first.len()], &second[pair % second.len()]);
    let swap = matches!(shared.plan.shape, Shape::Pairs { both_ways: true, .. }) && pair % 2 == 1;
    if swap { (b, a) } else { (a, b) }
}
