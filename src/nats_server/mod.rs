//! A local nats-server: found or fetched, started, supervised, stopped. Used by `natter dev` and by the tests, which
//! always run on a real server.
//!
//! `find` looks for the program, `fetch` downloads it if there is none, `conf` writes the configurations of `nats/`
//! (they are embedded in the binary), `spawn` makes sure the server never outlives this process, `ready` checks whether
//! it answers, and `running` is the server itself.

mod conf;
mod fetch;
mod find;
mod ready;
mod running;
mod spawn;

use std::{io, path::PathBuf, time::Duration};

pub use self::{
    conf::{ClusterOptions, Passwords, ServerOptions, free_ports},
    fetch::cache_folder,
    find::{Found, find},
    running::NatsServer,
};

pub(crate) use self::spawn::spawn as spawn_bound;

/// The oldest server that is known to do what natter needs.
pub const OLDEST: (u32, u32) = (2, 10);

/// The version that is fetched if no server is found.
pub const FETCHED: &str = "2.15.1";

/// How to install a server by hand; ends every message that says none was found.
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
    /// None was found, and fetching one failed.
    #[error("no nats-server found, and fetching one failed: {0}; {HOW_TO_GET}")]
    Fetch(String),
    /// An operation on a file or a process failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system reported.
        source: io::Error,
    },
    /// It ended right after its start; usually because a port is taken.
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
