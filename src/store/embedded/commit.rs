//! One commit: what was waiting, given its seqs and gathered into a single batch of the engine. Called by the
//! writer thread, the only place that writes.
//!
//! What changes more than once within a commit (a head, a cursor, a read mark) is collected here and goes into the
//! batch once, with its last value: a hundred messages of one conversation cost two heads, not two hundred.

use std::collections::{BTreeMap, HashMap};

use fjall::{OwnedWriteBatch, PersistMode, Slice};

use super::{
    beside::{Beside, Of, encode_fold},
    fault::Fault,
    keys,
    log_end::LogEnd,
    recent::Recent,
    room_end::{RoomDraft, RoomMemory},
    rows::{self, DeviceRow, StoredMessage},
    tables::{Tables, unavailable},
};
use crate::{
    model::{Audience, ConvId, Device, NewMessage, ReadMark, Refs, Seq, UserId, may_refer, room::Denied},
    store::{Appended, StoreError, StoreResult, audience_of},
};

/// How many ends of logs the writer remembers (twice that at most): some 15 MB. With 50,000 pairs at random half as many cost
/// 1.4 rows looked up for each message instead of one.
const LOGS: usize = 65_536;
/// How many cursors: some 5 MB.
const CURSORS: usize = 32_768;

/// A message on its way in. Its row holds what was counted up to it, so only the writer can make it.
pub(super) struct QueuedMessage {
    /// The key of its row in the table of cids, made by the caller's task: the writer is one thread.
    pub(super) cid: Slice,
    /// The message.
    pub(super) message: NewMessage,
}

/// What the writer remembers from one commit to the next, so that a busy conversation costs no read.
pub(super) struct Memory {
    logs: Recent<ConvId, LogEnd>,
    cursors: Recent<Slice, Seq>,
    pub(super) rooms: RoomMemory,
    /// Rows that were looked up because they are not remembered.
    pub(super) lookups: u64,
}

impl Memory {
    /// Nothing remembered yet.
    pub(super) fn new() -> Self {
        Self { logs: Recent::new(LOGS), cursors: Recent::new(CURSORS), rooms: RoomMemory::new(), lookups: 0 }
    }
}

/// A commit that is being gathered.
pub(super) struct Commit<'a> {
    pub(super) tables: &'a Tables,
    pub(super) memory: &'a mut Memory,
    pub(super) batch: OwnedWriteBatch,
    /// The folds of this commit: of those of one key the last counts.
    folds: BTreeMap<Slice, Slice>,
    /// The rows of this commit by their cids: they are not in the tables yet.
    fresh: HashMap<Slice, (Seq, Slice)>,
    logs: HashMap<ConvId, LogEnd>,
    /// What it changes in rooms.
    pub(super) draft: RoomDraft,
    cursors: BTreeMap<Slice, Seq>,
    /// Rows of devices; `None`: removed.
    pub(super) devices: BTreeMap<Slice, Option<DeviceRow>>,
    /// When users were last seen.
    pub(super) seen: BTreeMap<Slice, u64>,
    /// The sides of blocks.
    pub(super) ties: BTreeMap<Slice, u8>,
    /// In which slots keys are named; `None`: nowhere any more.
    pub(super) secrets: BTreeMap<Slice, Option<u64>>,
    /// A device became known, or unknown.
    pub(super) changes_devices: bool,
    /// Bytes of rows gathered.
    bytes: usize,
    /// The highest seq given out in this commit.
    highest: Seq,
    /// Whose heads may change.
    touched: Vec<UserId>,
}

impl<'a> Commit<'a> {
    /// An empty commit.
    pub(super) fn new(tables: &'a Tables, memory: &'a mut Memory) -> Self {
        Self {
            batch: tables.db.batch(),
            tables,
            memory,
            folds: BTreeMap::new(),
            fresh: HashMap::new(),
            touched: Vec::new(),
            logs: HashMap::new(),
            draft: RoomDraft::default(),
            cursors: BTreeMap::new(),
            devices: BTreeMap::new(),
            seen: BTreeMap::new(),
            ties: BTreeMap::new(),
            secrets: BTreeMap::new(),
            changes_devices: false,
            bytes: 0,
            highest: 0,
        }
    }

    /// Bytes of message rows gathered so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives each message its seq, in order, or finds the one it already has.
    pub(super) fn append(&mut self, conv: &ConvId, messages: Vec<QueuedMessage>) -> Vec<StoreResult<Appended>> {
        if let Some(room) = conv.as_room() {
            return self.append_to_room(&room, messages);
        }
        let opened = audience_of(conv).and_then(|audience| Ok((self.end_of(conv, &audience)?, audience)));
        let (mut end, audience) = match opened {
            Ok(opened) => opened,
            Err(error) => return vec![Err(error); messages.len()],
        };
        let append = |message| self.append_one(conv, &audience, &mut end, message);
        let answers = messages.into_iter().map(append).collect();
        self.keep(conv, end);
        self.touched.extend(audience.users().cloned());
        answers
    }

    fn append_one(
        &mut self,
        conv: &ConvId,
        audience: &Audience,
        end: &mut LogEnd,
        QueuedMessage { cid, message }: QueuedMessage,
    ) -> StoreResult<Appended> {
        if let Some((seq, stored)) = self.stored(conv, &cid)? {
            return answer_retry(seq, &stored, &message);
        }
        may_refer((message.kind, message.refs.as_deref()), (&message.sender, message.service), None)
            .map_err(StoreError::Denied)?;
        self.check_reply(conv, &message, |_| true)?;
        let (seq, counts) = end.next(conv, &message, self.tables.floor);
        let row = rows::encode(&message, counts)?;
        let beside = beside_of(conv, seq, &message, |user| Ok(audience.contains(user)))?;
        end.push(audience, &message, (seq, counts));
        self.place(conv, seq, cid, row, beside);
        Ok(Appended { seq, ts: message.ts, fresh: true, expires: message.expires() })
    }

    /// Puts a row in its place, with its cid and what stands beside the log.
    pub(super) fn place(&mut self, conv: &ConvId, seq: Seq, cid: Slice, row: Slice, beside: Option<Beside>) {
        if let Some(Beside { fold, mentions, expiring }) = beside {
            self.folds.extend(fold.map(|key| (key, encode_fold(seq, &row))));
            for (key, value) in mentions {
                self.batch.insert(&self.tables.mentions, key, value);
            }
            if let Some((key, value)) = expiring {
                self.batch.insert(&self.tables.expiring, key, value);
            }
        }
        self.highest = self.highest.max(seq);
        self.bytes += row.len();
        self.batch.insert(&self.tables.messages, keys::message(conv, seq), row.clone());
        self.batch.insert(&self.tables.cids, cid.clone(), rows::encode_seq(seq));
        self.fresh.insert(cid, (seq, row));
    }

    /// Whether there is a message that this one replies to, in the part of the log that its sender may read. What is in this
    /// commit nobody has been told of.
    pub(super) fn check_reply(
        &mut self,
        conv: &ConvId,
        message: &NewMessage,
        may_read: impl Fn(Seq) -> bool,
    ) -> StoreResult<()> {
        let Some(at) = message.refs.as_ref().and_then(|refs| refs.reply_to) else { return Ok(()) };
        self.memory.lookups += 1;
        let row = self.tables.messages.get(keys::message(conv, at)).map_err(unavailable)?;
        let is_message = row.map(|row| StoredMessage::split(&row).map(|row| row.kind.is_message())).transpose()?;
        if is_message == Some(true) && may_read(at) { Ok(()) } else { Err(StoreError::Denied(Denied::NoReply)) }
    }

    /// Whose heads this commit may change.
    pub(super) fn take_touched(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.touched)
    }

    /// Where a log ends: as this commit has it, as the writer remembers it, or as it is stored.
    fn end_of(&mut self, conv: &ConvId, audience: &Audience) -> StoreResult<LogEnd> {
        if let Some(known) = self.logs.get(conv).copied().or_else(|| self.memory.logs.get(conv)) {
            return Ok(known);
        }
        self.memory.lookups += audience.users().count() as u64;
        LogEnd::read(self.tables, conv, audience)
    }

    fn keep(&mut self, conv: &ConvId, end: LogEnd) {
        if end.is_changed() {
            self.logs.insert(conv.clone(), end);
        }
    }

    /// The message that has this cid already: in this commit or in the tables.
    pub(super) fn stored(&mut self, conv: &ConvId, cid: &Slice) -> StoreResult<Option<(Seq, Slice)>> {
        if let Some((seq, row)) = self.fresh.get(cid) {
            return Ok(Some((*seq, row.clone())));
        }
        self.memory.lookups += 1;
        let Some(seq) = self.tables.cids.get(cid).map_err(unavailable)? else { return Ok(None) };
        let seq = rows::decode_seq(&seq)?;
        let row = self.tables.messages.get(keys::message(conv, seq)).map_err(unavailable)?;
        row.map(|row| Some((seq, row))).ok_or_else(rows::unreadable)
    }

    /// Raises a read mark; a smaller seq changes nothing.
    pub(super) fn raise_read_mark(&mut self, user: &UserId, conv: &ConvId, mark: ReadMark) -> StoreResult<()> {
        if let Some(room) = conv.as_room() {
            return self.raise_room_mark(&room, user, mark);
        }
        let audience = audience_of(conv)?;
        let mut end = self.end_of(conv, &audience)?;
        end.raise_read_mark(&audience, user, mark);
        self.keep(conv, end);
        Ok(())
    }

    /// Raises a device's cursor and with it the largest of all the user's devices; a smaller seq changes nothing.
    pub(super) fn raise_cursor(&mut self, device: &Device, conv: &ConvId, seq: Seq) -> StoreResult<()> {
        self.raise_in_cursors(keys::cursor(device, conv), seq)?;
        self.raise_in_cursors(keys::delivered(&device.user, conv), seq)
    }

    fn raise_in_cursors(&mut self, key: Slice, seq: Seq) -> StoreResult<()> {
        let known = self.cursors.get(&key).copied().or_else(|| self.memory.cursors.get(&key));
        self.memory.lookups += u64::from(known.is_none());
        if seq > known.map_or_else(|| self.tables.cursor(&key), Ok)? {
            self.cursors.insert(key, seq);
        }
        Ok(())
    }

    /// Raises some of what a new device starts with. Not for a device that is known: another registration of it was
    /// faster, it has a session by now, and marks that were read since would take its cursors over messages that it was
    /// never handed.
    pub(super) fn start(&mut self, device: &Device, starts: Vec<(Slice, Seq)>) -> StoreResult<()> {
        if self.device(&keys::device(device))?.is_some() {
            return Ok(());
        }
        starts.into_iter().try_for_each(|(key, seq)| self.raise_in_cursors(key, seq))
    }

    /// Messages gathered that were not stored before.
    pub(super) fn messages(&self) -> usize {
        self.fresh.len()
    }

    /// Whether [`Self::write`] waits for the disk: with a message in it, a device that is new or retired, a block, or a key.
    pub(super) fn is_durable(&self) -> bool {
        !self.fresh.is_empty() || self.changes_devices || !self.ties.is_empty() || !self.secrets.is_empty()
    }

    /// Writes it all at once. With a message or a new device in it the commit is on the disk when this
    /// returns; cursors, read marks and logins alone only reach the operating system, and the disk with the next such commit.
    /// Returns how many rows that were.
    pub(super) fn write(mut self) -> Result<usize, Fault> {
        let mode = if self.is_durable() { PersistMode::SyncData } else { PersistMode::Buffer };
        self.write_people();
        self.write_secrets().map_err(fjall::Error::Io)?;
        for (conv, end) in self.logs {
            let audience = audience_of(&conv)?;
            for (key, row) in end.changed_rows(&conv, &audience) {
                self.batch.insert(&self.tables.inbox, key, row.encode());
            }
            self.memory.logs.put(conv, end.written());
        }
        self.draft.write(&mut self.batch, self.tables, &mut self.memory.rooms)?;
        for (key, value) in self.folds {
            self.batch.insert(&self.tables.folds, key, value);
        }
        for (key, seq) in self.cursors {
            self.batch.insert(&self.tables.cursors, key.clone(), rows::encode_seq(seq));
            self.memory.cursors.put(key, seq);
        }
        for (key, row) in self.devices {
            match row {
                Some(row) => self.batch.insert(&self.tables.devices, key, row.encode()),
                None => self.batch.remove(&self.tables.devices, key),
            }
        }
        self.tables.watermark.raise_ceiling(self.highest).map_err(fjall::Error::Io)?;
        // The memory is ahead of the tables until this succeeds. If it fails, the writer forgets it all.
        let rows = self.batch.len();
        self.tables.commit(self.batch, mode)?;
        Ok(rows)
    }
}

/// The rows beside the log for a message on its way in.
pub(super) fn beside_of(
    conv: &ConvId,
    seq: Seq,
    message: &NewMessage,
    hears: impl FnMut(&UserId) -> StoreResult<bool>,
) -> StoreResult<Option<Beside>> {
    let NewMessage { kind, sender, body, refs, .. } = message;
    let Some(refs) = refs else { return Ok(None) };
    Beside::of(&Of { conv, seq, kind: *kind, sender, body, refs }, hears).map(Some)
}

/// The answer to a message whose cid is stored: the same place for the same body (I4). Its heads and marks were in
/// the same commit as its row, so there is nothing to raise (R3).
pub(super) fn answer_retry(seq: Seq, stored: &Slice, retried: &NewMessage) -> StoreResult<Appended> {
    let first = StoredMessage::split(stored)?;
    let refs = first.refs()?;
    let is_same = first.kind == retried.kind && Refs::is_retry_of(retried.refs.as_deref(), refs.as_deref());
    if is_same && first.body == retried.body.as_msgpack().as_ref() {
        Ok(Appended { seq, ts: first.ts, fresh: false, expires: refs.and_then(|refs| refs.expires) })
    } else {
        Err(StoreError::CidReused { seq })
    }
}
