//! natter: a chat mesh in which NATS interest is the registry and publishing is the forward.
//!
//! Follow one message from socket to socket through five files: `gateway/pump` (a task per socket) →
//! `session/joined` (what the message means; no I/O) → `store/appender` (durable, one seq) → `gateway/router`
//! (published, and `sent` answered) → `gateway/registry` (the recipient's sessions on a node).
//!
//! Arrows go down only, and a test holds them to it:
//!
//! ```text
//! cli → node → gateway, http → bus, store → session → protocol, subject → model
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
pub mod protocol;
pub mod session;
pub mod store;
pub mod subject;
