//! How a session stands to one conversation, for operators who ask why a message has or has not arrived. Made by
//! [`super::Session::view`]; read by `operators`.

use serde::{Deserialize, Serialize};

use super::Tick;
use crate::model::Seq;

/// What a session knows of a conversation, and what keeps it from handing out more. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct View {
    /// Everything up to here was handed out or acknowledged; `None` where the session holds no position: it reads the
    /// cursor when it hears of something.
    pub position: Option<Seq>,
    /// Acknowledged by the client in this session, or by its cursor before.
    pub acked: Seq,
    /// The stored cursor as the session knows it, or where it began, if that is above it: what lies between was left to the
    /// history.
    #[serde(default)]
    pub stored: Seq,
    /// The highest seq that it heard of.
    pub heard: Seq,
    /// A room of which nothing is handed out: the user is out of it, as far as the session knows.
    pub closed: bool,
    /// It reads the log, or waits for its turn to.
    pub reading: bool,
    /// The store answered nothing so far, and it is asked again after this long.
    pub asks_again_in: Option<Tick>,
    /// Since when the next row is not there, though a head says so.
    pub row_missing_for: Option<Tick>,
    /// Handed out and not acknowledged, over all conversations.
    pub unacked: u64,
    /// The most that may be.
    pub window: u64,
    /// The socket takes no more bytes: they wait until the peer reads.
    pub is_full: bool,
    /// For how long the peer has taken nothing, though something waits for it.
    pub blocked_for: Option<Tick>,
    /// A comparison of heads is under way, or waits to be tried again.
    pub comparing: bool,
}
