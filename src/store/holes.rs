//! Where a log goes on behind a hole, for engines that can only read what is dense. Called by
//! [`super::Logs::next_row`].

use super::{Logs, Span, StoreResult};
use crate::model::{ConvId, Seq};

/// Probes ever further ahead, then halves the way back: the row that is found has none right before it.
pub(super) async fn next_row(
    logs: &(impl Logs + ?Sized),
    conv: &ConvId,
    after: Seq,
    upto: Seq,
) -> StoreResult<Option<Seq>> {
    let one = Span { rows: 1, bytes: 1 };
    let is_there = async |seq: Seq| logs.read_after(conv, seq - 1, one).await.map(|rows| !rows.is_empty());
    let (mut below, mut step) = (after, 1);
    let mut found = loop {
        let probe = after.saturating_add(step).min(upto);
        if probe <= below {
            return Ok(None);
        }
        if is_there(probe).await? {
            break probe;
        }
        (below, step) = (probe, step.saturating_mul(2));
    };
    while found - below > 1 {
        let middle = below + (found - below) / 2;
        if is_there(middle).await? {
            found = middle;
        } else {
            below = middle;
        }
    }
    Ok(Some(found))
}
