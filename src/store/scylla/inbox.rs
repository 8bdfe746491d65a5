//! Whole inbox rows: what a list shows of a conversation, mostly without reading its log. Called through
//! [`Inbox`](crate::store::Inbox) and [`Marks`](crate::store::Marks); `homes::raiser` writes the heads.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Inner, MAX_IN,
    pages::{to_body, to_counts, to_kind},
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{Cid, ConvId, Folded, Kind, ReadMark, Row, Seq, UserId},
    store::{InboxDetail, Preview, StoreError, StoreResult, UserMarks},
};

/// The largest body, in MessagePack, that stands in its users' inbox rows as well as in its log.
const PREVIEW_BYTES: usize = 1 << 10;
/// Rows of large bodies read at the same time.
pub(super) const AT_ONCE: usize = 8;

/// Rows below a head that are looked at for a message, and how many of them at once.
const BELOW_HEAD: Seq = 256;
const PAGE: usize = 32;

/// What stands in the inbox of the row at a head: nothing, never null, where its body is large, where it is not what a list
/// shows, or where it refers to anything, which may mean that it expires. No body is empty.
pub(super) fn preview_of(row: &Row) -> &[u8] {
    let bytes = row.body.as_msgpack().as_ref();
    if bytes.len() <= PREVIEW_BYTES && is_shown(row.kind) && row.refs.is_none() { bytes } else { &[] }
}

/// Whether a list shows rows of a kind: the others are in the messages that they are about.
fn is_shown(kind: Kind) -> bool {
    matches!(kind, Kind::Message | Kind::Event)
}

/// As the statement `details` selects them; nothing of a head where a mark came first, and the other way round.
type Columns = (
    String,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i8>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// What stands beside a head of the row at it: time, sender, cid, kind, preview.
pub(super) type LastColumns = (Option<i64>, Option<String>, Option<String>, Option<i8>, Option<Vec<u8>>);

/// The row at a head as a list shows it, and whether what is shown must be read from the log instead.
pub(super) fn to_last(seq: Seq, columns: LastColumns) -> Result<(Option<Preview>, bool), CqlError> {
    let (ts, sender, cid, kind, preview) = columns;
    let (sender, preview) = (sender.unwrap_or_default(), preview.unwrap_or_default());
    // Without a sender the row is lost; without a body it is not what is shown, or not whole.
    if sender.is_empty() || preview.is_empty() {
        return Ok((None, !sender.is_empty()));
    }
    let kind = to_kind(kind.unwrap_or(0))?;
    if !is_shown(kind) {
        return Ok((None, true));
    }
    let last = Preview {
        seq,
        ts: unsigned(ts.unwrap_or(0)),
        kind,
        sender: UserId::new(&sender).map_err(CqlError::new)?,
        cid: Cid::new(&cid.unwrap_or_default()).map_err(CqlError::new)?,
        body: to_body(preview),
        refs: None,
        folded: Folded::default(),
    };
    Ok((Some(last), false))
}

/// A detail, and whether its message must be read from the log.
fn to_detail(columns: Columns) -> Result<Option<(InboxDetail, bool)>, CqlError> {
    let (conv, head, ts, sender, cid, kind, preview, first, second, read, read_first, read_second, noted) = columns;
    let Some(head) = head.map(unsigned).filter(|head| *head > 0) else { return Ok(None) };
    let number = |column: Option<i64>| column.unwrap_or(0);
    let (last, is_large) = to_last(head, (ts, sender, cid, kind, preview))?;
    let detail = InboxDetail {
        conv: ConvId::new(&conv).map_err(CqlError::new)?,
        head,
        ts: unsigned(number(ts)),
        last,
        counts: to_counts(number(first), number(second)),
        read: ReadMark { seq: unsigned(number(read)), counts: to_counts(number(read_first), number(read_second)) },
        noted: unsigned(number(noted)),
    };
    Ok(Some((detail, is_large)))
}

impl Inner {
    /// Some of a user's inbox rows, in the order of `convs`.
    pub(super) async fn details(&self, user: &UserId, convs: &[ConvId]) -> StoreResult<Vec<InboxDetail>> {
        let mut found = Vec::with_capacity(convs.len());
        for some in convs.chunks(MAX_IN) {
            let names: Vec<&str> = some.iter().map(ConvId::as_str).collect();
            let answer = self.ask(&self.cql.details, (user.as_str(), names)).await?;
            for columns in rows::all::<Columns>(answer)? {
                found.extend(to_detail(columns)?);
            }
        }
        let whole = found.into_iter().map(|(detail, is_large)| async move {
            if !is_large {
                return Ok(detail);
            }
            let last = self.newest(&detail.conv, detail.head).await?;
            Ok::<_, StoreError>(InboxDetail { last, ..detail })
        });
        let mut found: Vec<InboxDetail> = stream::iter(whole).buffered(AT_ONCE).try_collect().await?;
        let place = |detail: &InboxDetail| convs.iter().position(|conv| *conv == detail.conv);
        found.sort_by_cached_key(place);
        Ok(found)
    }

    /// The last row up to `head` that is a message or an event, as it was folded.
    pub(super) async fn newest(&self, conv: &ConvId, head: Seq) -> StoreResult<Option<Preview>> {
        let mut next = head;
        while next > head.saturating_sub(BELOW_HEAD) {
            // The last one first: it is what is looked for, unless somebody edited or reacted.
            let rows = if next == head { 1 } else { PAGE };
            let page = self.rows_until(conv, next, rows).await?;
            let Some(first) = page.last().map(|row| row.seq) else { break };
            if let Some(row) = page.into_iter().find(|row| is_shown(row.kind)) {
                // Nothing up to the head is about the row at the head.
                let folded = match row.seq == head {
                    true => Folded::default(),
                    false => self.folded(conv, row.seq, row.seq).await?.of.remove(&row.seq).unwrap_or_default(),
                };
                return Ok(Some(Preview { folded, ..Preview::from(row) }));
            }
            next = first - 1;
        }
        Ok(None)
    }

    /// How far a user's devices and the user have come: one row.
    pub(super) async fn marks_of(&self, user: &UserId, conv: &ConvId) -> StoreResult<UserMarks> {
        let asked = self.ask(&self.cql.marks, (user.as_str(), conv.as_str())).await?;
        type Columns = (Option<i64>, Option<i64>, Option<i64>);
        let (delivered, read, noted) = rows::first::<Columns>(asked)?.unwrap_or_default();
        let number = |column: Option<i64>| column.map_or(0, unsigned);
        Ok(UserMarks { delivered: number(delivered), read: number(read), noted: number(noted) })
    }

    /// Nothing is written for 0: no register starts below it.
    pub(super) async fn raise_read_mark(&self, user: &UserId, conv: &ConvId, mark: ReadMark) -> StoreResult<()> {
        let ReadMark { seq, counts } = mark;
        if seq > 0 {
            let (read, first, second) = (signed(seq), signed(counts.first), signed(counts.second));
            let values = (user.as_str(), conv.as_str(), read, first, second, read);
            self.ask(&self.cql.raise_read_mark, values).await?;
        }
        Ok(())
    }

    /// The highest of the cursors that the user's devices have in the conversation.
    pub(super) async fn delivered(&self, user: &UserId, conv: &ConvId) -> StoreResult<Seq> {
        self.register(&self.cql.delivered, (user.as_str(), conv.as_str())).await
    }
}
