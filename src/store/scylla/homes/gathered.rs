//! Writes of the homes and of cursors, each to one partition: a few requests are under way at once, and what comes
//! meanwhile goes together with the next, whatever conversations and users it belongs to. A server pays for each request and
//! each wait for its disk, hardly for what is in it, so that under load a message costs a fraction of what it costs alone;
//! without load nothing waits. Called by `io`, `raiser` and `registers`.
//!
//! An unlogged batch is as many mutations as it has partitions, each atomic: nothing is promised between them, and nothing
//! is needed. A request that fails is repeated by each of its writers alone, so that one partition that cannot be written
//! holds the others up once.

use std::{collections::VecDeque, sync::Arc};

use compact_str::CompactString;
use futures_util::future::try_join;
use parking_lot::Mutex;
use scylla::statement::batch::{Batch, BatchType};
use tokio::sync::oneshot;

use super::{
    Inner,
    beside::Beside,
    entry::Entry,
    io::{DirectMessageValues, MessageValues, RoomMessageValues, Values, key_of},
    raiser::{Raise, head_values},
    rooms::{RoomRaise, encode_made},
};
use crate::{
    model::{ConvId, Device, ReadMark, RoomId, Seq, UserId},
    store::{
        StoreError, StoreResult,
        fence::Placed,
        scylla::{beside::encode_refs, bucket_of, rows::CqlError, signed, statements::Statements},
    },
};

/// Writes of one request: Cassandra warns of more than ten partitions.
const WRITES: usize = 10;
/// Their bytes: Cassandra warns above 5 KiB where there are several, and refuses 50.
const BYTES: usize = 5_000;
/// What the server counts for a message and its cid row besides the body, about; for a head besides its preview; and for a
/// register.
pub(super) const ROW: usize = 400;
pub(super) const HEAD: usize = 300;
pub(super) const REGISTER: usize = 150;

/// What is to be written to one partition, at once or not at all.
pub(super) enum Write {
    /// Rows of a log, with their cid rows.
    Rows {
        entry: Arc<Entry>,
        rows: Arc<[Placed]>,
        /// The `cid_key` of each.
        keys: Vec<String>,
        /// What each refers to.
        refs: Vec<Vec<u8>>,
        /// In a room, what each made of it.
        made: Vec<Vec<u8>>,
    },
    /// Rows of an inbox, with their stamp.
    Raise(Arc<Raise>),
    /// The stamp that says that all raises up to it are settled.
    Settle { user: UserId, life: CompactString, number: u64 },
    /// How far a device has acknowledged a conversation.
    Cursor { device: Device, conv: ConvId, seq: Seq },
    /// How far the furthest of a user's devices has.
    Delivered { user: UserId, conv: ConvId, seq: Seq },
    /// A room, and its head.
    Room(Box<RoomRaise>),
    /// How far a user has read a room.
    Mark { user: UserId, conv: ConvId, mark: ReadMark },
    /// How a user stands to a room, encoded, as of the event at `at`: for the room.
    Member { room: RoomId, user: UserId, member: Vec<u8>, at: i64 },
    /// The same for the user.
    RoomOf { user: UserId, conv: ConvId, member: Vec<u8>, at: i64 },
    /// What stands beside a log.
    Beside(Box<Beside>),
}

impl Write {
    pub(super) fn rows(entry: &Arc<Entry>, rows: &Arc<[Placed]>) -> StoreResult<Self> {
        let keys = rows.iter().map(|placed| key_of(placed.row.sender.as_str(), placed.row.cid.as_str())).collect();
        let made =
            if entry.conv.is_room() { rows.iter().map(encode_made).collect::<Result<_, _>>()? } else { Vec::new() };
        let refs = rows.iter().map(|placed| encode_refs(placed.row.refs.as_deref(), placed.told));
        let refs = refs.collect::<Result<_, _>>()?;
        Ok(Self::Rows { entry: entry.clone(), rows: rows.clone(), keys, refs, made })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Rows { rows, refs, made, .. } => {
                let bodies: usize = rows.iter().map(|placed| placed.row.body.size() + ROW).sum();
                bodies + refs.iter().chain(made).map(Vec::len).sum::<usize>()
            }
            Self::Beside(beside) => beside.bytes(),
            Self::Raise(raise) => {
                REGISTER + raise.parts.values().map(|part| part.preview().len() + HEAD).sum::<usize>()
            }
            Self::Room(raise) => HEAD + raise.size(),
            Self::Settle { .. }
            | Self::Cursor { .. }
            | Self::Delivered { .. }
            | Self::Mark { .. }
            | Self::Member { .. }
            | Self::RoomOf { .. } => REGISTER,
        }
    }

    fn add<'a>(&'a self, cql: &Statements, batch: &mut Batch, values: &mut Vec<Values<'a>>) {
        match self {
            Self::Rows { entry, rows, keys, refs, made } => {
                add_rows(cql, batch, values, entry, rows, Encoded { keys, refs, made });
            }
            Self::Beside(beside) => beside.add(cql, batch, values),
            Self::Raise(raise) => add_raise(cql, batch, values, raise),
            Self::Settle { user, life, number } => {
                let stamp = signed(number * 2);
                batch.append_statement(cql.stamp.clone());
                values.push(Values::Stamp((stamp, life, stamp, user.as_str())));
            }
            Self::Cursor { device, conv, seq } => {
                let (user, name, life, seq) =
                    (device.user.as_str(), device.device.as_str(), signed(device.life), signed(*seq));
                batch.append_statement(cql.raise_cursor.clone());
                values.push(Values::Cursor((user, name, life, conv.as_str(), seq, seq)));
            }
            Self::Delivered { user, conv, seq } => {
                batch.append_statement(cql.raise_delivered.clone());
                values.push(Values::Delivered((user.as_str(), conv.as_str(), signed(*seq), signed(*seq))));
            }
            Self::Room(raise) => {
                batch.append_statement(cql.raise_room.clone());
                values.push(Values::RoomHead(raise.head()));
                if let Some(state) = raise.state() {
                    batch.append_statement(cql.room_state.clone());
                    values.push(Values::RoomState(state));
                }
            }
            Self::Mark { user, conv, mark: ReadMark { seq, counts } } => {
                let (read, first, second) = (signed(*seq), signed(counts.first), signed(counts.second));
                batch.append_statement(cql.raise_read_mark.clone());
                values.push(Values::Mark((user.as_str(), conv.as_str(), read, first, second, read)));
            }
            Self::Member { room, user, member, at } => {
                batch.append_statement(cql.write_member.clone());
                values.push(Values::Member((room.as_str(), user.as_str(), member, *at)));
            }
            Self::RoomOf { user, conv, member, at } => {
                batch.append_statement(cql.write_room_of.clone());
                values.push(Values::Member((user.as_str(), conv.as_str(), member, *at)));
                batch.append_statement(cql.in_rooms.clone());
                values.push(Values::InRooms((user.as_str(),)));
            }
        }
    }
}

fn add_rows<'a>(
    cql: &Statements,
    batch: &mut Batch,
    values: &mut Vec<Values<'a>>,
    entry: &'a Entry,
    rows: &'a [Placed],
    Encoded { keys, refs, made }: Encoded<'a>,
) {
    let (conv, epoch) = (entry.conv.as_str(), signed(entry.epoch));
    for (n, (Placed { row, w, pw, event, .. }, (key, refs))) in rows.iter().zip(keys.iter().zip(refs)).enumerate() {
        let (bucket, seq) = (signed(bucket_of(row.seq)), signed(row.seq));
        let message = MessageValues {
            conv,
            bucket,
            seq,
            kind: row.kind.byte().cast_signed(),
            sender: row.sender.as_str(),
            service: row.service,
            cid: row.cid.as_str(),
            ts: signed(row.ts),
            body: row.body.as_msgpack().as_ref(),
            first: signed(row.counts.first),
            second: signed(row.counts.second),
            refs,
            w: signed(*w),
            pw: signed(*pw),
        };
        if let Some(made) = made.get(n) {
            batch.append_statement(cql.write_room_message.clone());
            values.push(Values::RoomMessage(RoomMessageValues { message, event: signed(*event), made, epoch }));
        } else {
            batch.append_statement(cql.write_message.clone());
            values.push(Values::Message(DirectMessageValues { message, epoch }));
        }
        batch.append_statement(cql.write_cid.clone());
        values.push(Values::Cid((conv, bucket, key, seq, epoch)));
    }
}

/// What was encoded of rows, one of each for each row; `made` in rooms only.
struct Encoded<'a> {
    keys: &'a [String],
    refs: &'a [Vec<u8>],
    made: &'a [Vec<u8>],
}

fn add_raise<'a>(cql: &Statements, batch: &mut Batch, values: &mut Vec<Values<'a>>, raise: &'a Raise) {
    let name = raise.user.as_str();
    for (conv, part) in &raise.parts {
        let (conv, ReadMark { seq: read, counts }) = (conv.as_str(), part.mark);
        let (read_at, first, second) = (signed(read), signed(counts.first), signed(counts.second));
        let head = part.head.as_ref().filter(|raise| raise.upto > 0).map(|raise| head_values(name, conv, raise));
        match head {
            // One's own message, mostly: one statement for both.
            Some((user, conv, head, ts, sender, cid, kind, preview, f, s, at)) if read == part.upto() => {
                batch.append_statement(cql.raise_head_and_mark.clone());
                let both = (user, conv, head, ts, sender, cid, kind, preview, f, s, read_at, first, second, at);
                values.push(Values::HeadAndMark(both));
                continue;
            }
            Some(head) => {
                batch.append_statement(cql.raise_head.clone());
                values.push(Values::Head(head));
            }
            None => {}
        }
        if read > 0 {
            batch.append_statement(cql.raise_read_mark.clone());
            values.push(Values::Mark((name, conv, read_at, first, second, read_at)));
        }
    }
    let stamp = signed(raise.number * 2 - 1);
    batch.append_statement(cql.stamp.clone());
    values.push(Values::Stamp((stamp, &raise.life, stamp, name)));
}

struct Waiting {
    write: Write,
    done: oneshot::Sender<StoreResult<()>>,
}

/// The writes that wait, and how many requests are under way.
pub(super) struct Gathering {
    gathered: Mutex<Gathered>,
    at_once: usize,
}

#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

impl Gathering {
    /// For `at_once` requests under way before what comes next gathers.
    pub(super) fn new(at_once: usize) -> Self {
        Self { gathered: Mutex::default(), at_once }
    }

    /// What goes with the next request. With `None` the turn of the one that asks is over: both at once, or what comes in
    /// between would wait for nobody.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut gathered = self.gathered.lock();
        let (mut count, mut bytes) = (0, 0);
        for waiting in &gathered.waiting {
            bytes += waiting.write.bytes();
            if count > 0 && (count == WRITES || bytes > BYTES) {
                break;
            }
            count += 1;
        }
        if count == 0 {
            gathered.under_way -= 1;
            return None;
        }
        Some(gathered.waiting.drain(..count).collect())
    }
}

impl Inner {
    /// Writes to one partition; gathered with others, unless it was tried before.
    pub(super) async fn write(self: &Arc<Self>, write: Write, again: bool) -> StoreResult<()> {
        if again {
            return self.send_all(&[&write]).await;
        }
        let (done, written) = oneshot::channel();
        let begins = {
            let gathering = &self.homes.gathering;
            let mut gathered = gathering.gathered.lock();
            gathered.waiting.push_back(Waiting { write, done });
            let begins = gathered.under_way < gathering.at_once;
            gathered.under_way += usize::from(begins);
            begins
        };
        if begins {
            tokio::spawn(send_what_waits(self.clone()));
        }
        // Dropped by a panic: the writer tries again, alone.
        written.await.unwrap_or_else(|_| Err(StoreError::unavailable("the request was given up")))
    }

    /// Raises a device's cursor, and beside it how far the furthest of the user's devices is: together with other writes, for
    /// every session writes some each second.
    pub(in crate::store::scylla) async fn write_cursor(
        self: &Arc<Self>,
        device: &Device,
        conv: &ConvId,
        seq: Seq,
    ) -> StoreResult<()> {
        let raise = async |again: bool| {
            let cursor = Write::Cursor { device: device.clone(), conv: conv.clone(), seq };
            let delivered = Write::Delivered { user: device.user.clone(), conv: conv.clone(), seq };
            try_join(self.write(cursor, again), self.write(delivered, again)).await
        };
        if raise(false).await.is_err() {
            raise(true).await?;
        }
        Ok(())
    }

    async fn send_all(&self, writes: &[&Write]) -> StoreResult<()> {
        let (mut batch, mut values) = (Batch::new(BatchType::Unlogged), Vec::new());
        batch.set_is_idempotent(true);
        writes.iter().for_each(|write| write.add(&self.cql, &mut batch, &mut values));
        self.session.batch(&batch, values).await.map_err(CqlError::new)?;
        Ok(())
    }
}

async fn send_what_waits(inner: Arc<Inner>) {
    let guard = EndOnPanic(&inner.homes.gathering);
    while let Some(some) = inner.homes.gathering.next() {
        let result = {
            let writes: Vec<&Write> = some.iter().map(|waiting| &waiting.write).collect();
            inner.send_all(&writes).await
        };
        for waiting in some {
            let _ = waiting.done.send(result.clone());
        }
    }
    std::mem::forget(guard);
}

/// What waits is not left behind: its writers try again, each alone.
struct EndOnPanic<'a>(&'a Gathering);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        let mut gathered = self.0.gathered.lock();
        gathered.under_way -= 1;
        gathered.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(gathering: &Gathering, count: usize) {
        let mut gathered = gathering.gathered.lock();
        for number in 0..count as u64 {
            let write = Write::Settle { user: UserId::new("alice").unwrap(), life: "n1:1".into(), number };
            gathered.waiting.push_back(Waiting { write, done: oneshot::channel().0 });
        }
        gathered.under_way = 1;
    }

    #[test]
    fn a_request_takes_so_many_writes_in_their_order() {
        let gathering = Gathering::new(4);
        waiting(&gathering, 2 * WRITES + 3);
        let taken: Vec<Vec<u64>> = std::iter::from_fn(|| gathering.next())
            .map(|some| {
                let number = |waiting: &Waiting| match waiting.write {
                    Write::Settle { number, .. } => number,
                    _ => unreachable!(),
                };
                some.iter().map(number).collect()
            })
            .collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [WRITES, WRITES, 3]);
        assert!(taken.concat().is_sorted());
        assert_eq!(gathering.gathered.lock().under_way, 0, "whoever finds nothing is over");
    }
}
