//! natter: a chat mesh in which NATS interest is the registry and publishing is the forward.
//!
//! Follow one message from socket to socket: [`gateway`] (a task per socket) → [`session`] (what the frame means; no
//! I/O) → [`ops`] (what a request does) → [`store`] (durable, one seq) → [`routing`] (published, and put into the
//! mailboxes of the recipient's sessions) → [`session::delivery`] (in order) → [`gateway`]. ARCHITECTURE.md has every hop.
//!
//! Imports go down only, and a test holds them to it:
//!
//! ```text
//! cli → node → http, operators → gateway, services → ops → presence → routing → homes, blocks, events → bus, store,
//!     client → metrics, auth, descriptors → session, config, overload → protocol, subject
//!     → model, outgoing, proc, backoff, fnv
//! ```
//!
//! `async_nats` stands only under `bus/`, `scylla` only under `store/scylla`, `fjall` only under
//! `store/embedded`; `session` imports only `protocol` and `model`.

// Without the server there is nobody to call some of the model and the protocol, and links into the server lead nowhere.
// The whole build still tells of what is dead and of links that are broken.
#![cfg_attr(not(feature = "server"), allow(dead_code, rustdoc::broken_intra_doc_links))]

#[cfg(feature = "client")]
mod backoff;
pub mod model;
pub mod protocol;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod blocks;
#[cfg(feature = "server")]
pub mod bus;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod descriptors;
#[cfg(feature = "server")]
pub mod events;
#[cfg(feature = "server")]
mod fnv;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod homes;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod nats_server;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod operators;
#[cfg(feature = "server")]
pub mod ops;
#[cfg(feature = "server")]
mod outgoing;
#[cfg(feature = "server")]
pub mod overload;
#[cfg(feature = "server")]
pub mod presence;
#[cfg(feature = "server")]
mod proc;
#[cfg(feature = "server")]
pub mod routing;
#[cfg(feature = "server")]
pub mod sealing;
#[cfg(feature = "server")]
pub mod services;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod subject;
