//! Checks all that a folder holds: the files, each block of each table, and whether logs, heads, cids and cursors fit
//! each other. Called by `natter verify`, and before a store goes on after a loss.
//!
//! What only [`super::inspect`] looks at is checked first; where that finds something the engine never opens the folder.

use std::{path::Path, sync::Arc};

use fjall::{Keyspace, Slice};
use serde::Serialize;

use self::rooms::RoomSeen;
use super::{
    EmbeddedOptions, OpenError,
    folder::Folder,
    inspect, keeper, keys, people,
    rows::{self, DeviceRow, InboxValue, StoredMessage},
    scan,
    tables::{Tables, unavailable},
};
use crate::{
    model::{Audience, ConvId, Counts, Row, Seq},
    store::{StoreError, StoreResult, audience_of},
};

mod beside;
mod rooms;

/// More problems than anybody reads: the rest is counted.
const NAMED: usize = 1_000;
/// Rows between two words about how far it is.
const SAY: u64 = 10_000;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the rows were looked at: only where the files are whole.
    pub rows_checked: bool,
    /// Messages that can be read.
    pub messages: u64,
    /// Rows of all tables that can be read.
    pub rows: u64,
    /// Places where a log goes on above a missing seq, after a loss that was accepted.
    pub accepted_holes: u64,
    /// How many things are wrong.
    pub problems_found: u64,
    /// What is wrong, the first thousand.
    pub problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, words: String) {
        self.problems_found += 1;
        if self.problems.len() < NAMED {
            self.problems.push(words);
        }
    }
}

/// Checks the store in a folder that no process has open. `progress` hears of each ten thousand rows.
///
/// # Errors
/// The folder is in use, foreign or of another format, or it cannot be read at all. Damage is no error: it is reported.
pub fn verify(dir: &Path, options: EmbeddedOptions, progress: impl FnMut(u64)) -> Result<Report, OpenError> {
    let failed = |what| move |source| OpenError::Io { dir: dir.into(), what, source };
    let folder = Arc::new(Folder::claim(dir, false)?);
    keeper::put_back(&folder).map_err(failed("put journals back"))?;
    let found = inspect::inspect(&folder).map_err(failed("look at the files"))?;
    let mut report = Report::default();
    if !found.problems.is_empty() {
        found.problems.into_iter().for_each(|problem| report.problem(problem));
        return Ok(report);
    }
    let tables = Tables::open(folder, options)?;
    report.rows_checked = true;
    let mut check = Check { tables: &tables, report, progress };
    if let Err(error) = check.all() {
        check.report.problem(error.to_string());
    }
    let report = check.report;
    tables.close_idle();
    Ok(report)
}

/// Whether each block of each table can be read.
pub(super) fn blocks_are_whole(tables: &Tables) -> StoreResult<bool> {
    for table in tables.all() {
        let lost = scan::each_row(table, |_, _| Ok(()))?;
        lost.files.iter().for_each(|file| tracing::warn!(%file, "a file of the store cannot be read in places"));
        if lost.blocks > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Check<'a, P> {
    tables: &'a Tables,
    report: Report,
    progress: P,
}

/// The log whose rows are being read, as far as they were.
struct LogSeen {
    conv: ConvId,
    last: Seq,
    counts: Counts,
    /// What the head of each user must be at least: a service has none for what it wrote itself.
    heads: [Seq; Audience::MAX],
    /// What the log makes of its room, where it is a room's.
    room: RoomSeen,
}

type Log = Option<LogSeen>;

impl LogSeen {
    fn begin(conv: ConvId) -> Self {
        Self { conv, last: 0, counts: Counts::default(), heads: [0; Audience::MAX], room: RoomSeen::default() }
    }

    /// The next row that is there; false when its counts are wrong. Behind a hole, whatever they say counts.
    fn take(&mut self, seq: Seq, row: &Row) -> bool {
        let expected = self.counts.with(row.kind, &self.conv, &row.sender);
        let fits = row.counts == expected || seq != self.last + 1;
        (self.last, self.counts) = (seq, row.counts);
        if let Some(audience) = Audience::of(&self.conv) {
            let others = audience.others(&row.sender).next().is_some();
            for (user, head) in audience.users().zip(&mut self.heads) {
                if !(row.service && others && *user == row.sender) {
                    *head = seq;
                }
            }
        }
        fits
    }
}

impl<P: FnMut(u64)> Check<'_, P> {
    fn all(&mut self) -> StoreResult<()> {
        let tables = self.tables;
        let mut log = None;
        self.each(&tables.messages, |check, key, value| check.message(key, value, &mut log))?;
        self.end_of(log)?;
        let mut cids = 0;
        self.each(&tables.cids, |_, _, value| {
            cids += 1;
            rows::decode_seq(value).map(drop)
        })?;
        if cids > self.report.messages {
            self.report.problem(format!("{} cids have no message", cids - self.report.messages));
        }
        self.each(&tables.inbox, |check, key, value| check.inbox(key, value))?;
        self.each(&tables.cursors, |_, _, value| rows::decode_seq(value).map(drop))?;
        self.each(&tables.devices, |_, _, value| DeviceRow::decode(value).map(drop))?;
        self.each(&tables.last_seen, |_, _, value| rows::decode_seq(value).map(drop))?;
        self.each(&tables.keys, |_, _, value| rows::decode_seq(value).map(drop))?;
        self.each(&tables.blocks, |check, key, value| check.tie(key, value))?;
        self.rooms()?;
        self.tables_beside()
    }

    /// Reads a table; a row that `row` cannot take is a problem like a block that cannot be read.
    fn each(
        &mut self,
        table: &Keyspace,
        mut row: impl FnMut(&mut Self, &[u8], &[u8]) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let lost = scan::each_row(table, |key: Slice, value: Slice| {
            self.report.rows += 1;
            if self.report.rows.is_multiple_of(SAY) {
                (self.progress)(self.report.rows);
            }
            match row(self, &key, &value) {
                Err(error @ StoreError::Damaged(_)) => self.report.problem(format!("{error}: {}", shown(&key))),
                other => other?,
            }
            Ok(())
        })?;
        lost.files.into_iter().for_each(|file| self.report.problem(file));
        Ok(())
    }

    fn message(&mut self, key: &[u8], value: &[u8], log: &mut Log) -> StoreResult<()> {
        let (conv, seq) = keys::message_of(key).ok_or_else(rows::unreadable)?;
        let message = StoredMessage::split(value)?;
        let row = message.to_row(seq)?;
        self.report.messages += 1;
        if log.as_ref().is_some_and(|log| log.conv != conv) {
            self.end_of(log.take())?;
        }
        let seen = log.get_or_insert_with(|| LogSeen::begin(conv.clone()));
        if seq != seen.last + 1 {
            seen.room.has_holes = true;
            self.hole(&conv, seen.last + 1, seq);
        }
        if let Some(problem) = seen.room.take(&conv, &row) {
            self.report.problem(problem);
        }
        if !seen.take(seq, &row) {
            self.report.problem(format!("{conv}: the counts of {seq} do not follow from those before"));
        }
        if let Some(seen) = log.as_ref() {
            self.beside(&row, value, seen)?;
        }
        let cid = message.cid_key(&conv).ok_or_else(rows::unreadable)?;
        let known =
            self.tables.cids.get(&cid).map_err(unavailable)?.map(|value| rows::decode_seq(&value)).transpose()?;
        if known != Some(seq) {
            self.report.problem(format!("{conv}: the cid of {seq} leads to {known:?}"));
        }
        Ok(())
    }

    fn hole(&mut self, conv: &ConvId, expected: Seq, seq: Seq) {
        if self.tables.floor > 0 {
            self.report.accepted_holes += 1;
        } else {
            self.report.problem(format!("{conv}: {expected} to {} are missing", seq - 1));
        }
    }

    /// A log has no more rows: each of its users has a head there.
    fn end_of(&mut self, log: Log) -> StoreResult<()> {
        let Some(LogSeen { conv, last: top, heads, room, .. }) = log else { return Ok(()) };
        if let Some(id) = conv.as_room() {
            return self.end_of_room(&id, top, room);
        }
        for (user, least) in audience_of(&conv)?.users().zip(heads) {
            let head = self.tables.inbox_row(user, &conv)?.head;
            if head < least || head > top {
                self.report.problem(format!("{conv}: the head of {user} is {head}, the log ends at {top}"));
            }
        }
        Ok(())
    }

    /// One side of a block, whose other side stands with the other user.
    fn tie(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()> {
        let (user, other) = keys::tie_pair(key).ok_or_else(rows::unreadable)?;
        let (sides, mirror) = (people::decode(value)?, people::sides(self.tables, &keys::tie(&other, &user))?);
        if people::mirrored(sides) != mirror {
            self.report.problem(format!("{user} and {other}: the two sides of their blocks differ"));
        }
        Ok(())
    }

    /// A head without a log, or in a room; the others were compared when the log was read.
    fn inbox(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()> {
        let row = InboxValue::decode(value)?;
        let conv = keys::conv_of(key).ok_or_else(rows::unreadable)?;
        if row.head > 0 && self.tables.top(&self.tables.db.snapshot(), &conv)? == 0 {
            self.report.problem(format!("{conv}: a head at {} and no message", row.head));
        }
        if row.head > 0 && conv.as_room().is_some() {
            self.report.problem(format!("{conv}: a user has a head at {}, which rooms have none of", row.head));
        }
        Ok(())
    }
}

/// A key as somebody can read it.
fn shown(key: &[u8]) -> String {
    key.get(4..).unwrap_or(key).escape_ascii().to_string()
}
