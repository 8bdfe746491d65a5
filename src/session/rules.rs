//! The numbers that every session of a node keeps to. Made by the node from its configuration.

use super::{Rate, Tick};

/// [`Rules::page_rows`] of a node: not a setting, but tests use smaller pages.
pub const PAGE_ROWS: u32 = 64;
/// Most conversations of one page of heads above cursors.
pub const GAPS: usize = 256;
/// [`Rules::behind`] of a node.
pub const BEHIND: usize = 64;
/// [`Rules::known`] of a node.
pub const KNOWN: usize = 256;
/// [`Rules::room_ack_coalesce`] of a node, in milliseconds.
pub const ROOM_ACK_COALESCE: Tick = 10_000;
/// [`Rules::warm`] of a node.
pub const WARM: usize = 32;
/// [`Rules::rest_after`] of a node, in milliseconds: cursors in rooms are written by then.
pub const REST_AFTER: Tick = 15_000;

/// What every session of a node keeps to. Times in milliseconds. The node makes them from its configuration, which
/// has the default of every setting.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Most messages handed out and not yet acknowledged.
    pub window: u64,
    /// Most bytes of a message body, for the `welcome`.
    pub body_bytes: usize,
    /// Requests a second and at once; `None`: not limited.
    pub requests: Option<Rate>,
    /// Most requests under way before the socket is read no further.
    pub pending: usize,
    /// Most rows of one fill page.
    pub page_rows: u32,
    /// Most conversations filled one after another; the others wait in the store, not in memory.
    pub behind: usize,
    /// A device that begins further behind than this, in rows of one conversation, is handed only so many, the newest.
    pub backlog: u64,
    /// Conversations whose position is kept although nothing is under way there.
    pub known: usize,
    /// Beyond so many conversations no more than the position is kept of those.
    pub warm: usize,
    /// The same where nothing is under way so long after something moved.
    pub rest_after: Tick,
    /// At least this long between two writes of one cursor.
    pub ack_coalesce: Tick,
    /// The same of a cursor in a room: what one message there makes many members write.
    pub room_ack_coalesce: Tick,
    /// From the fence to the second look at the heads.
    pub recheck: Tick,
    /// Between two slow sweeps; 0 switches them off.
    pub reconcile: Tick,
    /// The heads are compared about so often though the stamps say that nothing changed; 0: each time.
    pub full_reconcile: Tick,
    /// Unacknowledged for so long, a message counts as not delivered for push services.
    pub offline_after: Tick,
    /// A row that was heard of and is missing for so long, while the store answers, is a hole in the log (R18).
    pub hole_after: Tick,
    /// Between two pings.
    pub ping: Tick,
    /// Silence after which a peer is dead.
    pub idle: Tick,
    /// How long a peer may leave what was written to it unread.
    pub stall: Tick,
}
