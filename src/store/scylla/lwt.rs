//! The one conditional write of the store: message rows and their cid rows, all or nothing. Used by the append.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use scylla::{
    response::query_result::QueryRowsResult,
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::batch::{Batch, BatchType},
    value::{CqlValue, Row as CqlRow},
};
use tokio::time::timeout;

use super::{
    Inner, bucket_of,
    rotated::Rotated,
    rows::{self, CqlError},
    signed, unsigned,
    work::Work,
};
use crate::model::{ConvId, Seq};

/// What the database said to a conditional batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All rows were inserted.
    Applied,
    /// None was. These messages of the batch, as key of the cid row and seq, are stored already; perhaps others too.
    Refused(Vec<(String, Seq)>),
}

/// The values of the two kinds of statement in a batch.
enum Values<'a> {
    Message((&'a str, i64, i64, &'a str, &'a str, i64, &'a [u8])),
    Cid((&'a str, i64, &'a str, i64)),
}

impl SerializeRow for Values<'_> {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        match self {
            Self::Message(values) => values.serialize(ctx, writer),
            Self::Cid(values) => values.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// How long the first try runs alone. Then the next replica is asked too, while the first may still answer.
const ALONE: Duration = Duration::from_millis(700);
/// Tries in flight at once. More would only compete with each other for the row.
const TRIES: usize = 3;

impl Inner {
    /// Inserts the messages `items` of `work` at `first` and after it, in one bucket. An error says nothing about
    /// what happened, nor about what may still happen (R17).
    ///
    /// The driver must not send such a batch twice by itself, but here it is safe: every try has the same rows at
    /// the same seq, so at most one is applied, and the others find its cids.
    pub(super) async fn insert(
        &self,
        conv: &ConvId,
        first: Seq,
        work: &Work,
        items: &[usize],
    ) -> Result<Outcome, CqlError> {
        let mut tries = FuturesUnordered::new();
        tries.push(self.insert_once(conv, first, work, items));
        loop {
            match timeout(ALONE, tries.next()).await {
                Ok(Some(Ok(outcome))) => return Ok(outcome),
                Ok(Some(Err(e))) if tries.is_empty() => return Err(e),
                Ok(Some(Err(_))) => {}
                Ok(None) => return Err(CqlError::new("no try is left")),
                Err(_) if tries.len() < TRIES => {
                    self.known.update(conv, |known| known.skip += 1);
                    tries.push(self.insert_once(conv, first, work, items));
                }
                Err(_) => {}
            }
        }
    }

    async fn insert_once(&self, conv: &ConvId, first: Seq, work: &Work, items: &[usize]) -> Result<Outcome, CqlError> {
        let bucket = signed(bucket_of(first));
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_execution_profile_handle(Some(self.lwt.clone()));
        let skip = self.known.get(conv).skip;
        batch.set_load_balancing_policy(Some(Arc::new(Rotated { plan: self.replicas.clone(), skip })));
        let mut values = Vec::with_capacity(items.len() * 2);
        for (seq, item) in (first..).zip(items) {
            let message = work.message(*item);
            let (sender, cid) = (message.sender.as_str(), message.cid.as_str());
            let body = message.body.as_msgpack().as_ref();
            let seq = signed(seq);
            batch.append_statement(self.cql.insert_message.clone());
            values.push(Values::Message((conv.as_str(), bucket, seq, sender, cid, signed(message.ts), body)));
            batch.append_statement(self.cql.insert_cid.clone());
            values.push(Values::Cid((conv.as_str(), bucket, work.key(*item), seq)));
        }
        let result = self.session.batch(&batch, values).await.map_err(|e| {
            // The next try goes elsewhere, unless a later one has moved on already.
            self.known.update(conv, |known| known.skip = known.skip.max(skip + 1));
            CqlError::new(e)
        })?;
        outcome(&rows::rows_of(result)?)
    }
}

/// Whether a conditional statement was applied. This column is in every answer; the others are not: Cassandra
/// returns them only for rows that existed already, ScyllaDB always.
pub(super) fn applied(result: &QueryRowsResult) -> Result<bool, CqlError> {
    let mut row = result.first_row::<CqlRow>().map_err(CqlError::new)?;
    match column(&names(result), &mut row, "[applied]") {
        Some(CqlValue::Boolean(applied)) => Ok(applied),
        _ => Err(CqlError::new("the answer to a conditional statement has no [applied]")),
    }
}

fn outcome(result: &QueryRowsResult) -> Result<Outcome, CqlError> {
    if applied(result)? {
        return Ok(Outcome::Applied);
    }
    let names = names(result);
    let mut stored = Vec::new();
    for row in result.rows::<CqlRow>().map_err(CqlError::new)? {
        stored.extend(stored_cid(&names, row.map_err(CqlError::new)?));
    }
    Ok(Outcome::Refused(stored))
}

fn names(result: &QueryRowsResult) -> Vec<String> {
    result.column_specs().iter().map(|spec| spec.name().to_owned()).collect()
}

/// `None` for a message row, and for a row of nulls, which ScyllaDB returns where nothing was stored.
fn stored_cid(names: &[String], mut row: CqlRow) -> Option<(String, Seq)> {
    let key = column(names, &mut row, "cid_key")?.into_string()?;
    let seq = column(names, &mut row, "message_seq")?.as_bigint()?;
    Some((key, unsigned(seq)))
}

fn column(names: &[String], row: &mut CqlRow, name: &str) -> Option<CqlValue> {
    let place = names.iter().position(|n| n == name)?;
    row.columns.get_mut(place)?.take()
}
