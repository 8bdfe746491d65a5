//! Receipts: how far somebody has received or read a conversation, told to whom it concerns, unless one of the two blocks the other (R24). Called by `read` and by the
//! cursors of sessions.

use std::sync::Arc;

use super::Ops;
use crate::{
    model::{Audience, ConvId, Seq, UserId},
    protocol::{ServerFrame, server::Receipt},
};

/// `user` has received everything up to `seq`: the other side is told.
pub(super) fn delivered(ops: &Ops, user: &UserId, conv: &ConvId, seq: Seq) {
    let receipt = Receipt { conv: conv.clone(), user: user.clone(), delivered: Some(seq), read: None };
    tell_others(ops, user, receipt);
}

/// `user` has read everything up to `seq`: the user's own devices and the other side are told.
pub(super) fn read(ops: &Ops, user: &UserId, conv: &ConvId, seq: Seq) {
    let receipt = Receipt { conv: conv.clone(), user: user.clone(), delivered: None, read: Some(seq) };
    ops.router.pass(user, &ServerFrame::Receipt(receipt.clone()));
    tell_others(ops, user, receipt);
}

fn tell_others(ops: &Ops, user: &UserId, receipt: Receipt) {
    let Some(audience) = Audience::of(&receipt.conv) else { return };
    let frame = Arc::new(ServerFrame::Receipt(receipt));
    for other in audience.others(user) {
        let (router, frame, to) = (ops.router.clone(), frame.clone(), other.clone());
        ops.blocks.stand(user, other, move |stand| {
            // A receipt is of the moment: where the store does not answer it is lost, and stands in the list.
            if stand.is_ok_and(|stand| !stand.is_apart()) {
                router.pass(&to, &frame);
            }
        });
    }
}
