//! One commit: what was waiting, given its seqs and gathered into a single batch of the engine. Called by the
//! writer thread, the only place that writes.
//!
//! Whatever is written more than once (a head, a cursor, a read mark) is kept aside here and goes into the batch
//! once, with its last value: a hundred messages of one conversation cost two heads, not two hundred.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fjall::{OwnedWriteBatch, PersistMode, Readable, Slice};

use super::{
    keys,
    recent::Recent,
    rows::{self, Stored},
    tables::{Tables, unavailable},
};
use crate::{
    model::{ConvId, DeviceId, Millis, Parties, Seq, UserId},
    store::{Appended, StoreError, StoreResult},
};

/// How many conversations and how many registers the writer remembers (twice that at most): some 10 MB.
const REMEMBERED: usize = 32_768;

/// A message on its way in, with its stored form and keys made by the caller's task: the writer is one thread.
pub(super) struct Incoming {
    /// Where its cid is found.
    pub(super) cid: Slice,
    /// The sender's read mark.
    pub(super) mark: Slice,
    /// The stored row.
    pub(super) row: Slice,
    /// When a node took it.
    pub(super) ts: Millis,
}

/// The end of a log.
#[derive(Debug, Clone, Copy)]
struct Top {
    seq: Seq,
    ts: Millis,
}

/// What the writer remembers from one commit to the next, so that a busy conversation costs no read.
pub(super) struct Memory {
    tops: Recent<ConvId, Seq>,
    marks: Recent<Slice, Seq>,
    cursors: Recent<Slice, Seq>,
}

impl Memory {
    /// Nothing remembered yet.
    pub(super) fn new() -> Self {
        Self { tops: Recent::new(REMEMBERED), marks: Recent::new(REMEMBERED), cursors: Recent::new(REMEMBERED) }
    }
}

/// A commit that is being gathered.
pub(super) struct Commit<'a> {
    tables: &'a Tables,
    memory: &'a mut Memory,
    batch: OwnedWriteBatch,
    /// The rows of this commit by their cids: the tables do not know them yet.
    fresh: HashMap<Slice, (Seq, Slice)>,
    tops: HashMap<ConvId, Top>,
    marks: BTreeMap<Slice, Seq>,
    cursors: BTreeMap<Slice, Seq>,
    devices: BTreeSet<Slice>,
    /// Bytes of rows gathered.
    bytes: usize,
}

impl<'a> Commit<'a> {
    /// An empty commit.
    pub(super) fn new(tables: &'a Tables, memory: &'a mut Memory) -> Self {
        Self {
            batch: tables.db.batch(),
            tables,
            memory,
            fresh: HashMap::new(),
            tops: HashMap::new(),
            marks: BTreeMap::new(),
            cursors: BTreeMap::new(),
            devices: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Bytes of message rows gathered so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives each message its seq, in order, or finds the one it already has.
    pub(super) fn append(&mut self, conv: &ConvId, messages: Vec<Incoming>) -> Vec<StoreResult<Appended>> {
        let before = match self.top(conv) {
            Ok(seq) => seq,
            Err(error) => return messages.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut top = Top { seq: before, ts: 0 };
        let answers = messages.into_iter().map(|message| self.append_one(conv, &mut top, message)).collect();
        if top.seq > before {
            self.tops.insert(conv.clone(), top);
        }
        answers
    }

    fn append_one(&mut self, conv: &ConvId, top: &mut Top, message: Incoming) -> StoreResult<Appended> {
        if let Some((seq, stored)) = self.stored(conv, &message.cid)? {
            return same_again(seq, &stored, &message.row);
        }
        let seq = top.seq + 1;
        // Before the row: a failed look-up must leave nothing of the message behind.
        self.raise_mark(message.mark, seq)?;
        self.bytes += message.row.len();
        self.batch.insert(&self.tables.messages, keys::message(conv, seq), message.row.clone());
        self.batch.insert(&self.tables.cids, message.cid.clone(), rows::encode_seq(seq));
        self.fresh.insert(message.cid, (seq, message.row));
        *top = Top { seq, ts: message.ts };
        Ok(Appended { seq, ts: message.ts, fresh: true })
    }

    fn top(&self, conv: &ConvId) -> StoreResult<Seq> {
        if let Some(top) = self.tops.get(conv) {
            return Ok(top.seq);
        }
        self.memory.tops.get(conv).map_or_else(|| self.tables.top(&self.tables.db.snapshot(), conv), Ok)
    }

    /// The message that has this cid already: in this commit or in the tables.
    fn stored(&self, conv: &ConvId, cid: &Slice) -> StoreResult<Option<(Seq, Slice)>> {
        if let Some((seq, row)) = self.fresh.get(cid) {
            return Ok(Some((*seq, row.clone())));
        }
        let Some(seq) = self.tables.cids.get(cid).map_err(unavailable)? else { return Ok(None) };
        let seq = rows::decode_seq(&seq)?;
        let row = self.tables.messages.get(keys::message(conv, seq)).map_err(unavailable)?;
        row.map(|row| Some((seq, row))).ok_or_else(rows::unreadable)
    }

    /// Raises a read mark; a smaller seq changes nothing.
    pub(super) fn raise_mark(&mut self, key: Slice, seq: Seq) -> StoreResult<()> {
        let known = self.marks.get(&key).copied().or_else(|| self.memory.marks.get(&key));
        if seq > known.map_or_else(|| self.tables.seq(&self.tables.marks, &key), Ok)? {
            self.marks.insert(key, seq);
        }
        Ok(())
    }

    /// Raises a device's cursor and with it the largest of all the user's devices; a smaller seq changes nothing.
    pub(super) fn raise_cursor(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        conv: &ConvId,
        seq: Seq,
    ) -> StoreResult<()> {
        self.raise_in_cursors(keys::cursor(user, device, conv), seq)?;
        self.raise_in_cursors(keys::delivered(user, conv), seq)
    }

    fn raise_in_cursors(&mut self, key: Slice, seq: Seq) -> StoreResult<()> {
        let known = self.cursors.get(&key).copied().or_else(|| self.memory.cursors.get(&key));
        if seq > known.map_or_else(|| self.tables.seq(&self.tables.cursors, &key), Ok)? {
            self.cursors.insert(key, seq);
        }
        Ok(())
    }

    /// Makes a device known and gives it cursors at the user's read marks, those of this commit included; false
    /// when it is known already. All of it is in one commit, so a crash leaves either both or neither.
    pub(super) fn register(&mut self, user: &UserId, device: &DeviceId) -> StoreResult<bool> {
        let key = keys::device(user, device);
        if self.devices.contains(&key) || self.tables.devices.contains_key(&key).map_err(unavailable)? {
            return Ok(false);
        }
        for (conv, seq) in self.marks_of(user)? {
            self.raise_cursor(user, device, &conv, seq)?;
        }
        self.devices.insert(key);
        Ok(true)
    }

    fn marks_of(&self, user: &UserId) -> StoreResult<BTreeMap<ConvId, Seq>> {
        let mut marks = BTreeMap::new();
        let range = keys::user_convs(user, None);
        for item in self.tables.db.snapshot().range(&self.tables.marks, range.clone()) {
            let (key, value) = item.into_inner().map_err(unavailable)?;
            marks.insert(keys::conv_of(&key).ok_or_else(rows::unreadable)?, rows::decode_seq(&value)?);
        }
        for (key, seq) in self.marks.range(range) {
            marks.insert(keys::conv_of(key).ok_or_else(rows::unreadable)?, *seq);
        }
        Ok(marks)
    }

    /// Writes it all at once. With a message or a device in it the commit is on the disk when this returns;
    /// cursors and read marks alone only reach the operating system, and the disk with the next such commit.
    pub(super) fn write(mut self) -> StoreResult<()> {
        let durable = !self.fresh.is_empty() || !self.devices.is_empty();
        for (conv, top) in self.tops {
            insert_heads(&mut self.batch, self.tables, &conv, top);
            self.memory.tops.put(conv, top.seq);
        }
        for (key, seq) in self.marks {
            self.batch.insert(&self.tables.marks, key.clone(), rows::encode_seq(seq));
            self.memory.marks.put(key, seq);
        }
        for (key, seq) in self.cursors {
            self.batch.insert(&self.tables.cursors, key.clone(), rows::encode_seq(seq));
            self.memory.cursors.put(key, seq);
        }
        for key in self.devices {
            self.batch.insert(&self.tables.devices, key, Slice::from([]));
        }
        // What is remembered is ahead of the tables until this succeeds. If it does not, nothing is written any
        // more, so nothing is read from the memory either.
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        self.batch.durability(Some(mode)).commit().map_err(unavailable)
    }
}

fn insert_heads(batch: &mut OwnedWriteBatch, tables: &Tables, conv: &ConvId, top: Top) {
    let Parties::Direct(one, other) = conv.parties() else { return };
    let head = rows::encode_head(top.seq, top.ts);
    batch.insert(&tables.inbox, keys::user_conv(&one, conv), head.clone());
    if one != other {
        batch.insert(&tables.inbox, keys::user_conv(&other, conv), head);
    }
}

/// The answer to a cid that is stored: the same place for the same body (I4). Its heads and marks were in the
/// same commit as its row, so there is nothing to raise (R3).
fn same_again(seq: Seq, stored: &Slice, retried: &Slice) -> StoreResult<Appended> {
    let first = Stored::read(stored)?;
    if first.body == Stored::read(retried)?.body {
        Ok(Appended { seq, ts: first.ts, fresh: false })
    } else {
        Err(StoreError::CidReused { seq })
    }
}
