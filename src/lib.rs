//! natter: a chat mesh in which NATS interest is the registry and publishing is the forward.
//!
//! Follow one message from socket to socket: [`gateway`] (a task per socket) → [`session`] (what the frame means; no
//! I/O) → [`ops`] (what a request does) → [`store`] (durable, one seq) → [`routing`] (published, and put into the
//! mailboxes of the recipient's sessions) → [`session::delivery`] (in order) → [`gateway`]. ARCHITECTURE.md has every hop.
//!
//! Imports go down only, and a test holds them to it:
//!
//! ```text
//! cli → node → http → gateway, services → ops → routing → bus, store, client → metrics, auth
//!     → session, config → protocol, subject → model
//! ```
//!
//! `async_nats` stands only under `bus/`, `scylla` only under `store/scylla`, `fjall` only under
//! `store/embedded`; `session` imports only `protocol` and `model`.

pub mod auth;
pub mod bus;
pub mod cli;
pub mod client;
pub mod config;
pub mod gateway;
pub mod http;
pub mod metrics;
pub mod model;
pub mod nats_server;
pub mod node;
pub mod ops;
pub mod protocol;
pub mod routing;
pub mod services;
pub mod session;
pub mod store;
pub mod subject;
