//! The Rust client: reconnects, resends, acknowledges, drops duplicates. Called by send, tail and the tests; the
//! bench uses only [`Connection`].
//!
//! [`Client`] is a handle on one background task (`driver`) that owns the socket. What the task does is decided without
//! I/O in `requests` (everything that waits for an answer) and `places` (what has arrived and what is to be
//! acknowledged); what arrives is handed over through `events`.
//!
//! What it promises:
//! - every message reaches [`Client::next`] once, in the order of its conversation and without holes, over any number of
//!   reconnects of this client (a new process starts where its device's acknowledgements ended);
//! - a send is answered exactly once, and is stored at most once however often it had to be sent again;
//! - nothing is queued without a bound: see [`ClientOptions::in_flight`] and `events`.
//!
//! What may grow in a later version is marked `#[non_exhaustive]`: options are made by [`ClientOptions::new`] and its methods, and
//! a `match` on an event or an error has an arm for the rest.
//!
//! `examples/` has programs to start from: `echo_bot.rs`, `bridge.rs`, `room_logger.rs`.

mod about;
mod attempts;
mod connection;
mod driver;
mod error;
mod events;
mod handle;
mod marks;
mod options;
mod people;
mod places;
mod pump;
mod refusals;
mod renewal;
mod requests;
mod rooms;
mod tls;
mod watched;

pub use connection::{Connection, Endpoint, Incoming};
pub use error::{ConnectError, RequestError};
pub use events::Event;
pub use handle::{Client, EventStream};
pub use options::{ClientOptions, Pace, TokenSource};
pub use requests::{ConversationsPage, HistoryPage, SentInfo};
pub use rooms::NewRoom;
pub use tls::Authorities;

#[cfg(test)]
mod tests;
