//! Whom a client believes on `wss://`: the system's authorities, or those of one file. Used by `connection`; made by
//! whoever connects.
//!
//! The files are read at the first secure connection and once only: a bench opens thousands of them. Without the
//! feature `tls` every such connection is refused, with the reason.

#[cfg(not(feature = "tls"))]
mod plain;
#[cfg(feature = "tls")]
mod secure;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio_tungstenite::Connector;

#[cfg(not(feature = "tls"))]
use self::plain as secure;
pub(super) use self::secure::{dial, why_failed};

/// The authorities whose certificates a client accepts. Clones share what was read.
#[derive(Clone, Default)]
pub struct Authorities(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// PEM; `None`: those of the system.
    file: Option<PathBuf>,
    read: OnceLock<Connector>,
}

impl Authorities {
    /// Those of the system: on Linux the package `ca-certificates`, or what `SSL_CERT_FILE` names.
    pub fn system() -> Self {
        Self::default()
    }

    /// Only those in this PEM file, read when it is needed.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { file: Some(path.into()), read: OnceLock::new() }))
    }

    /// What opens a connection: a plain one on `ws://`.
    ///
    /// # Errors
    /// In words: the file cannot be used, the system has no authorities, or TLS is not part of this build.
    pub(super) fn connector(&self, secure: bool) -> Result<Connector, String> {
        if !secure {
            return Ok(Connector::Plain);
        }
        if let Some(read) = self.0.read.get() {
            return Ok(read.clone());
        }
        // What failed is tried again with the next connection: the file may have been put there since.
        let read = secure::connector(self.0.file.as_deref())?;
        Ok(self.0.read.get_or_init(|| read).clone())
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authorities").field(&self.0.file).finish()
    }
}
