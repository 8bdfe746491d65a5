//! Whole inbox rows: what a list shows of a conversation without reading its log. Called through
//! [`Inbox`](crate::store::Inbox) and [`Marks`](crate::store::Marks); `homes::raiser` writes the heads.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Inner,
    pages::{to_body, to_counts, to_kind},
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{Body, Cid, ConvId, Folded, ReadMark, Seq, UserId},
    store::{InboxDetail, Preview, StoreResult, UserMarks},
};

/// The largest body, in MessagePack, that stands in its users' inbox rows as well as in its log.
const PREVIEW_BYTES: usize = 1 << 10;
/// ScyllaDB takes at most 100 keys in an IN.
const MAX_IN: usize = 64;
/// Rows of large bodies read at the same time.
const AT_ONCE: usize = 8;

/// What stands in the inbox of a body: nothing, never null, of a large one. No body is empty.
pub(super) fn preview_of(body: &Body) -> &[u8] {
    let bytes = body.as_msgpack().as_ref();
    if bytes.len() <= PREVIEW_BYTES { bytes } else { &[] }
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
);

/// A detail, and whether its message must be read from the log.
fn to_detail(columns: Columns) -> Result<Option<(InboxDetail, bool)>, CqlError> {
    let (conv, head, ts, sender, cid, kind, preview, first, second, read, read_first, read_second) = columns;
    let Some(head) = head.map(unsigned).filter(|head| *head > 0) else { return Ok(None) };
    let (number, text) =
        (|column: Option<i64>| column.unwrap_or(0), |column: Option<String>| column.unwrap_or_default());
    let (sender, cid, preview) = (text(sender), text(cid), preview.unwrap_or_default());
    // Without a sender the message is lost; without a body it is large.
    let is_large = !sender.is_empty() && preview.is_empty();
    let last = if sender.is_empty() || is_large {
        None
    } else {
        Some(Preview {
            seq: head,
            ts: unsigned(number(ts)),
            kind: to_kind(kind.unwrap_or(0))?,
            sender: UserId::new(&sender).map_err(CqlError::new)?,
            cid: Cid::new(&cid).map_err(CqlError::new)?,
            body: to_body(preview),
            refs: None,
            folded: Folded::default(),
        })
    };
    let detail = InboxDetail {
        conv: ConvId::new(&conv).map_err(CqlError::new)?,
        head,
        ts: unsigned(number(ts)),
        last,
        counts: to_counts(number(first), number(second)),
        read: ReadMark { seq: unsigned(number(read)), counts: to_counts(number(read_first), number(read_second)) },
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
            let row = self.row_at(&detail.conv, detail.head).await?;
            Ok::<_, CqlError>(InboxDetail { last: row.map(Preview::from), ..detail })
        });
        let mut found: Vec<InboxDetail> = stream::iter(whole).buffered(AT_ONCE).try_collect().await?;
        let place = |detail: &InboxDetail| convs.iter().position(|conv| *conv == detail.conv);
        found.sort_by_cached_key(place);
        Ok(found)
    }

    /// How far a user's devices and the user have come: one row.
    pub(super) async fn marks_of(&self, user: &UserId, conv: &ConvId) -> StoreResult<UserMarks> {
        let asked = self.ask(&self.cql.marks, (user.as_str(), conv.as_str())).await?;
        let (delivered, read) = rows::first::<(Option<i64>, Option<i64>)>(asked)?.unwrap_or_default();
        Ok(UserMarks { delivered: delivered.map_or(0, unsigned), read: read.map_or(0, unsigned) })
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
