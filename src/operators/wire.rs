//! What operators and nodes say to each other, in JSON. Made and read by [`super`] and by the commands.

use serde::{Deserialize, Serialize};

use crate::model::{ConvId, DeviceId, Millis, Seq, SessionId, UserId};

/// What a node said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered<T> {
    /// Which node.
    pub node: String,
    /// What.
    #[serde(flatten)]
    pub said: Said<T>,
}

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said<T> {
    /// The answer.
    Ok(T),
    /// Why not, in words.
    Error(String),
}

/// Done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// What a node does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It takes connections.
    Serving,
    /// Its end is announced: it still takes connections, and is not ready any more.
    Leaving,
    /// It takes none, and says goodbye to those it has.
    Draining,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of natter.
    pub version: String,
    /// What it does.
    pub state: State,
    /// Since its start.
    pub uptime_secs: u64,
    /// Sessions now.
    pub sessions: usize,
    /// Users with a session here.
    pub users: i64,
    /// Conversations of those sessions that are behind.
    pub behind: i64,
    /// Of the last seconds.
    pub recent: Recent,
    /// Each NATS cluster: whether there is a connection to it.
    pub nats: Vec<bool>,
    /// `ok`, or why the store takes no writes.
    pub store: String,
    /// Slots that it is home of; none where the store is one process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<i64>,
    /// Other nodes that it heard of lately, where nodes know each other.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// What happened in the last seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recent {
    /// In how many.
    pub secs: f64,
    /// Messages that this node had stored, a second.
    pub stored_per_sec: f64,
    /// Messages that were written to sockets, a second.
    pub handed_per_sec: f64,
    /// From a send's arrival until its answer.
    pub append: Quantiles,
    /// From then until it is handed to a socket, of those that came live; by the clocks of two nodes.
    pub delivery: Quantiles,
}

/// Times, in milliseconds; none where nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half took at most this.
    pub p50_ms: Option<f64>,
    /// All but one of a hundred did.
    pub p99_ms: Option<f64>,
}

/// Erases a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseAsk {
    /// Whom.
    pub user: UserId,
}

/// Ends sessions of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectAsk {
    /// Whose.
    pub user: UserId,
    /// Only this device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The close code: one of those that a node closes with and that says so to its client.
    pub code: u16,
}

/// Sessions that were ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// Which.
    pub sessions: Vec<SessionOf>,
}

/// A session, and its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOf {
    /// Which.
    pub session: SessionId,
    /// Of which device.
    pub device: DeviceId,
    /// Since when it is there.
    pub since: Millis,
}

/// Has a node drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainAsk {
    /// Where to tell of its end ([`crate::subject::Subject::told`]).
    pub token: String,
}

/// A node began to drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Sessions on it.
    pub sessions: usize,
    /// For so long it still takes connections.
    pub notice_secs: u64,
    /// Then it drains for so long at most.
    pub drain_secs: u64,
}

/// A node has drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// All that was under way came to its end in time.
    pub clean: bool,
}

/// Follows a user's messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceAsk {
    /// Whose.
    pub user: UserId,
    /// Where to tell ([`crate::subject::Subject::told`]).
    pub token: String,
    /// For so long, a minute at most; 0 ends it.
    pub lease_ms: u64,
}

/// About a message and a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyAsk {
    /// Of which conversation.
    pub conv: ConvId,
    /// Which message.
    pub seq: Seq,
    /// Whom it should have reached.
    pub user: UserId,
}
