//! A nats-server of one's own: found or fetched, started, watched over, stopped. Used by `natter dev` and by the
//! tests, which run on nothing but the real server.
//!
//! `find` looks for the program, `fetch` gets it where there is none, `conf` writes the configurations of `nats/`
//! (they are in the binary), `spawn` makes sure the server never outlives this process, `ready` asks whether it
//! answers.

mod conf;
mod fetch;
mod find;
mod ready;
mod running;
mod spawn;

use std::{io, path::PathBuf, time::Duration};

pub use self::{
    conf::{ClusterOptions, Passwords, ServerOptions, free_ports},
    find::{Found, find},
    running::NatsServer,
};

/// The oldest server that is known to do what natter needs.
pub const OLDEST: (u32, u32) = (2, 10);

/// The server that is fetched where none is found.
pub const FETCHED: &str = "2.15.1";

/// How to get a server without natter's help; ends each message that says there is none.
const HOW_TO_GET: &str = "get one with `apt install nats-server`, `brew install nats-server` or \
                          `docker run -p 4222:4222 nats`, or set NATTER_NATS_SERVER to the program";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program that was named cannot be used.
    #[error("cannot use {path} as a nats-server: {reason}")]
    Unusable {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// None was found and it could not be fetched.
    #[error("no nats-server found, and fetching one failed: {0}; {HOW_TO_GET}")]
    Fetch(String),
    /// A file or a process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It started and ended at once: most often a port is taken.
    #[error("nats-server ended while starting ({status}); the end of {log}: {tail}")]
    Ended {
        /// How it ended.
        status: String,
        /// The log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// It runs but does not answer.
    #[error("nats-server does not answer after {0:?}; see {1}")]
    Silent(Duration, PathBuf),
}

impl ServerError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}
