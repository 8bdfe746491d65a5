//! Every statement the engine runs, prepared once. The only CQL outside the schema.

use scylla::{
    client::{execution_profile::ExecutionProfileHandle, session::Session},
    statement::{Consistency, prepared::PreparedStatement},
};

use super::ScyllaError;

/// Rows per page on the wire; the caller decides how many are read in all.
const PAGE_ROWS: i32 = 512;
/// Message rows carry bodies of up to 64 KiB, so fewer of them make a page.
const BODY_PAGE_ROWS: i32 = 64;

/// The prepared statements, by what they are for.
pub(super) struct Statements {
    /// Conditional: a message row.
    pub(super) insert_message: PreparedStatement,
    /// Conditional: the cid row of a message.
    pub(super) insert_cid: PreparedStatement,
    /// Message rows of a bucket after a seq, oldest first.
    pub(super) rows_after: PreparedStatement,
    /// Message rows of a bucket up to a seq, newest first.
    pub(super) rows_until: PreparedStatement,
    /// The same as `rows_after` without the bodies.
    pub(super) light_rows_after: PreparedStatement,
    /// One message row.
    pub(super) row: PreparedStatement,
    /// One message row's seq, read with LOCAL_SERIAL: makes all conditional writes before it visible to quorums.
    pub(super) row_serial: PreparedStatement,
    /// Which messages of a bucket have these cids: cid rows by their keys.
    pub(super) cids: PreparedStatement,
    /// A head.
    pub(super) head: PreparedStatement,
    /// Raises a head.
    pub(super) raise_head: PreparedStatement,
    /// A user's heads after a conversation.
    pub(super) inbox: PreparedStatement,
    /// One cursor.
    pub(super) cursor: PreparedStatement,
    /// A device's cursors in a range of conversations.
    pub(super) cursors_between: PreparedStatement,
    /// Raises a cursor.
    pub(super) raise_cursor: PreparedStatement,
    /// One read mark.
    pub(super) read_mark: PreparedStatement,
    /// All read marks of a user.
    pub(super) read_marks: PreparedStatement,
    /// Raises a read mark.
    pub(super) raise_read_mark: PreparedStatement,
    /// Whether a device is known.
    pub(super) device: PreparedStatement,
    /// Conditional: makes a device known.
    pub(super) add_device: PreparedStatement,
    /// The number of a device's last connection.
    pub(super) connection: PreparedStatement,
    /// Raises it.
    pub(super) raise_connection: PreparedStatement,
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
        let bodies = |cql: &str| idempotent(cql.replace("$", ks), BODY_PAGE_ROWS);
        let conditional =
            |cql: String| async move { session.prepare(cql.as_str()).await.map_err(ScyllaError::statement(&cql)) };
        let in_bucket = "FROM $.messages WHERE conv = ? AND bucket = ?";
        let mut row_serial =
            plain(&format!("SELECT seq {in_bucket} AND kind = 0 AND seq = ? AND cid_key = ''")).await?;
        row_serial.set_consistency(Consistency::LocalSerial);
        let add_device = format!("INSERT INTO {ks}.devices (user, device) VALUES (?, ?) IF NOT EXISTS");
        let mut add_device = conditional(add_device).await?;
        add_device.set_execution_profile_handle(Some(lwt.clone()));
        Ok(Self {
            insert_message: conditional(format!(
                "INSERT INTO {ks}.messages (conv, bucket, kind, seq, cid_key, sender, cid, ts, body) \
                 VALUES (?, ?, 0, ?, '', ?, ?, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            insert_cid: conditional(format!(
                "INSERT INTO {ks}.messages (conv, bucket, kind, seq, cid_key, message_seq) VALUES (?, ?, 1, 0, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            rows_after: bodies(&format!(
                "SELECT seq, sender, cid, ts, body {in_bucket} AND kind = 0 AND seq > ? LIMIT ?"
            ))
            .await?,
            rows_until: bodies(&format!(
                "SELECT seq, sender, cid, ts, body {in_bucket} AND kind = 0 AND seq <= ? \
                 ORDER BY kind DESC, seq DESC LIMIT ?"
            ))
            .await?,
            light_rows_after: plain(&format!(
                "SELECT seq, sender, cid, ts {in_bucket} AND kind = 0 AND seq > ? LIMIT ?"
            ))
            .await?,
            row: plain(&format!(
                "SELECT seq, sender, cid, ts, body {in_bucket} AND kind = 0 AND seq = ? AND cid_key = ''"
            ))
            .await?,
            row_serial,
            cids: plain(&format!("SELECT cid_key, message_seq {in_bucket} AND kind = 1 AND seq = 0 AND cid_key IN ?")).await?,
            head: plain("SELECT head FROM $.inbox WHERE user = ? AND conv = ?").await?,
            raise_head: plain("INSERT INTO $.inbox (user, conv, head, ts) VALUES (?, ?, ?, ?) USING TIMESTAMP ?")
                .await?,
            inbox: plain("SELECT conv, head, ts FROM $.inbox WHERE user = ? AND conv > ? LIMIT ?").await?,
            cursor: plain("SELECT seq FROM $.cursors WHERE user = ? AND device = ? AND conv = ?").await?,
            cursors_between: plain(
                "SELECT conv, seq FROM $.cursors WHERE user = ? AND device = ? AND conv > ? AND conv <= ?",
            )
            .await?,
            raise_cursor: plain(
                "INSERT INTO $.cursors (user, device, conv, seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            read_mark: plain("SELECT seq FROM $.reads WHERE user = ? AND conv = ?").await?,
            read_marks: plain("SELECT conv, seq FROM $.reads WHERE user = ?").await?,
            raise_read_mark: plain("INSERT INTO $.reads (user, conv, seq) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
            device: plain("SELECT device FROM $.devices WHERE user = ? AND device = ?").await?,
            add_device,
            connection: plain("SELECT number FROM $.connections WHERE user = ? AND device = ?").await?,
            raise_connection: plain(
                "INSERT INTO $.connections (user, device, number) VALUES (?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            beat: plain("INSERT INTO $.health (slot, beat) VALUES (?, ?)").await?,
        })
    }
}
