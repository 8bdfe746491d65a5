//! `block` and `unblock`: the caller takes nothing more from a user, or takes it again; `blocks`: whom the caller blocks. What a
//! block does stands where things pass: `send`, `signal`, `receipts`, and the presence (R24).

use super::{Caller, Ops, counted, fault, fault::is_served};
use crate::{
    metrics::StoreOp,
    model::UserId,
    overload::{Class, cost},
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{self, Blocking, BlocksPage},
    },
    store::StoreResult,
};

/// Both rows, read and written.
const ROWS: usize = 4;
/// Rows of one read.
const PAGE: usize = 256;
/// Reads of one list: those that were unblocked again, or block the caller, are passed over.
const PAGES: usize = 64;

pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::Block) -> Outcome {
    let ask::Block { user, on } = ask;
    let name = caller.name();
    if user == *name {
        return Err(Refused::new(ErrorCode::NotAllowed, "user: nobody blocks themselves"));
    }
    if on {
        within_limit(ops, name, &user).await?;
    }
    let turn = ops.turn(Class::Fill, cost(ROWS, 0)).await?;
    let done = ops.store.people.block(name, &user, on).await;
    turn.end(cost(ROWS, 0), is_served(&done));
    counted(&ops.metrics, StoreOp::Blocks, done).map_err(|error| fault::refused(&error))?;
    ops.router.tell_blocked(name, &user);
    Ok(Answer::Blocking(Blocking { reference: None, user, on }))
}

/// Two at the same moment may both pass: the limit is there to bound what a user costs, not to the last one.
async fn within_limit(ops: &Ops, name: &UserId, user: &UserId) -> Result<(), Refused> {
    let most = ops.limits.blocks_per_user;
    let (blocked, _) = read(ops, name, None, most + 1).await?;
    if blocked.len() < most || blocked.contains(user) {
        return Ok(());
    }
    let text = format!("user: you block {most} users already (limits.blocks_per_user)");
    Err(Refused::new(ErrorCode::NotAllowed, text))
}

pub(super) async fn list(ops: &Ops, caller: &Caller, ask: ask::Blocks) -> Outcome {
    let ask::Blocks { after, limit } = ask;
    let (users, next) = caller.while_there(read(ops, caller.name(), after, limit)).await??;
    Ok(Answer::Blocks(BlocksPage { reference: None, users, next }))
}

type Listed = (Vec<UserId>, Option<UserId>);

async fn read(ops: &Ops, name: &UserId, after: Option<UserId>, limit: usize) -> Result<Listed, Refused> {
    let turn = ops.turn(Class::Listing, cost(limit, 0)).await?;
    let (listed, rows) = some(ops, name, after, limit).await;
    turn.end(cost(rows.max(1), 0), is_served(&listed));
    counted(&ops.metrics, StoreOp::Blocks, listed).map_err(|error| fault::refused(&error))
}

async fn some(ops: &Ops, name: &UserId, mut after: Option<UserId>, limit: usize) -> (StoreResult<Listed>, usize) {
    let (mut users, mut rows) = (Vec::new(), 0);
    for _ in 0..PAGES {
        let page = match ops.store.people.ties(name, after.as_ref(), PAGE).await {
            Ok(page) => page,
            Err(error) => return (Err(error), rows),
        };
        rows += page.len();
        let is_last = page.len() < PAGE;
        for tie in page {
            if tie.blocks && users.len() == limit {
                return (Ok((users, after)), rows);
            }
            after = Some(tie.other.clone());
            users.extend(tie.blocks.then_some(tie.other));
        }
        if is_last {
            return (Ok((users, None)), rows);
        }
    }
    (Ok((users, after)), rows)
}
