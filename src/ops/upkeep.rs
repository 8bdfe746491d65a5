//! What sessions need for their own deliveries: pages of logs, comparisons of heads, cursor writes, announcements. Nobody
//! asks for these through a door.
//!
//! Called by the gateway's connection task; what comes of it goes to `done` and from there into the session's mailbox.

use std::{num::NonZeroU32, sync::Arc};

use super::{Ops, caller::belongs, counted, fault, history::PAGE_BYTES, receipts};
use crate::{
    metrics::StoreOp,
    model::{ConvId, Device, Row, Seq},
    protocol::{Refused, server::Announcement},
    session::{AckCheck, Cause, Delivery, Identity, Upkeep, UpkeepDone, Urgency},
    store::Span,
};

/// Conversations looked at in one page of heads.
const GAPS_PAGE: usize = 256;
/// What a page of heads is taken to cost before it is read; the rest is paid after.
const GAPS_ADVANCE: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");

impl Ops {
    /// Does what a session needs; `done` is called once where there is something to tell it.
    pub fn keep_up(self: &Arc<Self>, me: &Identity, need: Upkeep, done: impl FnOnce(UpkeepDone) + Send + 'static) {
        if let Upkeep::Announce = need {
            return announce(self, me);
        }
        let (ops, device) = (self.clone(), me.device.clone());
        self.tasks.spawn(Box::pin(async move {
            match need {
                Upkeep::Fill { conv, after, rows, bytes } => {
                    done(fill(&ops, &device, conv, after, Span { rows, bytes: bytes.min(PAGE_BYTES) }).await);
                }
                Upkeep::FindRow { conv, after, upto } => done(find_row(&ops, conv, after, upto).await),
                Upkeep::Compare { after, cause, urgency } => done(compare(&ops, &device, after, cause, urgency).await),
                Upkeep::CheckAck(check) => done(check_ack(&ops, &device, check).await),
                Upkeep::RaiseCursor { conv, seq } => done(raise_cursor(&ops, &device, conv, seq).await),
                Upkeep::Undelivered { conv, after, upto } => undelivered(&ops, &device, &conv, after, upto).await,
                Upkeep::Announce => {}
            }
        }));
    }

    /// Registers a device before its `welcome`.
    ///
    /// # Errors
    /// When the store did not do it.
    pub async fn register(&self, device: &Device) -> Result<bool, Refused> {
        let registered = self.store.marks.register_device(device).await;
        counted(&self.metrics, StoreOp::RegisterDevice, registered).map_err(|error| fault::refused(&error))
    }

    /// A number for a new connection of a device (R11).
    ///
    /// # Errors
    /// When the store gave none.
    pub async fn number(&self, device: &Device) -> Result<u64, Refused> {
        let number = self.store.marks.next_connection(device).await;
        counted(&self.metrics, StoreOp::NextConnection, number).map_err(|error| fault::refused(&error))
    }

    /// Writes what a session that ends has not written.
    pub async fn write_cursors(&self, device: &Device, delivery: &Delivery) {
        for (conv, seq) in delivery.unwritten() {
            write_cursor(self, device, conv, seq).await;
        }
    }
}

fn announce(ops: &Ops, me: &Identity) {
    let rank = &me.rank;
    let (device, session) = (me.device.device.clone(), rank.session.clone());
    let announcement = Announcement { device, session, number: rank.number, attempt: rank.attempt };
    ops.router.announce(&me.device.user, announcement);
}

async fn fill(ops: &Ops, device: &Device, conv: ConvId, after: Option<Seq>, span: Span) -> UpkeepDone {
    let mut cursor = None;
    let read = async {
        let start = match after {
            Some(after) => after,
            None => *cursor.insert(ops.store.marks.cursor(device, &conv).await?),
        };
        ops.store.logs.read_after(&conv, start, span).await
    };
    let read = counted(&ops.metrics, StoreOp::ReadAfter, read.await);
    ops.metrics.fills.inc();
    ops.metrics.fill_rows.inc_by(read.as_ref().map_or(0, Vec::len) as u64);
    UpkeepDone::Filled { conv, cursor, rows: read.map_err(drop) }
}

async fn find_row(ops: &Ops, conv: ConvId, after: Seq, upto: Seq) -> UpkeepDone {
    let next = async {
        // Perhaps nobody heard of what is behind it.
        let upto = ops.store.logs.top(&conv).await?.max(upto);
        ops.store.logs.next_row(&conv, after, upto).await
    };
    let next = counted(&ops.metrics, StoreOp::ReadAfter, next.await);
    UpkeepDone::RowFound { conv, next: next.map_err(drop) }
}

async fn compare(ops: &Ops, device: &Device, after: Option<ConvId>, cause: Cause, urgency: Urgency) -> UpkeepDone {
    // A login is somebody waiting, and it is O(1) pages; everything else keeps to the budget (R12).
    let budgeted = urgency == Urgency::Background;
    if budgeted {
        let _ = ops.budget.until_n_ready(GAPS_ADVANCE).await;
    }
    let read = ops.store.inbox.gaps(device, after.as_ref(), GAPS_PAGE).await;
    let read = counted(&ops.metrics, StoreOp::Gaps, read);
    let scanned = read.as_ref().map_or(0, |page| page.scanned);
    ops.metrics.reconcile_rows.inc_by(scanned as u64);
    if after.is_none() {
        ops.metrics.reconciles.of(cause).inc();
    }
    let rest = u32::try_from(scanned).unwrap_or(u32::MAX).saturating_sub(GAPS_ADVANCE.get());
    if let (true, Some(rest)) = (budgeted, NonZeroU32::new(rest.min(ops.limits.reconcile_rows.get()))) {
        let _ = ops.budget.until_n_ready(rest).await;
    }
    UpkeepDone::Compared { cause, page: read.map_err(drop).map(|page| (page.items, page.next)) }
}

async fn check_ack(ops: &Ops, device: &Device, check: AckCheck) -> UpkeepDone {
    let found = async {
        belongs(&device.user, &check.conv)?;
        let read = async {
            let top = ops.store.logs.top(&check.conv).await?;
            Ok((top, ops.store.marks.cursor(device, &check.conv).await?))
        };
        counted(&ops.metrics, StoreOp::Top, read.await).map_err(|error| fault::refused(&error))
    };
    let found = found.await;
    UpkeepDone::AckChecked { check, found }
}

/// Tells push services of the last message that no device of the user acknowledged. Those that the user sent from another
/// device are passed over: nobody is pushed what he wrote himself.
async fn undelivered(ops: &Ops, device: &Device, conv: &ConvId, after: Seq, upto: Seq) {
    let delivered = ops.store.marks.delivered(&device.user, conv).await;
    let after = after.max(counted(&ops.metrics, StoreOp::Delivered, delivered).unwrap_or(0));
    if upto <= after {
        return;
    }
    let span = Span { rows: GAPS_PAGE, bytes: PAGE_BYTES };
    let read = ops.store.logs.read_before(conv, upto.saturating_add(1), span).await;
    let Ok(rows) = counted(&ops.metrics, StoreOp::ReadBefore, read) else { return };
    let others = |row: &&Row| row.seq > after && row.sender != device.user;
    if let Some(row) = rows.iter().rev().find(others) {
        ops.router.offline(&device.user, &row.sender, conv, row.seq);
    }
}

async fn raise_cursor(ops: &Ops, device: &Device, conv: ConvId, seq: Seq) -> UpkeepDone {
    let stored = write_cursor(ops, device, &conv, seq).await.then_some(seq);
    UpkeepDone::CursorRaised { conv, stored }
}

/// Writes a cursor and tells the other side; false when the store did not take it.
async fn write_cursor(ops: &Ops, device: &Device, conv: &ConvId, seq: Seq) -> bool {
    let stored = ops.store.marks.raise_cursor(device, conv, seq).await;
    if counted(&ops.metrics, StoreOp::RaiseCursor, stored).is_err() {
        return false;
    }
    ops.metrics.cursor_writes.inc();
    receipts::delivered(ops, &device.user, conv, seq);
    true
}
