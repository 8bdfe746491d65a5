//! `presence`: who is online, and being told of it. Whether the caller may know it is decided here.

use std::collections::HashSet;

use super::{Caller, Ops, counted, fault, fault::is_served, rooms::inside};
use crate::{
    metrics::StoreOp,
    model::{ConvId, UserId},
    overload::{Class, cost},
    protocol::{
        Answer, Outcome, Refused,
        ask::{self, Presences},
    },
    store::StoreResult,
};

pub(super) async fn perform(ops: &Ops, caller: &Caller, ask: ask::Presence) -> Outcome {
    let ask::Presence { users, watch } = ask;
    if let (Some(false), Some(session)) = (watch, caller.as_session()) {
        ops.presence.unwatch(session, &users);
    }
    let seen = async {
        let (users, refused) = allowed(ops, caller.name(), users).await?;
        if let (Some(true), Some(session)) = (watch, caller.as_session()) {
            // Before it is looked at: what happens in between is heard.
            ops.presence.watch(session, &users)?;
        }
        let items = ops.presence.ask(caller.as_session().map(AsRef::as_ref), &users).await;
        Ok::<_, Refused>(Presences { reference: None, items, refused })
    };
    Ok(Answer::Presences(caller.while_there(seen).await??))
}

/// Those of whom the caller may know it, and the others.
async fn allowed(ops: &Ops, name: &UserId, users: Vec<UserId>) -> Result<(Vec<UserId>, Vec<UserId>), Refused> {
    let (mut near, mut apart) = (Vec::new(), Vec::new());
    for user in users {
        let stand = ops.blocks.stand_of(name, &user).await.map_err(|error| fault::refused(&error))?;
        if stand.is_apart() { apart.push(user) } else { near.push(user) }
    }
    if ops.limits.presence_of_everybody {
        return Ok((near, apart));
    }
    let turn = ops.turn(Class::Listing, cost(near.len(), 0)).await?;
    let (known, rows) = known(ops, name, &near).await;
    turn.end(cost(rows, 0), is_served(&known));
    let known = counted(&ops.metrics, StoreOp::Inbox, known).map_err(|error| fault::refused(&error))?;
    let (near, strangers): (Vec<_>, Vec<_>) = near.into_iter().partition(|user| known.contains(user));
    apart.extend(strangers);
    apart.sort_unstable();
    Ok((near, apart))
}

/// Those with whom a user has messages, or a room; and the rows that were read to find out.
async fn known(ops: &Ops, name: &UserId, users: &[UserId]) -> (StoreResult<HashSet<UserId>>, usize) {
    let mut rows = users.len();
    let found = async {
        let convs: Vec<_> = users.iter().map(|user| ConvId::direct(name, user)).collect();
        let details = ops.store.inbox.details(name, &convs).await?;
        let with: HashSet<_> = details.into_iter().map(|detail| detail.conv).collect();
        let mut known: HashSet<_> =
            users.iter().zip(&convs).filter(|(_, conv)| with.contains(*conv)).map(|(user, _)| user.clone()).collect();
        known.extend(users.iter().filter(|user| *user == name).cloned());
        let mut own = None;
        for user in users {
            if known.contains(user) {
                continue;
            }
            if own.is_none() {
                own = Some(inside(ops, name, usize::MAX, &mut rows).await?);
            }
            let Some(own) = own.as_ref().filter(|own| !own.is_empty()) else { break };
            if !inside(ops, user, usize::MAX, &mut rows).await?.is_disjoint(own) {
                known.insert(user.clone());
            }
        }
        Ok(known)
    };
    let found = found.await;
    (found, rows)
}
