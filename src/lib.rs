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

// Without the server there is nobody to call some of the model and the protocol, and links into the server lead nowhere.
// The whole build still tells of what is dead and of links that are broken.
#![cfg_attr(not(feature = "server"), allow(dead_code, rustdoc::broken_intra_doc_links))]

pub mod model;
pub mod protocol;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod bus;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod nats_server;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod subject;
