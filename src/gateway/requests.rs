//! What sessions want of the store, each request a task whose answer goes into the session's mailbox. Also the
//! receipts that follow a raised mark.
//!
//! Called by the pump.

use std::{future::Future, num::NonZeroU32, sync::Arc};

use super::{
    Gateway, listing,
    live::{Live, message_of},
    mailbox::Mail,
    registry::SessionHandle,
};
use crate::{
    metrics::{Metrics, ReconcileCause, StoreOp},
    model::{ConvId, Device, Gap, NewMessage, Row, Seq, UserId, now_millis},
    protocol::{
        Body, ErrorCode, ServerFrame,
        client::HistoryFrom,
        server::{Announcement, Receipt, Signal},
    },
    session::{Cause, Delivery, Effect, Expiry, Mark, Marking, refusal},
    store::{Appended, Span, StoreError, StoreResult},
};

/// Bytes of bodies in one page: what a fill or a history answer may hold in memory.
const PAGE_BYTES: usize = 256 << 10;
/// Conversations looked at in one page of heads.
const GAPS_PAGE: usize = 256;
/// What a page of heads is taken to cost before it is read; the rest is paid after.
const GAPS_ADVANCE: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");

type Wish = Effect<Arc<Live>, Row>;

/// Starts what an effect asks for. Frames, pings and closing are the pump's own and never come here.
pub fn start(gateway: &Arc<Gateway>, handle: &Arc<SessionHandle>, wish: Wish) {
    let (gw, me) = (gateway.clone(), handle.clone());
    let spawn = |future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| drop(gateway.work.spawn(future));
    match wish {
        Effect::Append { reference, to, cid, body } => {
            let user = handle.identity.user.clone();
            let message = NewMessage { sender: user.clone(), cid, ts: now_millis(), body };
            append(gateway, handle, reference, ConvId::direct(&user, &to), message);
        }
        Effect::Fill { conv, after, rows } => spawn(Box::pin(fill(gw, me, conv, after, rows))),
        Effect::Compare { after, cause } => spawn(Box::pin(compare(gw, me, after, cause))),
        Effect::ReadTop(asked) => spawn(Box::pin(read_top(gw, me, asked))),
        Effect::RaiseCursor { conv, seq } => spawn(Box::pin(raise_cursor(gw, me, conv, seq))),
        Effect::RaiseRead(asked) => spawn(Box::pin(raise_read(gw, me, asked))),
        Effect::History { reference, conv, from, limit } => {
            spawn(Box::pin(history(gw, me, reference, conv, from, limit)));
        }
        Effect::Conversations { reference, after, limit } => spawn(Box::pin(async move {
            let frame = listing::conversations(&gw, &me.identity.user, reference, after, limit).await;
            me.mailbox.push(Mail::Listing(Box::new(frame)));
        })),
        Effect::Signal { to, kind, body } => signal(gateway, &handle.identity.user, &to, kind, body),
        Effect::Announce => announce(gateway, handle),
        Effect::Unheard { conv, seq } => gateway.router.offline(&handle.identity.user, &conv, seq),
        Effect::HandLive(_) | Effect::HandRow(..) | Effect::Frame(_) | Effect::Ping | Effect::Close(_) => {}
        Effect::Refresh { .. } => {}
    }
}

fn append(
    gateway: &Arc<Gateway>,
    handle: &Arc<SessionHandle>,
    reference: Option<u64>,
    conv: ConvId,
    message: NewMessage,
) {
    let (metrics, me, place) = (gateway.metrics.clone(), handle.clone(), conv.clone());
    let began = std::time::Instant::now();
    let answer = move |result: &StoreResult<Appended>| {
        metrics.observe_append(began.elapsed());
        if let Err(StoreError::Unavailable(_)) = result {
            metrics.store_errors.of(StoreOp::Append).inc();
        }
        let answer = match result {
            Ok(appended) => Ok((appended.seq, appended.ts)),
            Err(error) => Err((code_of(error), error.to_string())),
        };
        me.mailbox.push(Mail::Appended { reference, conv: place, answer });
    };
    gateway.appender.submit(conv, message, Box::new(answer));
}

/// The protocol's word for what the store said.
pub fn code_of(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::CidReused { .. } => ErrorCode::CidReused,
        StoreError::Unavailable(_) => ErrorCode::Unavailable,
        StoreError::Unsupported(_) => ErrorCode::Unsupported,
    }
}

/// Counts a failed store call and passes its result on.
pub fn counted<T>(metrics: &Metrics, op: StoreOp, result: StoreResult<T>) -> StoreResult<T> {
    if let Err(error) = &result {
        metrics.store_errors.of(op).inc();
        tracing::warn!(?op, %error, "a store call failed");
    }
    result
}

fn device_of(me: &SessionHandle) -> Device {
    Device { user: me.identity.user.clone(), device: me.identity.device.clone() }
}

async fn fill(gateway: Arc<Gateway>, me: Arc<SessionHandle>, conv: ConvId, after: Option<Seq>, rows: usize) {
    let device = device_of(&me);
    let mut cursor = None;
    let read = async {
        let start = match after {
            Some(after) => after,
            None => *cursor.insert(gateway.store.marks.cursor(&device, &conv).await?),
        };
        gateway.store.logs.read_after(&conv, start, Span { rows, bytes: PAGE_BYTES }).await
    };
    let read = counted(&gateway.metrics, StoreOp::ReadAfter, read.await);
    gateway.metrics.fills.inc();
    gateway.metrics.fill_rows.inc_by(read.as_ref().map_or(0, Vec::len) as u64);
    me.mailbox.push(Mail::Page { conv, cursor, rows: read.map_err(drop) });
}

async fn compare(gateway: Arc<Gateway>, me: Arc<SessionHandle>, after: Option<ConvId>, cause: Cause) {
    let metrics = &gateway.metrics;
    // A login is somebody waiting, and it is O(1) pages; everything else keeps to the budget (R12).
    let budgeted = cause != Cause::Login;
    if budgeted {
        let _ = gateway.budget.until_n_ready(GAPS_ADVANCE).await;
    }
    let read = gateway.store.inbox.gaps(&device_of(&me), after.as_ref(), GAPS_PAGE).await;
    let read = counted(metrics, StoreOp::Gaps, read);
    let scanned = read.as_ref().map_or(0, |page| page.scanned);
    metrics.reconcile_rows.inc_by(scanned as u64);
    if after.is_none() {
        metrics.reconciles.of(label_of(cause)).inc();
    }
    let rest = u32::try_from(scanned).unwrap_or(u32::MAX).saturating_sub(GAPS_ADVANCE.get());
    if let (true, Some(rest)) = (budgeted, NonZeroU32::new(rest.min(gateway.settings.reconcile_rows.get()))) {
        let _ = gateway.budget.until_n_ready(rest).await;
    }
    let page = read.map_err(drop).map(|page| {
        let gaps = page.items.into_iter().map(|Gap { conv, head, cursor }| (conv, head, cursor)).collect();
        (gaps, page.next)
    });
    me.mailbox.push(Mail::Gaps { cause, page });
}

fn label_of(cause: Cause) -> ReconcileCause {
    match cause {
        Cause::Login => ReconcileCause::Login,
        Cause::Recheck => ReconcileCause::Recheck,
        Cause::Reconnect => ReconcileCause::Reconnect,
        Cause::SlowConsumer => ReconcileCause::SlowConsumer,
        Cause::Sweep => ReconcileCause::Sweep,
        Cause::Lagged => ReconcileCause::Lagged,
    }
}

/// Counts what only a comparison of heads found.
pub fn count_gaps(metrics: &Metrics, cause: Cause, found: usize) {
    metrics.gaps_found.of(label_of(cause)).inc_by(found as u64);
}

async fn read_top(gateway: Arc<Gateway>, me: Arc<SessionHandle>, asked: Marking) {
    let read = async {
        let top = gateway.store.logs.top(&asked.conv).await?;
        let cursor = match asked.mark {
            Mark::Cursor => gateway.store.marks.cursor(&device_of(&me), &asked.conv).await?,
            Mark::Read => 0,
        };
        Ok((top, cursor))
    };
    let found = counted(&gateway.metrics, StoreOp::Top, read.await).map_err(|error| error.to_string());
    me.mailbox.push(Mail::Top { asked, found });
}

async fn raise_cursor(gateway: Arc<Gateway>, me: Arc<SessionHandle>, conv: ConvId, seq: Seq) {
    let stored = write_cursor(&gateway, &me, &conv, seq).await;
    me.mailbox.push(Mail::Cursor { conv, stored: stored.then_some(seq) });
}

async fn write_cursor(gateway: &Gateway, me: &SessionHandle, conv: &ConvId, seq: Seq) -> bool {
    let user = &me.identity.user;
    let stored = gateway.store.marks.raise_cursor(&device_of(me), conv, seq).await;
    if counted(&gateway.metrics, StoreOp::RaiseCursor, stored).is_err() {
        return false;
    }
    gateway.metrics.cursor_writes.inc();
    let receipt = Receipt { conv: conv.clone(), user: user.clone(), delivered: Some(seq), read: None };
    tell_peer(gateway, user, receipt);
    true
}

/// Writes what a session that ends has not written.
pub async fn write_cursors(gateway: &Gateway, me: &SessionHandle, delivery: &Delivery) {
    for (conv, seq) in delivery.unwritten() {
        write_cursor(gateway, me, conv, seq).await;
    }
}

async fn raise_read(gateway: Arc<Gateway>, me: Arc<SessionHandle>, asked: Marking) {
    let Marking { reference, conv, seq, .. } = asked;
    let user = &me.identity.user;
    let stored = gateway.store.marks.raise_read_mark(user, &conv, seq).await;
    let stored = counted(&gateway.metrics, StoreOp::RaiseReadMark, stored);
    if stored.is_ok() {
        let receipt = Receipt { conv, user: user.clone(), delivered: None, read: Some(seq) };
        gateway.router.pass(user, &ServerFrame::Receipt(receipt.clone()));
        tell_peer(&gateway, user, receipt);
    }
    me.mailbox.push(Mail::ReadStored { reference, stored: stored.map_err(|error| error.to_string()) });
}

fn tell_peer(gateway: &Gateway, user: &UserId, receipt: Receipt) {
    if let Some(peer) = receipt.conv.peer_of(user).filter(|peer| peer != user) {
        gateway.router.pass(&peer, &ServerFrame::Receipt(receipt));
    }
}

async fn history(
    gateway: Arc<Gateway>,
    me: Arc<SessionHandle>,
    reference: Option<u64>,
    conv: ConvId,
    from: HistoryFrom,
    limit: usize,
) {
    let span = Span { rows: limit, bytes: PAGE_BYTES };
    let read = async {
        Ok(match from {
            HistoryFrom::Before(before) => {
                let rows = gateway.store.logs.read_before(&conv, before, span).await?;
                let more = rows.first().is_some_and(|row| row.seq > 1);
                (rows, more)
            }
            HistoryFrom::After(after) => {
                let rows = gateway.store.logs.read_after(&conv, after, span).await?;
                let top = gateway.store.logs.top(&conv).await?;
                let more = rows.last().is_some_and(|row| row.seq < top);
                (rows, more)
            }
        })
    };
    let frame = match counted(&gateway.metrics, StoreOp::ReadBefore, read.await) {
        Ok((rows, more)) => {
            let messages = rows.into_iter().map(|row| message_of(&conv, row)).collect();
            ServerFrame::History { reference, conv, messages, more }
        }
        Err(error) => refusal(reference, code_of(&error), error.to_string()),
    };
    me.mailbox.push(Mail::Listing(Box::new(frame)));
}

fn signal(gateway: &Gateway, from: &UserId, to: &UserId, kind: String, body: Option<Body>) {
    let conv = Some(ConvId::direct(from, to));
    gateway.router.pass(to, &ServerFrame::Signal(Signal { conv, from: from.clone(), kind, body }));
}

fn announce(gateway: &Gateway, me: &SessionHandle) {
    let rank = &me.identity.rank;
    let announcement =
        Announcement { device: me.identity.device.clone(), session: rank.session.clone(), attempt: rank.attempt };
    gateway.router.announce(&me.identity.user, announcement);
}

/// Checks a token, of `user` where that is given. The error says whether it is merely too old.
///
/// # Errors
/// Whether it has expired, and what is wrong in words.
pub fn check_token(gateway: &Gateway, user: Option<&UserId>, token: &str) -> Result<(UserId, Expiry), (bool, String)> {
    let claims = gateway.verifier.verify(token).map_err(|error| (error.is_expired(), format!("token: {error}")))?;
    if user.is_some_and(|user| *user != claims.user) {
        return Err((false, "token: it is of another user".into()));
    }
    let at = claims.exp.saturating_mul(1000);
    let tick = gateway.now().saturating_add(at.saturating_sub(now_millis()));
    Ok((claims.user, Expiry { tick, at }))
}
