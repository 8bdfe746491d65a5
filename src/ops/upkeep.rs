//! What sessions need for their own deliveries: pages of logs, comparisons of heads, cursor writes, announcements. Nobody
//! asks for these through a door.
//!
//! Called by the gateway's connection task; what comes of it goes to `done` and from there into the session's mailbox.

use std::sync::Arc;

use aws_lc_rs::digest;

use super::{
    Caller, Ops,
    caller::belongs,
    counted,
    fault::{self, is_served},
    history::PAGE_BYTES,
    receipts,
    room_places::{self, From, Wanted},
};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Device, Row, Seq, Since},
    overload::{Class, Turn, cost},
    protocol::{
        Refused,
        event::{Delivered, EventKind, What},
    },
    routing::{Missed, SessionHandle},
    session::{AckCheck, Cause, Delivery, GAPS, Stamped, Upkeep, UpkeepDone, Urgency},
    store::{Entered, Span, Stamps},
};

/// Conversations looked at in one page of heads where few are behind: the whole inbox of almost everybody, in one go …
const SPARSE: usize = 8_192;
/// … and where many are: what was read beyond the last that the page holds is read again.
const DENSE: usize = 2 * GAPS;
/// What a page is taken to cost before it is read.
const GAPS_COST: usize = 256;
/// Rows read to judge an acknowledgement: two heads, unless it is known that the log goes so far, and the cursor.
const CHECK_ROWS: usize = 3;
/// Rows read to find where a log goes on behind a hole: a binary search.
const FIND_ROWS: usize = 16;
/// Rows looked at for one that somebody else wrote.
const UNDELIVERED_ROWS: usize = 256;
/// What a login costs before its first comparison of heads: the user's devices, read and one of them written.
const LOGIN_ROWS: usize = 3;

impl Ops {
    /// Does what a session needs; `done` is called once where there is something to tell it, unless the session has
    /// ended meanwhile.
    pub fn keep_up(
        self: &Arc<Self>,
        me: &Arc<SessionHandle>,
        need: Upkeep,
        done: impl FnOnce(UpkeepDone) + Send + 'static,
    ) {
        if let Upkeep::Announce(announcement) = need {
            return self.router.announce(&me.identity.device.user, announcement);
        }
        let (ops, me) = (self.clone(), me.clone());
        self.tasks.spawn(Box::pin(async move {
            let device = &me.device();
            match need {
                Upkeep::Fill { conv, after, rows, bytes } => {
                    done(fill(&ops, device, conv, after, Span { rows, bytes: bytes.min(PAGE_BYTES) }).await);
                }
                Upkeep::ReadCursor { conv } => done(read_cursor(&ops, device, conv).await),
                Upkeep::ReadRoom { conv, after, at, backlog } => {
                    let from = after.map_or(From::Cursor { backlog }, From::Position);
                    done(room_places::read(&ops, &me, conv, from, at).await);
                }
                Upkeep::FindRow { conv, after, upto } => done(find_row(&ops, conv, after, upto).await),
                Upkeep::ReadStamps { cause, urgency } => {
                    let caller = Caller::session(me.clone());
                    let read = caller.while_there(read_stamps(&ops, device, cause, urgency)).await;
                    if let Ok(read) = read {
                        done(read);
                    }
                }
                Upkeep::Compare { after, sparse, cause, urgency } => {
                    let scan = if sparse { SPARSE } else { DENSE };
                    // What nobody waits for may stand in line for long: not for those who have gone.
                    let caller = Caller::session(me.clone());
                    let compared = caller.while_there(compare(&ops, device, (after, scan), cause, urgency)).await;
                    if let Ok(compared) = compared {
                        done(compared);
                    }
                }
                Upkeep::CompareRooms { after, all, backlog, cause, urgency } => {
                    let caller = Caller::session(me.clone());
                    let page = Wanted { after: after.and_then(|conv| conv.as_room()), all, backlog };
                    let compared = caller.while_there(room_places::compare(&ops, &me, page, cause, urgency)).await;
                    if let Ok(compared) = compared {
                        done(compared);
                    }
                }
                Upkeep::CheckAck(check) => done(check_ack(&ops, device, check).await),
                Upkeep::RaiseCursor { conv, seq } => done(raise_cursor(&ops, device, conv, seq).await),
                Upkeep::Undelivered { conv, after, upto } => undelivered(&ops, device, &conv, after, upto).await,
                Upkeep::Announce(_) => {}
            }
        }));
    }

    /// Registers a device before its `welcome`, numbers its connection (R11), and reads the stamps that its first
    /// comparison begins with.
    ///
    /// # Errors
    /// When the store did not do it.
    pub async fn enter(&self, device: &Device) -> Result<(Entered, Stamped), Refused> {
        let entered = self.store.marks.enter(device, self.limits.devices_per_user).await;
        let entered = counted(&self.metrics, StoreOp::Enter, entered).map_err(|error| fault::refused(&error))?;
        self.metrics.reconciles.of(Cause::Login).inc();
        self.metrics.reconcile_rows.inc();
        let device = Device { life: entered.life, ..device.clone() };
        let stamped = stamped(&entered.stamps, &device);
        Ok((entered, stamped))
    }

    /// The cost of a login up to its `welcome`.
    pub fn login_cost() -> u64 {
        cost(LOGIN_ROWS, 0)
    }

    /// Writes what a session that ends has not written.
    pub async fn write_cursors(&self, device: &Device, delivery: &Delivery) {
        for (conv, seq) in delivery.unwritten() {
            // No turn for one: the node has too much to do, and what is not written is handed out again.
            let Ok(turn) = self.turn(Class::Fill, cost(1, 0)).await else { return };
            write_cursor(self, turn, device, conv, seq).await;
        }
    }
}

async fn read_cursor(ops: &Ops, device: &Device, conv: ConvId) -> UpkeepDone {
    let Ok(turn) = ops.turn(Class::Fill, cost(1, 0)).await else {
        return UpkeepDone::CursorRead { conv, cursor: Err(()) };
    };
    let read = ops.store.marks.cursor(device, &conv).await;
    turn.end(cost(1, 0), is_served(&read));
    let cursor = counted(&ops.metrics, StoreOp::Cursor, read).map_err(drop);
    UpkeepDone::CursorRead { conv, cursor }
}

async fn fill(ops: &Ops, device: &Device, conv: ConvId, after: Option<Seq>, span: Span) -> UpkeepDone {
    let mut cursor = None;
    let Ok(turn) = ops.turn(Class::Fill, cost(span.rows, 0)).await else {
        return UpkeepDone::Filled { conv, cursor, rows: Err(()) };
    };
    let read = async {
        let start = match after {
            Some(after) => after,
            None => *cursor.insert(ops.store.marks.cursor(device, &conv).await?),
        };
        ops.store.logs.read_after(&conv, start, span).await
    };
    let read = read.await;
    let bodies = |rows: &Vec<_>| rows.iter().map(|row: &Row| row.body.size()).sum();
    turn.end(read.as_ref().map_or(0, |rows| cost(1 + rows.len(), bodies(rows))), is_served(&read));
    let read = counted(&ops.metrics, StoreOp::ReadAfter, read);
    ops.metrics.fills.inc();
    ops.metrics.fill_rows.inc_by(read.as_ref().map_or(0, Vec::len) as u64);
    UpkeepDone::Filled { conv, cursor, rows: read.map_err(drop) }
}

async fn find_row(ops: &Ops, conv: ConvId, after: Seq, upto: Seq) -> UpkeepDone {
    // A handful of rows, ever further ahead.
    let Ok(turn) = ops.turn(Class::Fill, cost(FIND_ROWS, 0)).await else {
        return UpkeepDone::RowFound { conv, next: Err(()) };
    };
    let next = async {
        // Perhaps nobody heard of what is behind it.
        let upto = ops.store.logs.top(&conv).await?.max(upto);
        ops.store.logs.next_row(&conv, after, upto).await
    };
    let next = next.await;
    turn.end(cost(FIND_ROWS, 0), is_served(&next));
    let next = counted(&ops.metrics, StoreOp::ReadAfter, next);
    UpkeepDone::RowFound { conv, next: next.map_err(drop) }
}

/// Whoever waits at a login comes before what runs in the background; both keep to the budget (R12).
pub(super) fn class_of(urgency: Urgency) -> Class {
    match urgency {
        Urgency::Waited => Class::Login,
        Urgency::Background => Class::Listing,
    }
}

async fn read_stamps(ops: &Ops, device: &Device, cause: Cause, urgency: Urgency) -> UpkeepDone {
    let Ok(turn) = ops.overload.turn(class_of(urgency), cost(1, 0)).await else {
        return UpkeepDone::StampsRead { cause, stamps: Err(()) };
    };
    let read = ops.store.inbox.stamps(device).await;
    turn.end(cost(1, 0), is_served(&read));
    let read = counted(&ops.metrics, StoreOp::Stamps, read);
    ops.metrics.reconciles.of(cause).inc();
    ops.metrics.reconcile_rows.inc();
    UpkeepDone::StampsRead { cause, stamps: read.map_err(drop).map(|stamps| stamped(&stamps, device)) }
}

fn stamped(stamps: &Stamps, device: &Device) -> Stamped {
    let Stamps { clean, retired, in_rooms, .. } = *stamps;
    Stamped { since: since(stamps, device), clean, retired, in_rooms }
}

/// The stamps as a session remembers them and a client brings them back: small, and of no use to another user or device,
/// whose stamps may read the same, nor in another life of the device, which has less.
fn since(stamps: &Stamps, device: &Device) -> Since {
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in [device.user.as_str(), "/", device.device.as_str(), "/", stamps.value.as_str()] {
        digest.update(part.as_bytes());
    }
    digest.update(&device.life.to_be_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&digest.finish().as_ref()[..16]);
    Since::new(first)
}

type Place = (Option<ConvId>, usize);

async fn compare(ops: &Ops, device: &Device, (after, scan): Place, cause: Cause, urgency: Urgency) -> UpkeepDone {
    let Ok(turn) = ops.overload.turn(class_of(urgency), cost(GAPS_COST, 0)).await else {
        return UpkeepDone::Compared { cause, page: Err(()) };
    };
    let read = ops.store.inbox.gaps(device, after.as_ref(), GAPS, scan).await;
    let scanned = read.as_ref().map_or(0, |page| page.scanned);
    turn.end(cost(scanned, 0), is_served(&read));
    let read = counted(&ops.metrics, StoreOp::Gaps, read);
    ops.metrics.reconcile_rows.inc_by(scanned as u64);
    if after.is_none() && cause == Cause::Sweep {
        // A device that has been online for weeks logged in longest ago of all, and must not be taken for the one that nobody
        // uses any more. Failing is no harm, the next sweep tells it.
        let seen = ops.store.marks.refresh(device, ops.limits.seen_again).await;
        let _ = counted(&ops.metrics, StoreOp::Devices, seen);
    }
    UpkeepDone::Compared { cause, page: read.map_err(drop).map(|page| ([page.items, page.level].concat(), page.next)) }
}

async fn check_ack(ops: &Ops, device: &Device, check: AckCheck) -> UpkeepDone {
    let found = async {
        if let Some(room) = check.conv.as_room() {
            return room_places::check(ops, device, &room, check.seq).await;
        }
        belongs(&device.user, &check.conv)?;
        let turn = ops.turn(Class::Fill, cost(CHECK_ROWS, 0)).await?;
        let read = async {
            let top = ops.store.logs.reaches(&check.conv, check.seq).await?;
            // Nothing to acknowledge, and no cursor that says anything.
            let cursor = if check.seq > top { 0 } else { ops.store.marks.cursor(device, &check.conv).await? };
            Ok((top, cursor))
        };
        let read = read.await;
        turn.end(cost(CHECK_ROWS, 0), is_served(&read));
        counted(&ops.metrics, StoreOp::Top, read).map_err(|error| fault::refused(&error))
    };
    let found = found.await;
    UpkeepDone::AckChecked { check, found }
}

/// Tells push services of the last message that no device of the user acknowledged, not of what is about one. Those that the user sent from another
/// device are passed over: nobody is pushed what he wrote himself.
async fn undelivered(ops: &Ops, device: &Device, conv: &ConvId, after: Seq, upto: Seq) {
    if conv.is_room() {
        // Of rooms they are told where a message is stored (`pushes`), once for all members.
        return;
    }
    let span = Span { rows: UNDELIVERED_ROWS, bytes: PAGE_BYTES };
    // However long it takes: nobody else tells.
    let Ok(turn) = ops.overload.turn(Class::Listing, cost(span.rows, 0)).await else { return };
    let delivered = ops.store.marks.delivered(&device.user, conv).await;
    let served = is_served(&delivered);
    let after = after.max(counted(&ops.metrics, StoreOp::Delivered, delivered).unwrap_or(0));
    if upto <= after {
        return turn.end(cost(1, 0), served);
    }
    let read = ops.store.logs.read_before(conv, upto.saturating_add(1), span).await;
    turn.end(cost(1 + read.as_ref().map_or(0, Vec::len), 0), is_served(&read));
    let Ok(rows) = counted(&ops.metrics, StoreOp::ReadBefore, read) else { return };
    let others = |row: &&Row| row.kind.is_message() && row.seq > after && row.sender != device.user;
    if let Some(row) = rows.iter().rev().find(others) {
        let mention = rows.iter().filter(others).any(|row| row.mentions(&device.user));
        let (conv, from) = (conv.clone(), row.sender.clone());
        ops.router.offline(&device.user, Missed { conv, seq: row.seq, from, mention });
    }
}

async fn raise_cursor(ops: &Ops, device: &Device, conv: ConvId, seq: Seq) -> UpkeepDone {
    let stored = match ops.turn(Class::Fill, cost(1, 0)).await {
        Ok(turn) => write_cursor(ops, turn, device, &conv, seq).await.then_some(seq),
        // The session tries again.
        Err(_) => None,
    };
    UpkeepDone::CursorRaised { conv, stored }
}

/// Writes a cursor and tells the other side; false when the store did not take it.
async fn write_cursor(ops: &Ops, turn: Turn, device: &Device, conv: &ConvId, seq: Seq) -> bool {
    let stored = ops.store.marks.raise_cursor(device, conv, seq).await;
    turn.end(cost(1, 0), is_served(&stored));
    if counted(&ops.metrics, StoreOp::RaiseCursor, stored).is_err() {
        return false;
    }
    ops.metrics.cursor_writes.inc();
    receipts::delivered(ops, &device.user, conv, seq);
    ops.router.events().tell(EventKind::Delivered, || {
        let Device { user, device, .. } = device.clone();
        What::Delivered(Delivered { user, device, conv: conv.clone(), seq })
    });
    true
}
