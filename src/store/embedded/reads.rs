//! What the store answers without writing. Every function here may wait for the disk and runs on a blocking
//! thread; [`super::traits`] calls them.
//!
//! Each works on one snapshot: a commit becomes visible as a whole, so nobody sees a row without its heads (R4).

use fjall::{Guard, Iter, Readable, Slice};

use super::{
    fold_reads::newest,
    keys,
    rows::{self, DeviceRow, InboxValue, StoredMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{ConvId, Device, Gap, Row, Seq, UserId},
    store::{Compared, CountsAt, InboxDetail, InboxRow, KnownDevice, Page, Span, StoreResult, level::Level},
};

/// [`crate::store::Logs::read_after`].
pub(super) fn read_after(tables: &Tables, conv: &ConvId, after: Seq, span: Span) -> StoreResult<Vec<Row>> {
    let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
    let found = tables.db.snapshot().range(&tables.messages, keys::messages(conv, first, Seq::MAX));
    take_span(found, span, Some(first), |seq| seq.checked_add(1))
}

/// [`crate::store::Logs::next_row`].
pub(super) fn next_row(tables: &Tables, conv: &ConvId, after: Seq, upto: Seq) -> StoreResult<Option<Seq>> {
    let Some(first) = after.checked_add(1).filter(|first| *first <= upto) else { return Ok(None) };
    let end = upto.saturating_add(1);
    let found = tables.db.snapshot().range(&tables.messages, keys::messages(conv, first, end)).next();
    let Some(item) = found else { return Ok(None) };
    let (key, _) = item.into_inner().map_err(unavailable)?;
    keys::seq_of(&key).map(Some).ok_or_else(rows::unreadable)
}

/// [`crate::store::Logs::placed`]; `cid` is the key in the table of cids.
pub(super) fn placed(tables: &Tables, conv: &ConvId, cid: &Slice) -> StoreResult<Option<Row>> {
    let view = tables.db.snapshot();
    let Some(seq) = view.get(&tables.cids, cid).map_err(unavailable)? else { return Ok(None) };
    let seq = rows::decode_seq(&seq)?;
    let row = view.get(&tables.messages, keys::message(conv, seq)).map_err(unavailable)?;
    row.map(|row| StoredMessage::split(&row)?.to_row(seq)).transpose()
}

/// [`crate::store::Logs::counts_at`].
pub(super) fn counts_at(tables: &Tables, conv: &ConvId, seq: Seq) -> StoreResult<CountsAt> {
    let view = tables.db.snapshot();
    let found = view.range(&tables.messages, keys::messages(conv, 0, seq.saturating_add(1))).next_back();
    let found = found.map(|item| item.into_inner().map_err(unavailable)).transpose()?;
    // What is asked for is there, or it is above the top, or a loss was accepted there.
    if found.as_ref().is_none_or(|(key, _)| keys::seq_of(key) != Some(seq)) {
        let top = tables.top(&view, conv)?;
        if seq > top {
            return Ok(CountsAt::AboveTop(top));
        }
    }
    let counts = found.map(|(_, value)| StoredMessage::split(&value).map(|message| message.counts)).transpose()?;
    Ok(CountsAt::Known(counts.unwrap_or_default()))
}

/// [`crate::store::Logs::read_before`].
pub(super) fn read_before(tables: &Tables, conv: &ConvId, before: Seq, span: Span) -> StoreResult<Vec<Row>> {
    let found = tables.db.snapshot().range(&tables.messages, keys::messages(conv, 0, before));
    // Where the log ends below `before`, its last row is the first that is read.
    let mut rows = take_span(found.rev(), span, None, |seq| seq.checked_sub(1))?;
    rows.reverse();
    Ok(rows)
}

/// Takes rows while each is the one that must follow, up to the row that fills the span.
fn take_span(
    found: impl Iterator<Item = Guard>,
    span: Span,
    mut expected: Option<Seq>,
    next: impl Fn(Seq) -> Option<Seq>,
) -> StoreResult<Vec<Row>> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for item in found {
        let (key, value) = match item.into_inner() {
            // What can be read is; the next page meets the damage first.
            Err(_) if !rows.is_empty() => break,
            other => other.map_err(unavailable)?,
        };
        let seq = keys::seq_of(&key).ok_or_else(rows::unreadable)?;
        if expected.is_some_and(|expected| expected != seq) {
            break;
        }
        let row = StoredMessage::split(&value)?.to_row(seq)?;
        bytes += row.body.size();
        rows.push(row);
        expected = next(seq);
        if rows.len() >= span.rows || bytes >= span.bytes {
            break;
        }
    }
    Ok(rows)
}

/// [`crate::store::Inbox::conversations`]. A row that holds a read mark alone is no conversation yet.
pub(super) fn conversations(
    tables: &Tables,
    user: &UserId,
    after: Option<&ConvId>,
    limit: usize,
) -> StoreResult<Page<InboxRow>> {
    let mut found = tables.db.snapshot().range(&tables.inbox, keys::directs(user, after));
    let mut items = found.by_ref().take(limit.max(1)).map(inbox_row).collect::<StoreResult<Vec<_>>>()?;
    let (last, scanned) = (items.last().map(|row| row.conv.clone()), items.len());
    items.retain(|row| row.head > 0);
    Ok(Page { next: last.filter(|_| found.next().is_some()), items, scanned })
}

/// [`crate::store::Inbox::details`]: the newest message is read from its own row.
pub(super) fn details(tables: &Tables, user: &UserId, convs: &[ConvId]) -> StoreResult<Vec<InboxDetail>> {
    let view = tables.db.snapshot();
    let mut found = Vec::with_capacity(convs.len());
    for conv in convs {
        let Some(value) = view.get(&tables.inbox, keys::inbox(user, conv)).map_err(unavailable)? else { continue };
        let InboxValue { head, ts, counts, read } = InboxValue::decode(&value)?;
        if head == 0 {
            continue;
        }
        let last = newest(tables, &view, conv, head)?;
        found.push(InboxDetail { conv: conv.clone(), head, ts, last, counts, read, noted: head });
    }
    Ok(found)
}

/// [`crate::store::Inbox::gaps`]: the user's heads and the device's cursors side by side, both in the order of the
/// conversations, so that no head costs a look-up of its own.
pub(super) fn gaps(
    tables: &Tables,
    device: &Device,
    after: Option<&ConvId>,
    limit: usize,
    scan: usize,
) -> StoreResult<Compared> {
    let view = tables.db.snapshot();
    let mut heads = view.range(&tables.inbox, keys::directs(&device.user, after));
    let mut cursors = Cursors::new(view.range(&tables.cursors, keys::cursors(device, after)))?;
    let mut page = Compared { items: Vec::new(), level: Vec::new(), next: None, scanned: 0 };
    let (mut last, mut level) = (None, Level::default());
    while page.items.len() < limit.max(1)
        && page.scanned < scan.max(1)
        && let Some(item) = heads.next()
    {
        let InboxRow { conv, head, ts, .. } = inbox_row(item)?;
        page.scanned += 1;
        let cursor = cursors.at(&conv)?;
        let gap = Gap { conv: conv.clone(), head, cursor };
        match gap.head > gap.cursor {
            true => page.items.push(gap),
            false if head > 0 => level.add(ts, gap),
            false => {}
        }
        last = Some(conv);
    }
    page.scanned += cursors.read;
    page.level = level.into_gaps();
    page.next = last.filter(|_| heads.next().is_some());
    Ok(page)
}

/// [`crate::store::Marks::devices`].
pub(super) fn devices(tables: &Tables, user: &UserId) -> StoreResult<Vec<KnownDevice>> {
    let known = tables.db.snapshot().range(&tables.devices, keys::devices(user)).map(|item| {
        let (key, value) = item.into_inner().map_err(unavailable)?;
        let (id, row) = (keys::device_of(&key).ok_or_else(rows::unreadable)?, DeviceRow::decode(&value)?);
        Ok(KnownDevice { device: Device { life: row.life, ..Device::new(user.clone(), id) }, seen: row.seen })
    });
    known.collect()
}

/// Some cursors of a life, by their keys.
pub(super) fn some_cursors(tables: &Tables, device: &Device, most: usize) -> StoreResult<Vec<Slice>> {
    let found = tables.db.snapshot().range(&tables.cursors, keys::cursors(device, None)).take(most);
    found.map(|item| item.key().map_err(unavailable)).collect()
}

/// A device's cursors, read in step with the heads.
struct Cursors {
    rest: Iter,
    current: Option<(ConvId, Seq)>,
    read: usize,
}

impl Cursors {
    fn new(rest: Iter) -> StoreResult<Self> {
        let mut cursors = Self { rest, current: None, read: 0 };
        cursors.advance()?;
        Ok(cursors)
    }

    fn advance(&mut self) -> StoreResult<()> {
        self.current = match self.rest.next() {
            Some(item) => {
                let (key, value) = item.into_inner().map_err(unavailable)?;
                self.read += 1;
                Some((conv_of(&key)?, rows::decode_seq(&value)?))
            }
            None => None,
        };
        Ok(())
    }

    /// The cursor of `conv`, which must not be below the one asked for before.
    fn at(&mut self, conv: &ConvId) -> StoreResult<Seq> {
        while self.current.as_ref().is_some_and(|(at, _)| at < conv) {
            self.advance()?;
        }
        Ok(self.current.as_ref().filter(|(at, _)| at == conv).map_or(0, |(_, seq)| *seq))
    }
}

fn inbox_row(item: Guard) -> StoreResult<InboxRow> {
    let (key, value) = item.into_inner().map_err(unavailable)?;
    let row = InboxValue::decode(&value)?;
    Ok(InboxRow { conv: conv_of(&key)?, head: row.head, ts: row.ts })
}

fn conv_of(key: &Slice) -> StoreResult<ConvId> {
    keys::conv_of(key).ok_or_else(rows::unreadable)
}
