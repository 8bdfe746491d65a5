//! What a role wants done, as CQL. What gets no answer is repeated, the same thing again, until the epoch ends: a
//! time-out says nothing about what happened (R17).

use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join_all};
use scylla::SerializeRow;
use scylla::serialize::{
    SerializationError,
    row::{RowSerializationContext, SerializeRow},
    writers::RowWriter,
};
use tokio::time::timeout;

use super::{
    Inner,
    beside::FoldValues,
    entry::{Caller, Entry},
    gathered::Write,
    pulse::SLOW,
    raiser::{HeadAndMarkValues, HeadValues, Part},
    rooms::{RoomHeadValues, decode_made},
};
use crate::{
    model::{Cid, Row, Seq, UserId},
    store::{
        StoreError, StoreResult, audience_of,
        fence::{Effect, Event, Look, Placed, Raise},
        scylla::{
            BUCKET, MAX_IN,
            beside::decode_refs,
            bucket_of,
            options::Step,
            pages::to_row,
            retry::{AFTER_ERROR, Backoff},
            rows::{self, CqlError},
            shutting_down, signed, unsigned,
        },
        slots::Incarnation,
    },
};

/// What came of an effect.
pub(super) enum Done {
    Event(Event),
    /// This incarnation may write no more.
    Fenced(u64),
    /// A test wants the node to die here.
    Stopped,
}

/// A message row, in the order of its statements.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub(super) struct MessageValues<'a> {
    pub(super) conv: &'a str,
    pub(super) bucket: i64,
    pub(super) seq: i64,
    pub(super) kind: i8,
    pub(super) sender: &'a str,
    pub(super) service: bool,
    pub(super) cid: &'a str,
    pub(super) ts: i64,
    pub(super) body: &'a [u8],
    pub(super) first: i64,
    pub(super) second: i64,
    pub(super) refs: &'a [u8],
    pub(super) w: i64,
    pub(super) pw: i64,
}

/// The same with the timestamp.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub(super) struct DirectMessageValues<'a> {
    #[scylla(flatten)]
    pub(super) message: MessageValues<'a>,
    pub(super) epoch: i64,
}

/// The same of a room, with the last event below it and what it made, if it is one.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub(super) struct RoomMessageValues<'a> {
    #[scylla(flatten)]
    pub(super) message: MessageValues<'a>,
    pub(super) event: i64,
    pub(super) made: &'a [u8],
    pub(super) epoch: i64,
}

/// The values of the kinds of statement in a batch.
pub(super) enum Values<'a> {
    Message(DirectMessageValues<'a>),
    Cid((&'a str, i64, &'a str, i64, i64)),
    Head(HeadValues<'a>),
    HeadAndMark(HeadAndMarkValues<'a>),
    Mark((&'a str, &'a str, i64, i64, i64, i64)),
    Stamp((i64, &'a str, i64, &'a str)),
    Cursor((&'a str, &'a str, i64, &'a str, i64, i64)),
    Delivered((&'a str, &'a str, i64, i64)),
    RoomMessage(RoomMessageValues<'a>),
    RoomHead(RoomHeadValues<'a>),
    RoomState((&'a str, &'a [u8], i64)),
    Member((&'a str, &'a str, &'a [u8], i64)),
    InRooms((&'a str,)),
    Fold(FoldValues<'a>),
    Mention((&'a str, &'a str, i64, i64, i64)),
    Expiring((&'a str, i64, i64, &'a str, i64)),
    Note((&'a str, &'a str, i64, i64)),
    NoteRoom((&'a str, i64, i64)),
}

impl SerializeRow for Values<'_> {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        match self {
            Self::Message(values) => values.serialize(ctx, writer),
            Self::Cid(values) => values.serialize(ctx, writer),
            Self::Head(values) => values.serialize(ctx, writer),
            Self::HeadAndMark(values) => values.serialize(ctx, writer),
            Self::Mark(values) => values.serialize(ctx, writer),
            Self::Stamp(values) => values.serialize(ctx, writer),
            Self::Cursor(values) => values.serialize(ctx, writer),
            Self::Delivered(values) => values.serialize(ctx, writer),
            Self::RoomMessage(values) => values.serialize(ctx, writer),
            Self::RoomHead(values) => values.serialize(ctx, writer),
            Self::RoomState(values) => values.serialize(ctx, writer),
            Self::Member(values) => values.serialize(ctx, writer),
            Self::InRooms(values) => values.serialize(ctx, writer),
            Self::Fold(values) => values.serialize(ctx, writer),
            Self::Mention(values) => values.serialize(ctx, writer),
            Self::Expiring(values) => values.serialize(ctx, writer),
            Self::Note(values) => values.serialize(ctx, writer),
            Self::NoteRoom(values) => values.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// A row with what chains it: the columns of a message row, `w`, `pw`, and in a room the last event below it and what it made.
type Chained =
    (i64, i8, String, bool, String, i64, Vec<u8>, i64, i64, Option<Vec<u8>>, i64, i64, Option<i64>, Option<Vec<u8>>);

/// The `cid_key` of a message's cid row. A sender's name has no '/'.
pub(in super::super) fn key_of(sender: &str, cid: &str) -> String {
    format!("{sender}/{cid}")
}

impl Inner {
    pub(super) fn carry_out(self: &Arc<Self>, entry: &Arc<Entry>, effect: Effect<Caller>) -> BoxFuture<'static, Done> {
        let (inner, entry) = (self.clone(), entry.clone());
        Box::pin(async move {
            let (mut backoff, mut again) = (Backoff::new(), false);
            loop {
                match inner.watched(inner.try_once(&entry, &effect, again)).await {
                    Ok(done) => return done,
                    Err(error) => {
                        again = true;
                        tracing::debug!(conv = %entry.conv, %error, "append: trying again");
                        backoff.wait(AFTER_ERROR).await;
                    }
                }
            }
        })
    }

    /// Notes whether the store answers.
    pub(super) async fn watched<T>(&self, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(SLOW, &mut work).await {
                Ok(Ok(done)) => {
                    self.homes.pulse.on_answer();
                    return Ok(done);
                }
                Ok(Err(error)) => {
                    self.homes.pulse.on_stall();
                    return Err(error);
                }
                Err(_) => self.homes.pulse.on_stall(),
            }
        }
    }

    async fn try_once(self: &Arc<Self>, entry: &Arc<Entry>, effect: &Effect<Caller>, again: bool) -> StoreResult<Done> {
        if let Some(done) = self.try_of_room(entry, effect, again).await? {
            return Ok(done);
        }
        Ok(Done::Event(match effect {
            Effect::ReadHeads => Event::Heads(self.read_heads(&entry.conv).await?),
            Effect::ReadRows { from } => self.rows_from(entry, *from).await?,
            Effect::ReadCids { upto, down_to } => self.cids_below(entry, *upto, *down_to).await?,
            Effect::Write(rows) => {
                self.write(Write::rows(entry, rows)?, again).await?;
                let adopted = rows.iter().any(|placed| placed.w != entry.epoch);
                if self.stop_after == Some(Step::Written) || (adopted && self.stop_after == Some(Step::Adopted)) {
                    return Ok(Done::Stopped);
                }
                Event::Written
            }
            Effect::Validate => {
                let done = self.validate().await?;
                let stops = self.stop_after == Some(Step::Validated) && matches!(done, Done::Event(_));
                return Ok(if stops { Done::Stopped } else { done });
            }
            Effect::Raise(raise) => {
                if let Some(fenced) = self.raise(entry, raise).await? {
                    return Ok(fenced);
                }
                if self.stop_after == Some(Step::FirstHead) {
                    return Ok(Done::Stopped);
                }
                Event::Raised
            }
            Effect::Look { asked, top } => Event::Looked(self.look(entry, asked, *top).await?),
            Effect::Apply(applied) => return self.apply(entry, applied, again).await,
            Effect::ReadRoom | Effect::ReadEvents { .. } | Effect::ReadMembers(_) => {
                return Err(StoreError::unavailable("a direct conversation is no room"));
            }
            Effect::Answer(..) | Effect::Mended(..) => return Err(StoreError::unavailable("an answer is no work")),
        }))
    }

    /// The rows from `from` on, over the edge of a bucket too.
    async fn rows_from(&self, entry: &Entry, from: Seq) -> StoreResult<Event> {
        let most = self.homes.limits.page;
        let mut found: Vec<Placed> = Vec::new();
        loop {
            let next = from + found.len() as Seq;
            let left = i32::try_from(most - found.len()).unwrap_or(i32::MAX);
            let values = (entry.conv.as_str(), signed(bucket_of(next)), signed(next), left);
            let answer = self.ask(&self.cql.placed_from, values).await?;
            let rows = rows::all::<Chained>(answer)?;
            let before = found.len();
            for (seq, kind, sender, service, cid, ts, body, first, second, refs, w, pw, event, made) in rows {
                if unsigned(seq) != from + found.len() as Seq {
                    return Ok(Event::Rows { rows: found, more: false });
                }
                let told = decode_refs(refs.as_deref())?.map(|(_, told)| told).unwrap_or_default();
                let row = to_row((seq, kind, sender, service, cid, ts, body, first, second, refs))?;
                let made = decode_made(&made.unwrap_or_default())?.map(Box::new);
                let event = event.map_or(0, unsigned);
                found.push(Placed { row, w: unsigned(w), pw: unsigned(pw), event, made, told });
            }
            let reached = from + found.len() as Seq - 1;
            if found.len() == most {
                return Ok(Event::Rows { rows: found, more: true });
            }
            if found.len() == before || !reached.is_multiple_of(BUCKET) {
                return Ok(Event::Rows { rows: found, more: false });
            }
        }
    }

    async fn cids_below(&self, entry: &Entry, upto: Seq, down_to: Seq) -> StoreResult<Event> {
        let most = self.homes.limits.cids;
        let mut found: Vec<(Seq, UserId, Cid)> = Vec::new();
        let mut next = upto;
        while next >= down_to && found.len() < most {
            let left = i32::try_from(most - found.len()).unwrap_or(i32::MAX);
            let values = (entry.conv.as_str(), signed(bucket_of(next)), signed(next), left);
            let rows = rows::all::<(i64, String, String)>(self.ask(&self.cql.cids_until, values).await?)?;
            for (seq, sender, cid) in rows {
                let sender = UserId::new(&sender).map_err(CqlError::new)?;
                let cid = Cid::new(&cid).map_err(CqlError::new)?;
                found.push((unsigned(seq), sender, cid));
            }
            // What a bucket does not show is lost, and a lost row's cid with it.
            next = bucket_of(next) * BUCKET;
            if next == 0 {
                break;
            }
        }
        let from = if found.len() < most { down_to } else { found.last().map_or(down_to, |(seq, ..)| *seq) };
        Ok(Event::Cids { found, from })
    }

    /// One read for all that were acknowledged before it is sent (F5): who comes while one is under way shares the next.
    async fn validate(self: &Arc<Self>) -> StoreResult<Done> {
        let me = self.homes.me()?;
        let alive = self.is_valid(&me).await?;
        Ok(if alive { Done::Event(Event::Validated) } else { Done::Fenced(me.number) })
    }

    /// Whether the incarnation was alive after this call.
    pub(super) async fn is_valid(self: &Arc<Self>, me: &Incarnation) -> StoreResult<bool> {
        let (inner, asked) = (self.clone(), me.clone());
        let query = move || -> BoxFuture<'static, StoreResult<bool>> {
            let (inner, me) = (inner.clone(), asked.clone());
            Box::pin(async move { Ok(inner.is_alive(&me).await?) })
        };
        self.homes.validations.share(me.number, query).await.unwrap_or_else(shutting_down)
    }

    /// Both users' inbox rows at once, but not that of a service which wrote it all: head and mark of one user are one
    /// partition.
    ///
    /// Whoever was fenced long ago answers nothing after it: its stamp may have been removed meanwhile, and then nobody
    /// would look at what was raised (see [`super::super::old_stamps`]).
    async fn raise(self: &Arc<Self>, entry: &Entry, raise: &Raise) -> StoreResult<Option<Done>> {
        let me = self.homes.me()?;
        let head = Arc::new(raise.clone());
        let audience = audience_of(&entry.conv)?;
        let users = audience.users().filter(|user| raise.spared.as_ref() != Some(*user));
        let most = if self.stop_after == Some(Step::FirstHead) { 1 } else { usize::MAX };
        let raising = users.take(most).map(|user| {
            let mark = raise.marks.iter().find(|(marked, _)| marked == user).map(|(_, mark)| *mark).unwrap_or_default();
            self.raise_row(user, &entry.conv, Part { head: Some(head.clone()), mark })
        });
        try_join_all(raising).await.map_err(|_| StoreError::unavailable("the raise of a head was given up"))?;
        if !self.homes.lives.is_valid_within(&me, self.gone_after / 6) && !self.is_valid(&me).await? {
            return Ok(Some(Done::Fenced(me.number)));
        }
        self.know(&entry.conv, raise.upto, Some(raise.counts));
        Ok(None)
    }

    /// A cid row alone says nothing: a write that never became part of the log may have left it. The row it names
    /// decides.
    async fn look(&self, entry: &Entry, asked: &[Look], top: Seq) -> StoreResult<Vec<Option<Row>>> {
        let mut places: Vec<Vec<Seq>> = asked.iter().map(|look| look.at.into_iter().collect()).collect();
        let unknown: Vec<usize> = (0..asked.len()).filter(|n| asked[*n].at.is_none()).collect();
        let bucket = bucket_of(top + 1);
        for some in unknown.chunks(MAX_IN) {
            let keys: Vec<String> =
                some.iter().map(|n| key_of(asked[*n].sender.as_str(), asked[*n].cid.as_str())).collect();
            for bucket in [Some(bucket), bucket.checked_sub(1)].into_iter().flatten() {
                let found = self.ask(&self.cql.cids, (entry.conv.as_str(), signed(bucket), &keys)).await?;
                for (key, at) in rows::all::<(String, i64)>(found)? {
                    if let Some(n) = keys.iter().position(|asked| *asked == key) {
                        places[some[n]].push(unsigned(at));
                    }
                }
            }
        }
        let rows = asked.iter().zip(places).map(|(look, places)| self.stored_at(entry, look, places, top));
        try_join_all(rows).await
    }

    async fn stored_at(&self, entry: &Entry, look: &Look, places: Vec<Seq>, top: Seq) -> StoreResult<Option<Row>> {
        for at in places.into_iter().filter(|at| *at <= top) {
            let row = self.row_at(&entry.conv, at).await?;
            if let Some(row) = row.filter(|row| row.sender == look.sender && row.cid == look.cid) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}
