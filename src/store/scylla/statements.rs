//! Every statement the engine runs, prepared once. The only CQL outside the schema.

use scylla::{
    client::{execution_profile::ExecutionProfileHandle, session::Session},
    statement::{Consistency, prepared::PreparedStatement},
};

use super::ScyllaError;
use crate::model::MAX_SEQ;

/// Rows per page on the wire; the caller decides how many are read in all.
const PAGE_ROWS: i32 = 512;
/// Heads and cursors are small: those of almost every user come in one page.
const REGISTER_ROWS: i32 = 10_000;
/// Message rows carry bodies of up to 64 KiB, so fewer of them make a page.
const BODY_PAGE_ROWS: i32 = 64;

/// The prepared statements, by what they are for.
pub(super) struct Statements {
    /// A message row, at its home's epoch.
    pub(super) write_message: PreparedStatement,
    /// The cid row of a message, at the same.
    pub(super) write_cid: PreparedStatement,
    /// Message rows from a seq on with what chains them, oldest first: a recovery.
    pub(super) placed_from: PreparedStatement,
    /// Senders and cids up to a seq, newest first: a recovery.
    pub(super) cids_until: PreparedStatement,
    /// Message rows of a bucket after a seq, oldest first.
    pub(super) rows_after: PreparedStatement,
    /// Message rows of a bucket up to a seq, newest first.
    pub(super) rows_until: PreparedStatement,
    /// One message row.
    pub(super) row: PreparedStatement,
    /// Which messages of a bucket have these cids: cid rows by their keys.
    pub(super) cids: PreparedStatement,
    /// The counts of a bucket's last message row up to a seq.
    pub(super) counts_until: PreparedStatement,
    /// A head.
    pub(super) head: PreparedStatement,
    /// Raises a head.
    pub(super) raise_head: PreparedStatement,
    /// Raises a head and the same user's read mark to it.
    pub(super) raise_head_and_mark: PreparedStatement,
    /// Some of a user's inbox rows, whole.
    pub(super) details: PreparedStatement,
    /// How far a user's devices and the user have come in a conversation.
    pub(super) marks: PreparedStatement,
    /// The first of the two alone.
    pub(super) delivered: PreparedStatement,
    /// Raises it.
    pub(super) raise_delivered: PreparedStatement,
    /// Stamps a user's inbox.
    pub(super) stamp: PreparedStatement,
    /// The stamps of a user's inbox, its devices, and the number of the last login.
    pub(super) statics: PreparedStatement,
    /// Counts a login and enters its device.
    pub(super) enter: PreparedStatement,
    /// The last login has at least this number.
    pub(super) count_login: PreparedStatement,
    /// Removes a device's entry.
    pub(super) remove_device: PreparedStatement,
    /// Removes all cursors of a device's life.
    pub(super) forget_cursors: PreparedStatement,
    /// A user's heads in direct conversations after one of them.
    pub(super) inbox: PreparedStatement,
    /// One cursor.
    pub(super) cursor: PreparedStatement,
    /// A device's cursors in a range of conversations.
    pub(super) cursors_between: PreparedStatement,
    /// A device's cursors in rooms after one of them.
    pub(super) room_cursors: PreparedStatement,
    /// Some rooms, whole.
    pub(super) rooms: PreparedStatement,
    /// A room's head.
    pub(super) room_head: PreparedStatement,
    /// How a user stands to a room.
    pub(super) member: PreparedStatement,
    /// Whom a room has heard of, after a user.
    pub(super) members: PreparedStatement,
    /// The rooms that have heard of a user, after a room.
    pub(super) rooms_of: PreparedStatement,
    /// Writes a message row of a room.
    pub(super) write_room_message: PreparedStatement,
    /// What an event made.
    pub(super) made: PreparedStatement,
    /// A room with its head, as its home needs it.
    pub(super) room_at: PreparedStatement,
    /// Raises a room's head.
    pub(super) raise_room: PreparedStatement,
    /// Writes a room.
    pub(super) room_state: PreparedStatement,
    /// How these users stand to a room.
    pub(super) members_named: PreparedStatement,
    /// Writes how a user stands to a room, at the room.
    pub(super) write_member: PreparedStatement,
    /// The same, at the user.
    pub(super) write_room_of: PreparedStatement,
    /// What was made of a bucket's messages in a range: its fold rows.
    pub(super) folds: PreparedStatement,
    /// Writes a fold row.
    pub(super) write_fold: PreparedStatement,
    /// When the last mentions of a user after a seq expire.
    pub(super) mentions: PreparedStatement,
    /// Writes a mention.
    pub(super) write_mention: PreparedStatement,
    /// The last messages after a seq that expire.
    pub(super) expiring: PreparedStatement,
    /// Writes when a message expires.
    pub(super) write_expiring: PreparedStatement,
    /// Notes in an inbox row that something stands beside the log.
    pub(super) note: PreparedStatement,
    /// The same in a room's row.
    pub(super) note_room: PreparedStatement,
    /// Notes that a room has heard of a user.
    pub(super) in_rooms: PreparedStatement,
    /// Raises a cursor.
    pub(super) raise_cursor: PreparedStatement,
    /// One read mark.
    pub(super) read_mark: PreparedStatement,
    /// All read marks of a user in direct conversations.
    pub(super) read_marks: PreparedStatement,
    /// Raises a read mark.
    pub(super) raise_read_mark: PreparedStatement,
    /// The latest life of a node's name.
    pub(super) last_incarnation: PreparedStatement,
    /// Conditional: a new life.
    pub(super) add_incarnation: PreparedStatement,
    /// Whether an incarnation is fenced: a quorum read.
    pub(super) is_fenced: PreparedStatement,
    /// The same as a serial read.
    pub(super) is_fenced_serially: PreparedStatement,
    /// Conditional: fences an incarnation.
    pub(super) fence: PreparedStatement,
    /// Who is home of a slot: a serial read.
    pub(super) term: PreparedStatement,
    /// Conditional: the first home of a slot.
    pub(super) first_term: PreparedStatement,
    /// Conditional: the next home of a slot.
    pub(super) next_term: PreparedStatement,
    /// Leaves a note for a home.
    pub(super) want: PreparedStatement,
    /// The notes for a home.
    pub(super) wanted: PreparedStatement,
    /// Raises when a user was last seen.
    pub(super) see: PreparedStatement,
    /// When that was.
    pub(super) last_seen: PreparedStatement,
    /// How often a block was changed, and how it is: a serial read.
    pub(super) block_version: PreparedStatement,
    /// Conditional: the next version of a block.
    pub(super) set_block: PreparedStatement,
    /// The same with the other user.
    pub(super) copy_block: PreparedStatement,
    /// A user's blocks, both ways.
    pub(super) ties: PreparedStatement,
    /// One of them.
    pub(super) tie: PreparedStatement,
    /// A user's keys.
    pub(super) keys: PreparedStatement,
    /// Conditional: a key where there is none.
    pub(super) keep_key: PreparedStatement,
    /// Conditional: no key any more.
    pub(super) destroy_keys: PreparedStatement,
    /// A write that only shows whether writes are taken.
    pub(super) beat: PreparedStatement,
}

impl Statements {
    /// `lwt` is the profile of conditional statements; those in batches get it with their batch.
    pub(super) async fn prepare(
        session: &Session,
        ks: &str,
        lwt: &ExecutionProfileHandle,
    ) -> Result<Self, ScyllaError> {
        let idempotent = |cql: String, page: i32| async move {
            let mut statement = session.prepare(cql.as_str()).await.map_err(ScyllaError::statement(&cql))?;
            statement.set_is_idempotent(true);
            statement.set_page_size(page);
            Ok::<_, ScyllaError>(statement)
        };
        let plain = |cql: &str| idempotent(cql.replace("$", ks), PAGE_ROWS);
        let registers = |cql: &str| idempotent(cql.replace("$", ks), REGISTER_ROWS);
        let bodies = |cql: &str| idempotent(cql.replace("$", ks), BODY_PAGE_ROWS);
        let conditional = |cql: &str| {
            let cql = cql.replace('$', ks);
            async move {
                let mut statement = session.prepare(cql.as_str()).await.map_err(ScyllaError::statement(&cql))?;
                statement.set_execution_profile_handle(Some(lwt.clone()));
                Ok::<_, ScyllaError>(statement)
            }
        };
        let serial = |cql: &'static str| {
            let cql = cql.replace('$', ks);
            async move {
                let mut statement = session.prepare(cql.as_str()).await.map_err(ScyllaError::statement(&cql))?;
                statement.set_consistency(Consistency::LocalSerial);
                Ok::<_, ScyllaError>(statement)
            }
        };
        // As `pages::Columns` takes them.
        let row = "seq, row_kind, sender, service, cid, ts, body, count_first, count_second, refs";
        let in_bucket = "FROM $.messages WHERE conv = ? AND bucket = ?";
        let head = "user, conv, head, ts, sender, cid, row_kind, preview, head_first, head_second";
        let read = "read, read_first, read_second";
        let marks = |count: usize| vec!["?"; count].join(", ");
        Ok(Self {
            write_message: plain(
                "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, row_kind, sender, service, cid, ts, body, \
                 count_first, count_second, refs, w, pw) \
                 VALUES (?, ?, 0, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            write_cid: plain(
                "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, message_seq) \
                 VALUES (?, ?, 1, 0, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            write_room_message: plain(
                "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, row_kind, sender, service, cid, ts, body, \
                 count_first, count_second, refs, w, pw, event, made) \
                 VALUES (?, ?, 0, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            placed_from: bodies(&format!(
                "SELECT {row}, w, pw, event, made {in_bucket} AND kind = 0 AND seq >= ? LIMIT ?"
            ))
            .await?,
            made: plain(&format!("SELECT event, made {in_bucket} AND kind = 0 AND seq = ? AND cid_key = ''")).await?,
            cids_until: plain(&format!(
                "SELECT seq, sender, cid {in_bucket} AND kind = 0 AND seq <= ? ORDER BY kind DESC, seq DESC LIMIT ?"
            ))
            .await?,
            rows_after: bodies(&format!("SELECT {row} {in_bucket} AND kind = 0 AND seq > ? LIMIT ?")).await?,
            rows_until: bodies(&format!(
                "SELECT {row} {in_bucket} AND kind = 0 AND seq <= ? \
                 ORDER BY kind DESC, seq DESC LIMIT ?"
            ))
            .await?,
            row: plain(&format!("SELECT {row} {in_bucket} AND kind = 0 AND seq = ? AND cid_key = ''")).await?,
            cids: plain(&format!("SELECT cid_key, message_seq {in_bucket} AND kind = 1 AND seq = 0 AND cid_key IN ?"))
                .await?,
            counts_until: plain(&format!(
                "SELECT count_first, count_second {in_bucket} AND kind = 0 AND seq <= ? \
                 ORDER BY kind DESC, seq DESC LIMIT 1"
            ))
            .await?,
            head: plain("SELECT head, head_first, head_second FROM $.inbox WHERE user = ? AND conv = ?").await?,
            raise_head: plain(&format!("INSERT INTO $.inbox ({head}) VALUES ({}) USING TIMESTAMP ?", marks(10)))
                .await?,
            raise_head_and_mark: plain(&format!(
                "INSERT INTO $.inbox ({head}, {read}) VALUES ({}) USING TIMESTAMP ?",
                marks(13)
            ))
            .await?,
            details: plain(
                "SELECT conv, head, ts, sender, cid, row_kind, preview, head_first, head_second, read, read_first, \
                 read_second, noted FROM $.inbox WHERE user = ? AND conv IN ?",
            )
            .await?,
            marks: plain("SELECT delivered, read, noted FROM $.inbox WHERE user = ? AND conv = ?").await?,
            delivered: plain("SELECT delivered FROM $.inbox WHERE user = ? AND conv = ?").await?,
            raise_delivered: plain("INSERT INTO $.inbox (user, conv, delivered) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            stamp: plain("UPDATE $.inbox USING TIMESTAMP ? SET stamps[?] = ? WHERE user = ?").await?,
            statics: plain("SELECT stamps, logins, devices, in_rooms FROM $.inbox WHERE user = ? LIMIT 1").await?,
            enter: plain("UPDATE $.inbox USING TIMESTAMP ? SET logins = ?, devices[?] = ? WHERE user = ?").await?,
            count_login: plain("UPDATE $.inbox USING TIMESTAMP ? SET logins = ? WHERE user = ?").await?,
            remove_device: plain("DELETE devices[?] FROM $.inbox USING TIMESTAMP ? WHERE user = ?").await?,
            // Above every seq: nobody writes there any more, and what arrives late is to go.
            forget_cursors: plain(&format!(
                "DELETE FROM $.cursors USING TIMESTAMP {MAX_SEQ} WHERE user = ? AND device = ? AND life = ?"
            ))
            .await?,
            inbox: registers(
                "SELECT conv, head, ts FROM $.inbox WHERE user = ? AND conv > ? AND conv < 'room:' LIMIT ?",
            )
            .await?,
            cursor: plain("SELECT seq FROM $.cursors WHERE user = ? AND device = ? AND life = ? AND conv = ?").await?,
            cursors_between: registers(
                "SELECT conv, seq FROM $.cursors WHERE user = ? AND device = ? AND life = ? AND conv > ? AND conv <= ?",
            )
            .await?,
            // ';' follows ':': behind all rooms.
            room_cursors: registers(
                "SELECT conv, seq FROM $.cursors \
                 WHERE user = ? AND device = ? AND life = ? AND conv > ? AND conv < 'room;' LIMIT ?",
            )
            .await?,
            rooms: plain(
                "SELECT room, state, head, ts, sender, cid, row_kind, preview, head_count, event, noted \
                 FROM $.rooms WHERE room IN ?",
            )
            .await?,
            room_head: plain("SELECT head, head_count FROM $.rooms WHERE room = ?").await?,
            member: plain("SELECT member FROM $.members WHERE room = ? AND user = ?").await?,
            members: registers("SELECT user, member FROM $.members WHERE room = ? AND user > ? LIMIT ?").await?,
            rooms_of: registers(
                "SELECT conv, member FROM $.inbox WHERE user = ? AND conv > ? AND conv < 'room;' LIMIT ?",
            )
            .await?,
            room_at: plain("SELECT head, head_count, event, state FROM $.rooms WHERE room = ?").await?,
            raise_room: plain(&format!(
                "INSERT INTO $.rooms (room, head, ts, sender, cid, row_kind, preview, head_count, event) \
                 VALUES ({}) USING TIMESTAMP ?",
                marks(9)
            ))
            .await?,
            room_state: plain("INSERT INTO $.rooms (room, state) VALUES (?, ?) USING TIMESTAMP ?").await?,
            members_named: plain("SELECT user, member FROM $.members WHERE room = ? AND user IN ?").await?,
            write_member: plain("INSERT INTO $.members (room, user, member) VALUES (?, ?, ?) USING TIMESTAMP ?")
                .await?,
            write_room_of: plain("INSERT INTO $.inbox (user, conv, member) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            folds: plain(&format!(
                "SELECT seq, message_seq, row_kind, sender, service, cid, ts, body {in_bucket} \
                 AND kind = 2 AND seq >= ? AND seq <= ?"
            ))
            .await?,
            write_fold: plain(
                "INSERT INTO $.messages (conv, bucket, kind, seq, cid_key, message_seq, row_kind, sender, service, cid, ts, \
                 body) VALUES (?, ?, 2, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            mentions: plain(
                "SELECT expires FROM $.mentions WHERE user = ? AND conv = ? AND seq > ? ORDER BY seq DESC LIMIT ?",
            )
            .await?,
            write_mention: plain(
                "INSERT INTO $.mentions (user, conv, seq, expires) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            expiring: plain(
                "SELECT expires, sender FROM $.expiring WHERE conv = ? AND seq > ? ORDER BY seq DESC LIMIT ?",
            )
            .await?,
            write_expiring: plain(
                "INSERT INTO $.expiring (conv, seq, expires, sender) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            note: plain("INSERT INTO $.inbox (user, conv, noted) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            note_room: plain("INSERT INTO $.rooms (room, noted) VALUES (?, ?) USING TIMESTAMP ?").await?,
            in_rooms: plain("UPDATE $.inbox USING TIMESTAMP 1 SET in_rooms = true WHERE user = ?").await?,
            raise_cursor: plain(
                "INSERT INTO $.cursors (user, device, life, conv, seq) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            read_mark: plain("SELECT read FROM $.inbox WHERE user = ? AND conv = ?").await?,
            read_marks: plain("SELECT conv, read FROM $.inbox WHERE user = ? AND conv > '' AND conv < 'room:'").await?,
            raise_read_mark: plain(&format!(
                "INSERT INTO $.inbox (user, conv, {read}) VALUES ({}) USING TIMESTAMP ?",
                marks(5)
            ))
            .await?,
            last_incarnation: plain("SELECT incarnation FROM $.nodes WHERE name = ? LIMIT 1").await?,
            add_incarnation: conditional(
                "INSERT INTO $.nodes (name, incarnation, fenced) VALUES (?, ?, false) IF NOT EXISTS",
            )
            .await?,
            is_fenced: plain("SELECT fenced FROM $.nodes WHERE name = ? AND incarnation = ?").await?,
            is_fenced_serially: serial("SELECT fenced FROM $.nodes WHERE name = ? AND incarnation = ?").await?,
            fence: conditional("UPDATE $.nodes SET fenced = true WHERE name = ? AND incarnation = ? IF fenced = false")
                .await?,
            term: serial("SELECT epoch, home, incarnation FROM $.slots WHERE slot = ?").await?,
            first_term: conditional(
                "INSERT INTO $.slots (slot, epoch, home, incarnation) VALUES (?, 1, ?, ?) IF NOT EXISTS",
            )
            .await?,
            next_term: conditional(
                "UPDATE $.slots SET epoch = ?, home = ?, incarnation = ? WHERE slot = ? \
                 IF epoch = ? AND home = ? AND incarnation = ?",
            )
            .await?,
            want: plain("INSERT INTO $.wants (home, slot, node, incarnation) VALUES (?, ?, ?, ?) USING TTL 10").await?,
            wanted: plain("SELECT slot, node, incarnation FROM $.wants WHERE home = ?").await?,
            see: plain("INSERT INTO $.last_seen (user, at) VALUES (?, ?) USING TIMESTAMP ?").await?,
            last_seen: plain("SELECT at FROM $.last_seen WHERE user = ?").await?,
            block_version: serial("SELECT version, is_on FROM $.blocks WHERE user = ? AND other = ?").await?,
            // In a row that holds only the copy of the other side the version is null, as where there is no row.
            set_block: conditional(
                "UPDATE $.blocks SET version = ?, is_on = ? WHERE user = ? AND other = ? IF version = ?",
            )
            .await?,
            copy_block: plain(
                "UPDATE $.blocks USING TIMESTAMP ? SET by_version = ?, by_on = ? WHERE user = ? AND other = ?",
            )
            .await?,
            ties: registers("SELECT other, is_on, by_on FROM $.blocks WHERE user = ? AND other > ? LIMIT ?").await?,
            keys: plain("SELECT keys FROM $.keys WHERE user = ?").await?,
            keep_key: conditional("UPDATE $.keys SET keys[?] = ? WHERE user = ? IF keys[?] = null").await?,
            destroy_keys: conditional("DELETE FROM $.keys WHERE user = ? IF EXISTS").await?,
            tie: plain("SELECT is_on, by_on FROM $.blocks WHERE user = ? AND other = ?").await?,
            beat: plain("INSERT INTO $.health (slot, beat) VALUES (?, ?)").await?,
        })
    }
}
